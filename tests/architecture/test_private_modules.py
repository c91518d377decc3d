"""A module whose name starts with `_` is its folder's own: others import what the folder makes
public."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

OURS = ("services", "workers", "shared", "deploy")


def find_imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of all that import statements name, anywhere in a module of `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def find_foreign(root: Path, folders: Iterable[str]) -> Iterator[str]:
    """Where a file names something private of a package that it is not in."""
    for path in (path for folder in folders for path in sorted((root / folder).rglob("*.py"))):
        package = ".".join(path.relative_to(root).parts[:-1])
        for line, name in find_imported(ast.parse(path.read_text()), package):
            parts = name.split(".")
            private = [
                n
                for n, part in enumerate(parts)
                if part.startswith("_") and not part.startswith("__")
            ]
            owner = ".".join(parts[: private[0]]) if private else ""
            if parts[0] in folders and private and not f"{package}.".startswith(f"{owner}."):
                yield f"{path.relative_to(root)}:{line}: {name}"


def test_no_module_imports_a_private_one_of_another_folder() -> None:
    assert len(list((ROOT / "shared").rglob("_*.py"))) > 20
    assert list(find_foreign(ROOT, OURS)) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("from shared.room._own import Thing", True),
        ("from shared.room import _own", True),
        ("import shared.room._own", True),
        ("def late():\n    from shared.room._own import Thing", True),
        ("from ..room._own import Thing", True),
        ("from shared.room.api import Thing", False),
        ("from shared.other._own import Thing", False),
        ("from ._own import Thing", False),
        ("from shared._above import Thing", False),
        ("from __future__ import annotations", False),
        ("from elsewhere._private import Thing", False),
    ],
)
def test_one_that_does_is_found(tmp_path: Path, statement: str, found: bool) -> None:
    (tmp_path / "shared/other").mkdir(parents=True)
    (tmp_path / "shared/other/file.py").write_text(statement)
    assert bool(list(find_foreign(tmp_path, ["shared"]))) is found


if __name__ == "__main__":  # the list, one place a line
    print("\n".join(find_foreign(ROOT, OURS)))  # noqa: T201 - what this command is for
