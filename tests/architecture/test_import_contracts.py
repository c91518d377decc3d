"""Every import contract in pyproject.toml catches what it forbids: one forbidden import is planted
for each."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT, copy_tree

CONTRACTS = [
    c["name"]
    for c in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
]

# contract -> forbidden imports, each (file, import); a new contract needs one
PLANTS = {
    "services and workers never meet": [
        ("services/planted.py", "import workers.context"),
        ("workers/planted.py", "from services import admin"),
    ],
    "shared never looks upward": [
        ("shared/jobs/planted.py", "from workers.context import JobContext")
    ],
    "services use the light part of shared only": [
        ("services/gateway/planted.py", "def later():\n    import torch"),
    ],
    "torch begins in shared.ml": [("shared/jobs/planted.py", "import numpy")],
    "the CLI uses the client, nothing else of ours": [
        ("services/cli/planted.py", "from shared import config")
    ],
    "the client knows only HTTP": [
        ("services/client/planted.py", "from shared.jobs import states")
    ],
}
CASES = [(name, *plant) for name, plants in PLANTS.items() for plant in plants]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with its configuration."""
    to = copy_tree(tmp_path_factory.mktemp("tree"))
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


def lint(tree: Path) -> tuple[int, str]:
    """`lint-imports` in that tree: exit code and output."""
    command = [
        str(Path(sys.executable).parent / "lint-imports"),
        "--no-cache",
        "--config",
        "pyproject.toml",
    ]
    done = subprocess.run(
        command,
        cwd=tree,
        env={"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_source_keeps_every_contract(tree: Path) -> None:
    code, said = lint(tree)
    assert code == 0, said
    assert all(f"{name} KEPT" in said for name in CONTRACTS), said


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_has_a_plant(name: str) -> None:
    assert PLANTS.get(name), (
        f"contract {name!r} has no forbidden import in PLANTS: nobody knows whether it catches one"
    )


def test_no_plant_is_for_a_contract_that_is_gone() -> None:
    assert set(PLANTS) == set(CONTRACTS)


@pytest.mark.parametrize(
    ("name", "path", "line"), CASES, ids=[f"{name}: {path}" for name, path, _ in CASES]
)
def test_a_forbidden_import_is_caught(tree: Path, name: str, path: str, line: str) -> None:
    planted = tree / path
    planted.write_text(f"{line}\n")
    try:
        code, said = lint(tree)
    finally:
        planted.unlink()
    assert code == 1, said
    assert f"{name} BROKEN" in said
    assert path.removesuffix(".py").replace("/", ".") in said
