"""Stages run on the tiny data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_chain import write_data


@pytest.fixture(autouse=True)
def data_root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(folder))
    write_data(folder)
    return folder
