"""`python -m deploy.local.tied COMMAND...`: become COMMAND, and end when the supervisor does, however it ends."""

from __future__ import annotations

import os
import sys

from shared.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
