"""A named place where the process dies."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from shared.failpoints import FAILPOINT_VARIABLE

PROGRAM = "from shared.failpoints import failpoint\ntry:\n    failpoint('here')\nfinally:\n    print('alive')"


@pytest.mark.parametrize(
    ("named", "dies"),
    [
        (None, False),
        ("", False),
        ("there", False),
        ("her", False),
        ("here", True),
        ("there, here", True),
        ("here,", True),
    ],
)
def test_only_the_named_place_kills(named: str | None, dies: bool) -> None:
    env = {} if named is None else {FAILPOINT_VARIABLE: named}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == ((-signal.SIGKILL, "") if dies else (0, "alive\n")), (
        done.stderr
    )
