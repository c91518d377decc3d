"""`python -m deploy.local.exec_with_parent COMMAND...`: exec COMMAND so that it is terminated when
the supervisor ends."""

from __future__ import annotations

import os
import sys

from shared.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
