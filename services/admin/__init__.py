"""`palimpsest-admin`, the operator's command: one file per command, listed in `main.py`."""

from services.admin.command_line import main

__all__ = ["main"]
