"""Replace this process by a module, in the environment of a running `make serve`."""

from __future__ import annotations

import json
import os
import sys

from deploy.local.layout import Layout


def exec_module(layout: Layout, *command: str) -> int:
    """Exec `python -m COMMAND`; returns 2 if nothing is served."""
    if not layout.env_file.exists():
        print(f"no system is running in {layout.home}: start it with `make serve`", file=sys.stderr)
        return 2
    os.environ |= json.loads(layout.env_file.read_text())
    os.execv(sys.executable, [sys.executable, "-m", *command])
