"""`palimpsest-admin`, the operator's command: one file per command, listed in `command_line.py`."""

from services.admin.command_line import main

__all__ = ["main"]
