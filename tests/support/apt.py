"""Packages of the system that a test needs. As root on Debian they are installed, so that no test
is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess


def install_package(package: str) -> None:
    """Install it, where that can be done."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        wait = ["-o", "DPkg::Lock::Timeout=600"]
        subprocess.run(["apt-get", *wait, "update", "-q"], check=True)
        subprocess.run(
            ["apt-get", *wait, "install", "-y", "-q", "--no-install-recommends", package],
            check=True,
        )
