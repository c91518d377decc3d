"""The command line when an audit ends: its report, and the gates that were drawn. The worker is the
test itself."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import AUDIT_YAML, REPORT, finish_in_background, run_audit

pytestmark = pytest.mark.slow


def test_an_exceeded_threshold_exits_with_3_and_names_the_rows(run, worker):
    done = run_audit(
        run, worker, "--fail-on", "psnr.gain>7", "--fail-on", "psnr>50", "--report", "saved"
    )
    assert done.returncode == 3, done.stderr
    (exceeded,) = (
        line for line in done.stderr.splitlines() if line.startswith("threshold exceeded")
    )
    assert exceeded == (
        "threshold exceeded: psnr.gain is 7.5, > 7: unlearning ascent, defense none, attack invert, seed 1"
    )
    assert "leaks: Both digits were read back." in done.stdout
    assert json.loads(Path("saved/report.json").read_text()) == REPORT
    assert Path("saved/report.html").exists()
    lines = run_audit(run, worker, "--fail-on", "psnr.gain>7", "--json").stdout.splitlines()
    assert json.loads(lines[-1])["exceeded"]["seed"] == 1
    assert json.loads(lines[-2])["state"] == "succeeded"


def test_gates_that_hold_and_gates_that_cannot(run, worker):
    held = run_audit(run, worker, "--fail-on", "psnr.gain>50")
    assert (held.returncode, "no row exceeds psnr.gain>50" in held.stderr) == (0, True)
    assert run_audit(run, worker, "--watch").returncode == 0
    missing = run_audit(
        run,
        worker,
        "--fail-on",
        "psnr>1",
        report={**REPORT, "missing": [{"seed": 2, "reason": "lost"}]},
    )
    assert (missing.returncode, "1 row is missing" in missing.stderr) == (1, True)
    unknown = run_audit(run, worker, "--fail-on", "psnr.low>1")
    assert (unknown.returncode, "no row has psnr.low" in unknown.stderr) == (2, True)
    before = len(json.loads(run("audits", "--json", "--limit", "200").stdout))
    for gate, expected in (
        ("psn>1", "did you mean 'psnr'"),
        ("psnr", "expected METRIC"),
        ("psnr>x", "not a number"),
    ):
        done = run("audit", "a.yaml", "--fail-on", gate)
        assert (done.returncode, expected in done.stderr) == (2, True)
    assert len(json.loads(run("audits", "--json", "--limit", "200").stdout)) == before


def test_a_row_that_cannot_be_judged_has_not_passed(run, worker):
    good, bad = REPORT["rows"]
    report = {
        **REPORT,
        "rows": [good, {**bad, "metrics": {"psnr": {**bad["metrics"]["psnr"], "gain": None}}}],
    }
    expected = (
        "palimpsest: psnr.gain has no value: unlearning ascent, defense none, attack invert, "
        "seed 1, so the audit does not pass"
    )
    done = run_audit(run, worker, "--fail-on", "psnr.gain>50", report=report)
    assert (done.returncode, expected in done.stderr, "no row exceeds" in done.stderr) == (
        1,
        True,
        False,
    )
    done = run_audit(run, worker, "--fail-on", "psnr.gain>6", report=report)
    assert (
        done.returncode,
        expected in done.stderr,
        "exceeded: psnr.gain is 6.5" in done.stderr,
    ) == (
        3,
        True,
        True,
    )
    lines = run_audit(
        run, worker, "--fail-on", "psnr.gain>50", "--json", report=report
    ).stdout.splitlines()
    assert json.loads(lines[-1])["unmeasured"]["seed"] == 1


def test_a_retry_says_which_reports_did_without_the_job(run, worker):
    def one(audit: str, stage: str) -> dict[str, Any]:
        (job,) = json.loads(run("jobs", "--audit", audit, "--stage", stage, "--json").stdout)
        return dict(job)

    Path("a.yaml").write_text(AUDIT_YAML)
    thread = finish_in_background(worker, fail="attack")
    audit = run("audit", "a.yaml", "--seed", "40", "--watch").stdout.splitlines()[0]
    thread.join()
    attack, report = one(audit, "attack"), one(audit, "report")
    assert (attack["state"], report["state"]) == ("failed", "succeeded")
    retried = run("retry", attack["id"], "--json")
    expected = f"the report of {audit} does not include it: submit the audit again for a new report"
    assert (retried.returncode, retried.stderr.strip()) == (0, expected)
    assert json.loads(retried.stdout)["id"] == attack["id"]
    again = run("audit", "a.yaml", "--seed", "40").stdout.strip()
    assert one(again, "attack")["id"] == attack["id"]
    assert one(again, "report")["id"] != report["id"]
    # of an audit that has made no report there is nothing to say
    assert run("cancel", attack["id"]).returncode == 0
    assert run("cancel", again).returncode == 0
    other = run("audit", "a.yaml", "--seed", "41").stdout.strip()
    assert run("cancel", one(other, "pretrain")["id"]).returncode == 0
    assert "does not include" not in run("retry", one(other, "pretrain")["id"]).stderr


def test_an_audit_that_failed_has_not_passed(run, worker):
    done = run_audit(run, worker, "--fail-on", "psnr.gain>7", fail="attack")
    assert done.returncode == 1
    assert (
        "(attack invert) failed, error: N is smaller than k" in done.stderr
        or "N is smaller than k" in done.stdout
    )
    assert "exceeded: psnr.gain is 7.5" in done.stderr


def test_a_report_is_saved_shown_and_checked_against_thresholds(run, worker, monkeypatch, tmp_path):
    audit = run_audit(run, worker, "--watch").stdout.splitlines()[0]
    done = run("report", audit)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        f"report-{audit}/report.json",
        f"report-{audit}/report.html",
        f"report-{audit}/manifest.json",
    ]
    for cell in ("leaks", "invert", "psnr 21.0", "13.5 class mean", "+7.5", "2 of 2"):
        assert cell in done.stdout
    assert run("report", audit, "--json").stdout == json.dumps(REPORT)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    (job,) = json.loads(run("jobs", "--audit", audit, "--stage", "report", "--json").stdout)
    assert run("report", job["id"], "-o", "here", "--open").returncode == 0
    assert opened == [(tmp_path / "here/report.html").as_uri()]
    assert run("report", audit, "--fail-on", "psnr.gain>6").returncode == 3
    assert json.loads(run("report", audit, "--fail-on", "psnr>99", "--json").stdout) == {
        "exceeded": None
    }
    assert run("report", audit, "--fail-on", "mse<1").returncode == 2
    Path("taken").write_text("a file")
    done = run("report", audit, "-o", "taken")
    assert (done.returncode, "taken: File exists" in done.stderr) == (1, True)
    other = json.loads(run("jobs", "--audit", audit, "--stage", "train", "--json").stdout)[0]["id"]
    assert "is a job of the stage train" in run("report", other).stderr
    Path("a.yaml").write_text(AUDIT_YAML)
    waiting = run("audit", "a.yaml", "--no-cache").stdout.strip()
    done = run("report", waiting)
    assert (
        done.returncode,
        "is waiting" in done.stderr,
        list(Path().glob(f"report-{waiting}")),
    ) == (1, True, [])
    assert run("cancel", waiting).returncode == 0
