"""A folder is a list: what lies there is on it, and what is wrong there is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import PluginImportError
from shared.folders import collect_from_modules


def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **files: str) -> str:
    """A package of these modules that can be imported."""
    (tmp_path / name).mkdir()
    for module, text in {"__init__": "", **files}.items():
        (tmp_path / name / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_every_module_is_on_the_list_by_its_name_and_helpers_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = folder(tmp_path, monkeypatch, "planted_list", b="KIND = 2", a="KIND = 1", _c="KIND = 3")
    assert collect_from_modules(name, "KIND") == [1, 2]


@pytest.mark.parametrize(
    ("text", "why"),
    [("import a_module_that_is_not_there", "cannot be imported"), ("kind = 1", "defines no KIND")],
)
def test_a_module_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    name = folder(tmp_path, monkeypatch, f"planted_{'import' in text}", broken=text)
    with pytest.raises(PluginImportError, match=f"broken.py {why}"):
        collect_from_modules(name, "KIND")
