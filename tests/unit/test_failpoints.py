"""shared.failpoints."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.failpoints import VARIABLE, failpoint


def test_without_the_variable_nothing_happens(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    failpoint("anywhere")
    monkeypatch.setenv(VARIABLE, "somewhere.else,another.place")
    failpoint("anywhere")
    failpoint("somewhere")


@pytest.mark.parametrize("names", ["here", "there, here", "here,"])
def test_the_named_place_kills_at_once(names):
    script = "from shared.failpoints import failpoint\ntry:\n    failpoint('here')\nfinally:\n    print('still here')"
    done = subprocess.run(
        [sys.executable, "-c", script], env={VARIABLE: names}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
