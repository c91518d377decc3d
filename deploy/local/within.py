"""Become a program of a system that `make serve` runs: with its URLs, its token, its threads."""

from __future__ import annotations

import json
import os
import sys

from deploy.local.layout import Layout


def become(layout: Layout, *command: str) -> int:
    """Does not return, but with 2 when there is no system."""
    if not layout.env.exists():
        print(f"nothing is served from {layout.home}: start it with `make serve`", file=sys.stderr)
        return 2
    os.environ |= json.loads(layout.env.read_text())
    os.execv(sys.executable, [sys.executable, "-m", *command])
