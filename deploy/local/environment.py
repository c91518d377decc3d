"""Look at the environment before anything is started in it."""

from __future__ import annotations

import sys

from shared.config import load_settings
from shared.errors import InvalidRequest


def check_environment() -> bool:
    """Whether all variables `PALIMPSEST_*` are known and their values right; says what is wrong."""
    try:
        load_settings()
    except InvalidRequest as error:
        print(f"palimpsest: {error}", file=sys.stderr)
        return False
    return True
