"""Check of the environment variables before anything is started."""

from __future__ import annotations

import sys

from shared.config import load_settings
from shared.errors import InvalidRequest


def check_environment() -> bool:
    """Whether all variables `PALIMPSEST_*` are known and valid; prints what is wrong."""
    try:
        load_settings()
    except InvalidRequest as error:
        print(f"palimpsest: {error}", file=sys.stderr)
        return False
    return True
