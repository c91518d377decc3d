"""The command line, the walkthrough and the client's page on the real stages: one worker, the
smallest audit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.commands import submit
from tests.support.cli import Runner, make_runner
from tests.support.doc_blocks import list_blocks, split_commands
from tests.support.source_tree import ROOT
from tests.support.system import System

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/python-client.md"
NOTEBOOK = ROOT / "examples/walkthrough.ipynb"
STAGES = (
    "pretrain,train,unlearn,defend,retraining,probe,attack,shadow,evaluate,forgetting,report,"
    "selftest,inspect_dataset"
)
# What the walkthrough does, in seconds instead of minutes.
QUICK: dict[str, Any] = {
    "model": {"name": "mlp", "params": {"hidden": 8}},
    "pretrain": {"epochs": 1, "batch_size": 128},
    "train": {"size": 8},
    "forget": {"deletions": 2},
    "attacks": [{"name": "feature_recovery", "params": {"iterations": 5}}],
    "evaluate": {"decoys": 10, "test_samples": 50},
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    system = System(tmp_path_factory.mktemp("system"), ROOT)
    try:
        found = system.start_gateway()
        system.start_worker(STAGES, name="all")
        yield found
    finally:
        system.close()


@pytest.fixture
def run(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Runner:
    monkeypatch.chdir(tmp_path)
    return make_runner(url, monkeypatch, capfdbinary)


def cells() -> list[dict[str, Any]]:
    return [
        cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
    ]


def test_the_walkthrough_runs_cell_by_cell(run, monkeypatch, tmp_path, capfdbinary):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    pictures: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: pictures.append(len(plt.gcf().axes)))
    names: dict[str, Any] = {}
    for cell in cells():
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}:{cell['id']}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names["spec"] |= QUICK
    out = capfdbinary.readouterr()[0].decode()
    assert pictures == [6, 6]
    assert re.search(r"retrain +feature_recovery +\d", out)
    assert (tmp_path / "walkthrough-report/report.html").read_text().lstrip().startswith("<!")


def test_the_walkthrough_is_kept_without_outputs():
    for cell in cells():
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_the_page_about_the_python_client_runs_from_top_to_bottom(run, tmp_path, capfdbinary):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}:{number}", "exec"), names)
    lines = capfdbinary.readouterr()[0].decode().splitlines()
    assert any(line.startswith("first audit succeeded") for line in lines)
    assert "gradient_ascent label_inference" in lines
    assert any("did you mean 'size'" in line for line in lines)
    assert int(lines[-1]) >= 7
    assert names["path"].read_bytes() == names["answers"]
    assert {"report.json", "report.html"} < {
        path.name for path in (tmp_path / "first-audit").iterdir()
    }


@pytest.mark.parametrize("page", ["docs/getting-started.md", "docs/scaling.md"])
def test_commands_of_a_first_hour_run(run, tmp_path, page):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = [
        words[1:]
        for block in list_blocks("sh")
        if block.path == page
        for words in split_commands(block.text)
        # tests/integration/test_serve.py runs the audit itself
        if words[0] == "palimpsest" and "--report" not in words
    ]
    assert len(commands) >= 2
    for words in commands:
        done = run(*words)
        assert (done.returncode, done.stdout != "") == (0, True), done.stderr


def test_the_verbs_are_stages_that_there_are(run):
    entries = json.loads(run("catalog", "stage", "--json").stdout)["kinds"]["stage"]
    methods = {entry["name"]: entry["methods"] for entry in entries}
    assert {
        stage: kind for stage, (_, kind) in submit.STAGE_COMMANDS.items()
    }.items() <= methods.items()


def test_an_audit_of_flags_ends_at_its_gate_with_a_report(run):
    flags = [
        "--dataset",
        "mnist_5k",
        "--model",
        "mlp:hidden=8",
        "--unlearning",
        "gradient_ascent",
        "--defense",
        "none",
    ]
    flags += [
        "--attack",
        "feature_recovery:iterations=5",
        "--pretrain",
        "epochs=1",
        "--pretrain",
        "batch_size=128",
    ]
    flags += ["--train", "size=8", "--forget", "deletions=2", "--evaluate", "decoys=10"]
    done = run(
        "audit",
        *flags,
        "--fail-on",
        "psnr.gain>-99",
        "--fail-on",
        "decoy_rank_1.mean>1",
        "--report",
        "here",
    )
    assert done.returncode == 3, done.stderr
    (exceeded,) = (
        line for line in done.stderr.splitlines() if line.startswith("threshold exceeded")
    )
    assert "unlearning gradient_ascent, defense none, attack feature_recovery, seed 0" in exceeded
    report = json.loads(Path("here/report.json").read_text())
    assert report["schema"] == "palimpsest.report/2"
    assert report["verdict"]["headline"] in done.stdout
    assert run("audit", *flags, "--fail-on", "psnr.gain>99").returncode == 0


def test_a_released_model_is_attacked_by_hand(run):
    (unlearned,) = json.loads(run("jobs", "--stage", "unlearn", "--limit", "1", "--json").stdout)
    defended = run("defend", "none", "--from", unlearned["id"]).stdout.strip()
    attack = run("attack", "label_inference", "--from", defended, "--watch")
    assert attack.returncode == 0, attack.stderr
    job = json.loads(run("show", attack.stdout.split()[0], "--json").stdout)
    assert job["inputs"]["UNLEARNED"] == {"job": defended, "role": "RELEASED"}
    evaluated = run("evaluate", "-p", "decoys=10", "--from", job["id"], "--watch")
    assert evaluated.returncode == 0, evaluated.stderr
    evaluation = json.loads(
        run("fetch", evaluated.stdout.split()[0], "EVALUATION", "-o", "-").stdout
    )
    assert evaluation["attack"]["method"] == "label_inference"
    assert evaluation["utility"]["test_accuracy"] > 0
    assert evaluation["unlearning"]["method"] == unlearned["method"]


def test_an_unlearning_that_asks_for_too_many_samples_says_so(run):
    audit = [
        "--dataset",
        "mnist_5k",
        "--model",
        "mlp:hidden=8",
        "--pretrain",
        "epochs=1",
        "--pretrain",
    ]
    audit += ["batch_size=128", "--unlearning", "gradient_ascent", "--attack", "label_inference"]
    audit += ["--train", "size=8", "--forget", "deletions=2", "--watch", "--forget"]
    for size, expected in (
        (9, "forget.size: a forget set of 9 samples does not fit into a training set of 8"),
        (
            5,
            "forget.deletions: 2 disjoint forget sets of 5 need a training set of at least 10, not 8",
        ),
    ):
        done = run("audit", *audit, f"size={size}")
        assert (done.returncode, done.stdout, expected in done.stderr) == (2, "", True), done.stderr
    trained = run(
        "train",
        "-p",
        "size=8",
        "--from",
        json.loads(run("jobs", "--json", "--limit", "1").stdout)[0]["id"],
    )
    words = ["-p", "size=5", "-p", "deletions=2", "--from", trained.stdout.strip(), "--watch"]
    done = run("unlearn", "gradient_ascent", *words)
    expected = "params.deletions: 2 disjoint forget sets of 5 need a training set of at least 10"
    assert (done.returncode, done.stdout, expected in done.stderr) == (2, "", True), done.stderr


def test_what_leaves_no_model_costs_its_own_rows_only(run):
    flags = [
        "--dataset",
        "mnist_5k",
        "--model",
        "mlp:hidden=8",
        "--train",
        "size=8",
        "--forget",
        "deletions=2",
    ]
    flags += [
        "--pretrain",
        "epochs=1",
        "--pretrain",
        "batch_size=128",
        "--attack",
        "label_inference",
    ]
    flags += [
        "--unlearning",
        "gradient_ascent:steps=1",
        "--unlearning",
        "gradient_ascent:lr=10,steps=1000",
    ]
    done = run(
        "audit",
        *flags,
        "--defense",
        "none",
        "--defense",
        "pruning:share=0.9999",
        "--report",
        "left",
    )
    assert done.returncode == 1
    # among what was followed where it was seen to happen, else after it
    output = done.stdout + done.stderr
    assert re.search(
        r"invalid: gradient ascent produced values that are not finite at step \d+; lower lr or steps",
        output,
    )
    assert re.search(
        r"invalid: pruning produced a degenerate model for deletion 0: .*; try a weaker share",
        output,
    )
    report = json.loads(Path("left/report.json").read_text())
    (row,) = report["rows"]
    assert (row["unlearning"]["params"]["steps"], row["defense"]["method"]) == (1, "none")
    assert len([one for one in report["missing"] if one["attack"]]) == 3
    assert run("fetch", row["evaluation"], "-o", "-").returncode == 0
