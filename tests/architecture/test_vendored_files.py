"""Files of others that are kept here: each is in a table with its package, version, licence and digest,
and is what the package has."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.source_tree import ROOT

FOLDERS = ("services/gateway/console/static/vendor", "tests/support/vendor")
TABLE = "vendor.json"


def read_table(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / TABLE).read_text()))


def find_faults(folder: Path) -> list[str]:
    """Files that are not in the table, not there, or of another digest; licences without a text."""
    listed: dict[str, str] = {}
    faults = []
    for package in read_table(folder):
        listed |= package["files"]
        if not package["licence"] or package["licence_file"] not in package["files"]:
            faults.append(f"{package['package']}: no licence")
    present = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != TABLE
    }
    return faults + [
        f"{name}: not as in the table"
        for name in sorted({*listed, *present})
        if listed.get(name) != present.get(name)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_vendored_file_is_in_the_table(folder: str) -> None:
    assert read_table(ROOT / folder)
    assert find_faults(ROOT / folder) == []


def test_a_changed_and_an_unknown_file_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("a")
    (tmp_path / "b.js").write_text("b")
    package = {"package": "a", "version": "1", "licence": "", "licence_file": "LICENSE"}
    (tmp_path / TABLE).write_text(json.dumps([{**package, "files": {"a.js": "0" * 64}}]))
    assert find_faults(tmp_path) == [
        "a: no licence",
        "a.js: not as in the table",
        "b.js: not as in the table",
    ]
