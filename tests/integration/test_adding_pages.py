"""The files of docs/adding work as they stand: dropped in, they hold the contracts and make an
audit together."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_serve import make_clean_env
from tests.support.source_tree import ROOT, copy_tree
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.slow

PAGES = ROOT / "docs/adding"
AUDIT = """
import json
from workers.local import run_stage

choices = {"dataset": {"name": "gratings"}, "model": {"name": "softmax_regression"}}
made = run_stage("pretrain", {}, **choices)
made |= run_stage("train", made, dataset=choices["dataset"], size=16)
made |= run_stage("unlearn", made, "last_layer", deletions=4, epochs=1)
distance = json.loads(run_stage("distance", made)["METRICS"].data)
made |= run_stage("defend", made, DEFENSE)
seen = {**made, "UNLEARNED": made["RELEASED"]}
named = run_stage("attack", seen, "loudest_row")
rebuilt = run_stage("attack", seen, "feature_recovery", iterations=3)
labels = json.loads(run_stage("evaluate", seen | named)["EVALUATION"].data)
images = json.loads(run_stage("evaluate", seen | rebuilt)["EVALUATION"].data)
print(json.dumps({"distance": distance, "labels": labels, "images": images}))
"""


def files() -> dict[str, str]:
    """Path -> text of the file that each page ends in."""
    found = {}
    for page in sorted(PAGES.glob("*.md")):
        # a kind of finding is several files: a test of its own
        if page.name not in ("README.md", "finding.md"):
            blocks = re.findall(
                r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$",
                page.read_text(),
                re.DOTALL | re.MULTILINE,
            )
            assert len(blocks) == 1, f"{page.name} must end in one file"
            found[blocks[0][0]] = blocks[0][1]
    return found


def name_of(folder: str) -> str:
    """The plugin that the page of this folder adds."""
    text = next(text for path, text in files().items() if path.startswith(folder + "/"))
    return re.findall(r'@register\(\s*"(\w+)"', text)[0]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"), files())


def run(tree: Path, *command: str) -> str:
    env = {**make_clean_env(), "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kind_has_a_page_and_every_page_is_of_a_kind() -> None:
    kinds = [
        file.parent.name
        for file in (ROOT / "shared/ml").glob("*/__init__.py")
        if "Registry(" in file.read_text()
    ]
    folders = {f"shared/ml/{kind}" for kind in kinds} | {"workers/stages"}
    assert {os.path.dirname(path) for path in files()} == folders
    linked = re.findall(r"\((\w+\.md)\)", (PAGES / "README.md").read_text())
    assert sorted(linked) == sorted(
        page.name for page in PAGES.glob("*.md") if page.name != "README.md"
    )


def test_their_style_is_the_projects(tree: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tree)
    run(tree, "-m", "ruff", "check", *files())
    run(tree, "-m", "ruff", "format", "--check", *files())


def test_they_hold_the_contracts(tree: Path) -> None:
    shutil.copytree(
        ROOT / "tests",
        tree / "tests",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    names = [name_of(os.path.dirname(path)) for path in files()]
    output = run(
        tree,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/contract/test_ml_plugins.py",
        "-k",
        " or ".join(names),
    )
    assert "passed" in output


def test_an_audit_with_all_of_them(tree: Path) -> None:
    script = AUDIT.replace("DEFENSE", repr(name_of("shared/ml/defenses")))
    found: dict[str, Any] = json.loads(run(tree, "-c", script).splitlines()[-1])
    assert 0 < found["distance"]["mean"] < found["distance"]["largest"]
    assert found["labels"]["attack"]["method"] == "loudest_row"
    assert found["labels"]["metrics"]["label_accuracy"]["n"] == 4
    assert 0 < found["images"]["metrics"]["mae"]["mean"] < 1
    assert found["images"]["defense"]["method"] == name_of("shared/ml/defenses")
