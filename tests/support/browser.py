"""A real Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Path of the browser; as root on Debian it is installed where there is none, so that no test is skipped."""
    if not _found() and os.geteuid() == 0 and shutil.which("apt-get"):
        wait = ["-o", "DPkg::Lock::Timeout=600"]
        subprocess.run(["apt-get", *wait, "update", "-q"], check=True)
        subprocess.run(["apt-get", *wait, "install", "-y", "-q", "--no-install-recommends", "chromium"], check=True)
    path = _found()
    assert path, "these tests need Chromium: install it with the system's packages (Debian: apt-get install chromium)"
    return path


def _found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)
