"""Fixtures of the tests of data sets."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which data sets are looked for."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(folder))
    return folder
