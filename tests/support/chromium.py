"""A real Chromium."""

from __future__ import annotations

import shutil

from tests.support.apt import install_package

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """Path of the browser."""
    if not _search_path():
        install_package("chromium")
    path = _search_path()
    assert path, (
        "these tests need Chromium: install it with the system's packages (Debian: apt-get install chromium)"
    )
    return path


def _search_path() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)
