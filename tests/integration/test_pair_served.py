"""examples/own from its files to a report, on a served system: its numbers recomputed outside."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from services.client import Client, Pair
from tests.support.local_serve import make_clean_env, run_serve
from tests.support.recompute import ArtifactReader
from tests.support.source_tree import ROOT
from tests.support.traces import Traces
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EXAMPLE = ROOT / "examples/own"
NOTEBOOK = EXAMPLE / "own_model.ipynb"
DELETIONS = 4


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = make_clean_env(**more)
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(ROOT)])
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example's package is installed."""
    folder = tmp_path_factory.mktemp("own")
    package = folder / "package"
    package.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (package / file.name).write_bytes(file.read_bytes())
    installed = run(
        folder, sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps", "--quiet",
        "--target", str(folder / "site"), str(package),
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[dict[str, str]]:
    with run_serve(folder, site=folder / "site") as answer:
        yield answer


def read_block(word: str) -> str:
    """The block of shell in the README that has the word in it."""
    (script,) = (
        block
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if word in block
    )
    return str(script)


@pytest.fixture(scope="module")
def report(folder: Path, served: dict[str, str]) -> dict[str, Any]:
    connection = {"PALIMPSEST_URL": served["url"], "PALIMPSEST_TOKEN": served["token"]}
    done = run(folder, "bash", "-eu", "-c", read_block("palimpsest pair"), **connection)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded: dict[str, Any] = json.loads((folder / "own/report/report.json").read_text())
    return loaded


def find_row(report: dict[str, Any], attack: str) -> dict[str, Any]:
    (row,) = [row for row in report["rows"] if row["attack"]["method"] == attack]
    found: dict[str, Any] = row
    return found


def test_the_reports_psnr_is_that_of_the_pictures(folder: Path, report: dict[str, Any]) -> None:
    store = ArtifactReader(folder / ".palimpsest")
    row = find_row(report, "feature_recovery")
    job = store.find_evaluation_job(row["evaluation"])
    images = load(store.read_input(job, "RECONSTRUCTION"))["images"].reshape(DELETIONS, 1, 28, 28)
    truth = np.load(folder / "own/deleted.npz")["images"]
    psnr = -10 * np.log10(((images - truth) ** 2).mean((1, 2, 3)))
    assert row["metrics"]["psnr"]["mean"] == pytest.approx(psnr.mean(), abs=1e-3)
    # a step of plain PyTorch hands the digits over, and public digits are far away
    assert row["finding"]["outcome"] == "leak"
    assert row["identification"]["rank_1"] == DELETIONS
    assert row["metrics"]["psnr"]["gain"] > 3


def test_the_classes_are_named(folder: Path, report: dict[str, Any]) -> None:
    row = find_row(report, "label_inference")
    labels = np.load(folder / "own/deleted.npz")["labels"]
    assert row["answers"]["truth"] == labels[:, None].tolist()
    assert row["answers"]["labels"] == row["answers"]["truth"]


def test_what_the_report_says_of_the_models(folder: Path, report: dict[str, Any]) -> None:
    page = (folder / "own/report/report.html").read_text()
    assert "brought by the user" in page
    assert "How they were trained" in page or "how they were trained" in page
    assert report["provenance"]["data_files"].keys() == {
        f"upload:{sha256}" for sha256 in report["provenance"]["data_files"].values()
    }
    (measured,) = report["measurements"]
    assert 0 < measured["numbers"]["relative weight change"] < 0.2


def test_the_python_client_gives_the_same_audit(
    folder: Path, served: dict[str, str], report: dict[str, Any]
) -> None:
    own = folder / "own"
    pair = Pair(
        before=own / "before.safetensors",
        after={"after": [own / f"after-{n + 1}.safetensors" for n in range(DELETIONS)]},
        model="own_cnn",
        num_classes=10,
        input_shape=(1, 28, 28),
        deleted=own / "deleted.npz",
        public=own / "public.npz",
        attacks=[{"name": "feature_recovery", "params": {"preset": "fast"}}, "label_inference"],
    )
    with Client(served["url"], served["token"]) as client:
        audit = client.audit_pair(pair)
        for _ in client.watch(audit.id):
            pass
        again = client.get_report(audit.id)
    assert audit.created == ()  # everything is there already
    assert [row["metrics"] for row in again.rows] == [row["metrics"] for row in report["rows"]]


def list_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs_cell_by_cell(
    folder: Path,
    served: dict[str, str],
    report: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("PALIMPSEST_URL", served["url"])
    monkeypatch.setenv("PALIMPSEST_TOKEN", served["token"])
    monkeypatch.chdir(folder)
    import matplotlib.pyplot as plt

    pictures: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: pictures.append(len(plt.gcf().axes)))
    names: dict[str, Any] = {}
    for cell in list_cells():
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}:{cell['id']}", "exec"), names)
    shown = capsys.readouterr().out
    assert pictures == [3 * DELETIONS]
    assert names["planned"].new == 0  # the fixture has run it
    assert names["report"].rows == report["rows"]
    row = find_row(report, "feature_recovery")
    assert f"psnr            {row['metrics']['psnr']['mean']:>8.3g}" in shown
    assert "relative weight change" in shown
    assert (folder / "own-report/report.html").exists()


