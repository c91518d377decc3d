"""Named places where a test makes the process die, as a power cut would.

`PALIMPSEST_FAILPOINT` holds the names, with commas between; without it `failpoint()` does nothing.
"""

from __future__ import annotations

import os
import signal

FAILPOINT_VARIABLE = "PALIMPSEST_FAILPOINT"


def failpoint(name: str) -> None:
    """Kill this process here, with SIGKILL, if the environment names this place."""
    names = os.environ.get(FAILPOINT_VARIABLE)
    if names and name in (n.strip() for n in names.split(",")):
        os.kill(os.getpid(), signal.SIGKILL)
