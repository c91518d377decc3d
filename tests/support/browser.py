"""A real Chromium."""

from __future__ import annotations

import shutil

from tests.support.debian import install

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Path of the browser."""
    if not _found():
        install("chromium")
    path = _found()
    assert path, "these tests need Chromium: install it with the system's packages (Debian: apt-get install chromium)"
    return path


def _found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)