def test_what_is_deleted_with_all_that_was_made_of_it_leaves_no_trace(
    folder: Path, served: dict[str, str], report: dict[str, Any]
) -> None:
    """The last test: it takes away what the others look at."""
    own, home = folder / "own", folder / ".palimpsest"
    files = [*own.glob("*.safetensors"), own / "deleted.npz", own / "public.npz"]
    store = ArtifactReader(home)
    job = store.find_evaluation_job(find_row(report, "feature_recovery")["evaluation"])
    derived = [store.read_input(job, "RECONSTRUCTION"), (own / "report/report.json").read_bytes()]
    query = "SELECT sha256 FROM job_artifacts JOIN jobs ON id = job WHERE stage = 'selftest'"
    (kept,) = (store.files[sha256].read_bytes() for (sha256,) in store.sql.execute(query))
    store.sql.close()  # a reader keeps the write-ahead log
    contents = [*(file.read_bytes() for file in files), *derived]
    # the self-test stays; results and reports name the same versions, and repeat it
    traces = Traces(contents, step=64, known=kept)
    before = traces.find(home)
    assert {"palimpsest.db: digest", "palimpsest.db-wal: digest"} & set(before)
    digests = [hashlib.sha256(data).hexdigest() for data in contents]
    assert {f"{digest}: data" for digest in digests} <= set(before)
    connection = {"PALIMPSEST_URL": served["url"], "PALIMPSEST_TOKEN": served["token"]}
    with Client(served["url"], served["token"]) as client:
        declaration = client.declare_model(
            "before", digests[files.index(own / "before.safetensors")],
            model="own_cnn", num_classes=10, input_shape=(1, 28, 28),
        )  # fmt: skip
        assert client.wait_until_checked(declaration).state == "ready"
    cli = [sys.executable, "-m", "services.cli"]
    model = [*cli, "models", "delete", "before", "--with-derived", "--json"]
    done = run(folder, *model, **connection)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["audits"] == 3  # by command line, Python and notebook
    others = [one for one in digests[: len(files)] if one != str(declaration.raw["weights"])]
    done = run(folder, *cli, "artifacts", "delete", *others, "--with-derived", **connection)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(home / "palimpsest.db") as sql:
        wait_for(
            lambda: sql.execute("SELECT count(*) FROM erasures").fetchone()[0] == 0,
            TIMEOUT_S,
            "the reconciler has nothing to do",
        )
    sql.close()
    assert traces.find(home, folder / "serve.log") == []
    with Client(served["url"], served["token"]) as client:
        assert list(client.list_audits()) == []
        assert {job.stage for job in client.list_jobs()} <= {"selftest"}
