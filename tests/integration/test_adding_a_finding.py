"""A kind of finding is at most three files and a section of the page: those of
docs/adding/finding.md, dropped into a copy of the tree, are planned, scored and reported."""

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

from shared.reporting.models import Report
from tests.support.local_serve import make_clean_env
from tests.support.source_tree import ROOT, copy_tree
from tests.support.tiny_chain import DATA, MODEL, write_data
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/adding/finding.md"
AUDIT = {
    "dataset": DATA,
    "model": MODEL,
    "train": {"size": 12},
    "forget": {"deletions": 8},
    "unlearning": [{"name": "gradient_ascent", "params": {"lr": 0.01}}],
    "attacks": ["brightness", "label_inference"],
}
RUN = """
import json, sys
from shared.config import Settings
from shared.data_files import DataRoot
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from workers.catalog import load_catalog
from workers.local import run_stage

made = {}
spec, data_root = AuditSpec.model_validate(json.loads(sys.argv[1])), DataRoot(Settings().data_root)
for job in plan(spec, load_catalog(), data_root.identify_files):
    if job.stage == "selftest":
        continue
    given = {i.role: made[i.parent][i.parent_role or i.role] for i in job.inputs if i.parent in made}
    made[job.request_key] = run_stage(job.stage, given, job.method, seed=job.seed, **job.params)
    if job.method == "brightness":
        print(json.dumps(sorted(made[job.request_key])))
report = made[job.request_key]
print(json.dumps([report["REPORT"].data.decode(), report["REPORT_HTML"].data.decode()]))
"""


def files() -> dict[str, str]:
    """Path -> text of the files on the page."""
    blocks = re.findall(
        r"^`([\w/]+\.(?:py|html))`:\n\n```(?:python|html)\n(.*?)^```$",
        PAGE.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    return dict(blocks)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"), files())


@pytest.fixture(scope="module")
def outcome(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, Any], str]:
    """The roles that the attack made, report.json, and the page."""
    data = tmp_path_factory.mktemp("data")
    write_data(data)
    env = {**make_clean_env(), "PYTHONPATH": str(tree), "PALIMPSEST_DATA_ROOT": str(data)}
    command = [sys.executable, "-c", RUN, json.dumps(AUDIT)]
    done = subprocess.run(
        command, cwd=tree, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    roles, made = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    return roles, json.loads(made[0]), " ".join(made[1].split())


def test_a_kind_is_three_files_and_a_section() -> None:
    paths = list(files())
    assert len([path for path in paths if path.endswith(".py")]) == 3
    assert len([path for path in paths if path.endswith(".html")]) == 1
    assert not any((ROOT / path).exists() for path in paths)


def test_its_artifact_is_scored_beside_its_baseline(
    outcome: tuple[list[str], dict[str, Any], str],
) -> None:
    roles, report, _ = outcome
    assert roles == ["ATTRIBUTES"]
    row = next(row for row in report["rows"] if row["attack"]["method"] == "brightness")
    score = row["metrics"]["attribute_accuracy"]
    assert (score["n"], score["baseline_name"]) == (8, "majority")
    assert score["mean"] == 1.0  # one step of ascent shows the sample itself
    assert row["threat_model"]["observes"] == ["ORIGINAL", "UNLEARNED"]
    assert Report.model_validate(report).rows


def test_its_rule_decides_and_its_words_are_on_the_page(
    outcome: tuple[list[str], dict[str, Any], str],
) -> None:
    _, report, page = outcome
    row, other = report["rows"]
    assert row["finding"]["outcome"] == "leak"
    assert row["finding"]["reason"].startswith("Accuracy is above its baseline: accuracy 1.00")
    assert other["attack"]["method"] == "label_inference"
    assert any(
        "brightness leaks (attributes 1.00" in sentence for sentence in report["verdict"]["details"]
    )
    assert "An attribute attack leaks if it is correct more often than" in page
    assert '<a href="#attributes">Attributes</a>' in page
    section = page[page.index('<h2 id="attributes">') : page.index('<h2 id="table">')]
    assert "gradient_ascent, no defense, seed 0: 1.00" in section
    assert '<td class="name">attribute accuracy' in page
    assert "majority guess" in page
    # the more severe kind comes first
    assert page.index('id="labels"') < page.index('id="attributes"')


def test_the_style_of_the_files_is_the_projects(tree: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tree)
    paths = [path for path in files() if path.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *paths],
            cwd=tree,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
