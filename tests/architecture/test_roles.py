"""shared/roles.py is the only list of roles: nothing of ours spells one, and the glossary says what
it says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.roles import Role
from tests.support.source_tree import ROOT

OURS = ("services", "workers", "shared", "deploy")
LIST = ROOT / "shared/roles.py"
MIGRATIONS = ROOT / "shared/jobs/migrations/versions"  # they name what is stored
SPELT = re.compile(rf"(inputs\.)?({'|'.join(Role)})")


def find_spelt(path: Path) -> Iterator[str]:
    """Where a string of the code is a role's name, or the path of an input of that role."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and SPELT.fullmatch(node.value)
        ):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"


def test_a_role_is_spelt_in_the_list_alone() -> None:
    files = [
        path
        for folder in OURS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != LIST and path.parent != MIGRATIONS
    ]
    assert len(files) > 200
    assert [place for path in files for place in find_spelt(path)] == []


def test_a_spelt_role_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "stage.py"
    file.write_text(
        '"""BASE and FEATURE_NETWORK."""\nA = "BASE"\nB = {"FEATURE_NETWORK": f"inputs.{A}"}\n'
        'C = "inputs.LABELS"\nD = "BASES"\n'
    )
    assert {place.rpartition(":")[2].strip() for place in find_spelt(file)} == {
        "BASE",
        "FEATURE_NETWORK",
        "inputs.LABELS",
    }


def write_table() -> list[str]:
    """The glossary's rows."""
    return [
        f"| {role} | {role.artifact_format} | {role.visibility} | {role.summary} |" for role in Role
    ]


def test_the_glossary_has_the_list() -> None:
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    start = lines.index("| role | format | who may see it | what it is |")
    end = next(n for n, line in enumerate(lines[start:], start) if not line)
    assert lines[start + 2 : end] == write_table(), "\n".join(write_table())
