"""`palimpsest repeat`: the jobs behind a row of a saved report run again."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.jobs.records import Claim
from tests.support.cli import AUDIT_YAML, REPORT
from tests.support.gateway import GatewayProcess, ManualWorker
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gateway(signing_gateway: GatewayProcess) -> GatewayProcess:
    return signing_gateway


def compute(claim: Claim, shift: float = 0.0) -> bytes:
    """What a stage makes: it depends on parameters and inputs, and nothing else."""
    job = claim.job
    result = {"stage": job.stage, "params": dict(job.params), "inputs": dict(claim.inputs)}
    if job.stage == "evaluate":
        result["metrics"] = {"psnr": {"mean": 20.0 + shift}}
    return json.dumps(result, sort_keys=True).encode()


def work(worker: ManualWorker, last: str, shift: float = 0.0) -> threading.Thread:
    """Run jobs until one of the stage `last` is done; the report has a row of each evaluation of an
    attack."""
    iterations: dict[str, float] = {}  # of an attack, by the digest of its result
    evaluations: dict[float, str] = {}

    def run_jobs() -> None:
        while True:
            claim = wait_for(worker.try_claim, TIMEOUT_S, "a job is queued")
            data = compute(claim, shift)
            if claim.job.stage == "report":
                in_order = [evaluations[number] for number in sorted(evaluations, reverse=True)]
                rows = [REPORT["rows"][0] | {"evaluation": one} for one in in_order]
                data = json.dumps(REPORT | {"rows": rows}).encode()
            is_attacked = "RECONSTRUCTION" in claim.inputs
            digest = hashlib.sha256(data).hexdigest()
            if claim.job.stage == "attack":
                iterations[digest] = claim.job.params["iterations"]
            elif claim.job.stage == "evaluate" and is_attacked:
                evaluations[iterations[claim.inputs["RECONSTRUCTION"]]] = digest
            worker.finish(claim, data)
            if claim.job.stage == last and (last == "report" or is_attacked):
                return

    thread = threading.Thread(target=run_jobs)
    thread.start()
    return thread


@pytest.fixture
def saved(run: Callable[..., Any], worker: ManualWorker) -> Path:
    """A report with a row for either of two attacks."""
    text = AUDIT_YAML.replace("[invert]", "[invert, {name: invert, params: {iterations: 7}}]")
    Path("a.yaml").write_text(text)
    thread = work(worker, "report")
    assert run("audit", "a.yaml", "--no-cache", "--report", "saved").returncode == 0
    thread.join()
    return Path("saved")


def test_a_row_is_repeated_from_its_first_job(run, worker, key, saved):
    thread = work(worker, "evaluate")
    done = run("repeat", str(saved), "--row", "2", "--key", f"{key}.pub", "--json")
    thread.join()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["identical"], found["differing"], found["changed"]) == (True, [], [])
    assert found["metrics"] == {"psnr": {"reported": 20.0, "repeated": 20.0}}
    jobs = {
        old: json.loads(run("show", new, "--json").stdout) for old, new in found["jobs"].items()
    }
    assert {job["stage"] for job in jobs.values()} == {
        "pretrain", "train", "unlearn", "defend", "attack", "evaluate",
    }  # fmt: skip
    assert not jobs.keys() & {job["id"] for job in jobs.values()}
    for old, job in jobs.items():
        before = json.loads(run("show", old, "--json").stdout)
        for name in ("stage", "method", "params", "seed", "code"):
            assert job[name] == before[name]
        assert job["no_cache"]
    (attack,) = (job for job in jobs.values() if job["stage"] == "attack")
    assert attack["params"]["iterations"] == 7


def test_a_row_that_comes_out_differently(run, worker, saved):
    thread = work(worker, "evaluate", shift=0.5)
    done = run("repeat", str(saved), "--row", "1")
    thread.join()
    assert done.returncode == 1
    assert "not verified (no --key)" in done.stderr
    assert "row 1 differs: evaluate EVALUATION, evaluate PICTURES" in done.stdout
    assert "20.5" in done.stdout
    assert "round differently" in done.stderr


def test_what_cannot_be_repeated_submits_nothing(run, key, saved):
    def count() -> int:
        return len(json.loads(run("jobs", "--json", "--limit", "200").stdout))

    before = count()
    none = run("repeat", str(saved), "--row", "3")
    assert (none.returncode, "there is no row 3: the report has 2 rows" in none.stderr) == (1, True)
    report = json.loads((saved / "report.json").read_text())
    (saved / "report.json").write_text(json.dumps(report | {"name": "other"}))
    changed = run("repeat", str(saved), "--row", "1")
    assert (changed.returncode, "report.json does not belong" in changed.stderr) == (1, True)
    changed = run("repeat", str(saved), "--row", "1", "--key", f"{key}.pub")
    assert (changed.returncode, "report.json was changed" in changed.stderr) == (1, True)
    assert count() == before
