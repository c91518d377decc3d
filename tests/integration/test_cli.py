"""The command line against a served gateway: what it prints, where, and how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.cli.main import main
from services.cli.output import progress
from services.client import Update
from tests.support.gateway import (
    AUDIT,
    AUDIT_JOB_COUNT,
    TOKEN,
    VERDICT,
    GatewayProcess,
    ManualWorker,
    serve_gateway,
)
from tests.support.waiting import TIMEOUT_S, wait_for

PROGRAM = [sys.executable, "-c", "from services.cli.main import main; main()"]


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with serve_gateway(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture
def run(
    gateway: GatewayProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    """`palimpsest` in this process."""
    monkeypatch.setenv("PALIMPSEST_URL", gateway.url)
    monkeypatch.setenv("PALIMPSEST_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["palimpsest", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return Done(int(ended.value.code or 0), shown.out, shown.err)

    return call


def test_a_job_from_submit_to_fetch(run, worker):
    first = run("submit", "sleep", "-p", "seconds=1", "--seed", "1")
    job = first.out.strip()
    assert (first.status, job.startswith("job_"), "submitted" in first.err) == (0, True, True)
    assert f"palimpsest watch {job}" in first.err
    assert "reusing" in run("submit", "sleep", "-p", "seconds=1", "--seed", "1").err
    child = run("submit", "sleep", "-i", f"BASE={job}:BASE", "--seed", "2", "--json")
    assert child.json["inputs"] == {"BASE": {"job": job, "role": "BASE"}}
    assert run("fetch", job).status == 1
    worker.finish(worker.claim(), b"some text", "text/plain")
    shown = run("show", job)
    assert "succeeded" in shown.out
    assert '"seconds": 1.0' in shown.out
    assert run("fetch", job, "-o", "-").out == "some text"
    fetched = run("fetch", job, "BASE", "-o", "here.txt")
    assert (fetched.status, fetched.out.strip(), Path("here.txt").read_text()) == (
        0,
        "here.txt",
        "some text",
    )
    assert run("fetch", job, "--json").json["size"] == 9
    assert run("show", job, "--json").json["state"] == "succeeded"
    assert [j["id"] for j in run("jobs", "--json", "--limit", "1").json] == [child.json["id"]]
    assert job in run("jobs", "--stage", "sleep", "--state", "succeeded").out


def test_an_audit(run, worker, tmp_path):
    (tmp_path / "audit.yaml").write_text(
        "name: two methods\ndataset: digits\nmodel: {name: mlp, params: {width: 8}}\n"
        "unlearning: [ascent, retrain]\nattacks: [invert]\nseeds: [0, 1]\n"
    )
    dry = run("audit", "audit.yaml", "--dry-run")
    assert f"{AUDIT_JOB_COUNT} jobs: {AUDIT_JOB_COUNT} new, 0 reused" in dry.out
    assert run("audit", "audit.yaml", "--dry-run", "--json").json["new"] == AUDIT_JOB_COUNT
    made = run("audit", "audit.yaml")
    audit = made.out.strip()
    assert (made.status, f"{AUDIT_JOB_COUNT} jobs" in made.err) == (0, True)
    assert "two methods" in run("show", audit).out
    assert audit in run("audits").out
    assert len(run("jobs", "--audit", audit, "--json", "--limit", "200").json) == AUDIT_JOB_COUNT
    worker.finish_all()
    assert run("watch", audit).status == 0
    assert run("show", audit, "--json").json["state"] == "succeeded"
    assert VERDICT["headline"] in run("show", audit).out
    assert re.search(rf"{audit} .* leaks", run("audits").out)
    assert "is succeeded" in run("cancel", audit).err
    assert run("fetch", audit).status == 2


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Update]:
    """What `watch` has shown in this process."""
    updates: list[Update] = []
    for display in (progress.PlainLinesDisplay, progress.JsonLinesDisplay):

        def show(
            self: progress.Display, update: Update, show: Callable[..., None] = display.show
        ) -> None:
            show(self, update)
            updates.append(update)

        monkeypatch.setattr(display, "show", show)
    return updates


def work_on(worker: ManualWorker, fail: bool, shown: list[Update]) -> threading.Thread:
    """Each step comes when the one before was shown."""
    shown.clear()

    def work() -> None:
        claim = worker.claim()
        for done in range(1, 5):
            worker.report_progress(claim, done, 4, matching_loss=1 / done)
            wait_for(lambda done=done: any(u.done == done for u in shown), TIMEOUT_S, "it is shown")
        worker.fail(claim, "the loss is [not] a number") if fail else worker.finish(claim)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_watch_in_a_pipe_is_lines(run, worker, shown, monkeypatch):
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    job = run("submit", "sleep", "--seed", "3").out.strip()
    thread = work_on(worker, True, shown)
    seen = run("watch", job)
    thread.join()
    assert seen.status == 1
    assert "running" in seen.out
    assert "matching loss" in seen.out
    assert re.search(r"  [0-9.e+]+/(s|min)  ", seen.out)
    assert "error: the loss is [not] a number" in seen.out
    assert run("retry", job).status == 0
    thread = work_on(worker, False, shown)
    lines = [json.loads(line) for line in run("watch", job, "--json").out.splitlines()]
    thread.join()
    assert lines[-1]["state"] == "succeeded"
    assert lines[-1]["numbers"]["matching_loss"] == 0.25


def test_submit_and_watch(run, worker):
    worker.finish_all()
    with worker.finish_in_background():
        seen = run("submit", "sleep", "--seed", "4", "--watch")
    assert (seen.status, "succeeded" in seen.out) == (0, True)


def test_watch_on_a_terminal_is_bars_and_ctrl_c_leaves_the_job(gateway, run, worker):
    job = run("submit", "sleep", "--seed", "5").out.strip()
    claim = worker.claim()
    worker.report_progress(claim, 2, 8, matching_loss=0.5)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            PROGRAM[0],
            [*PROGRAM, "watch", job],
            {**gateway.make_client_env(), "TERM": "xterm", "COLUMNS": "200"},
        )
    shown, pressed = b"", 0
    until = time.monotonic() + TIMEOUT_S
    with contextlib.suppress(OSError):  # a terminal whose program has ended
        while chunk := os.read(terminal, 4096):
            shown += chunk
            assert time.monotonic() < until, shown
            if not pressed and b"2/8" in shown and b"matching loss 0.5" in shown:
                pressed = os.write(terminal, b"\x03")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = shown.decode()
    assert status == 130, text
    assert job in text
    assert f"palimpsest watch {job}" in text
    assert "Traceback" not in text
    assert json.loads(run("show", job, "--json").out)["state"] == "running"
    worker.finish(claim)


def test_cancel_pause_resume(run, worker):
    job = run("submit", "sleep", "--seed", "6").out.strip()
    assert "is paused" in run("pause", job).err
    assert run("resume", job, "--json").json["state"] == "queued"
    worker.claim()
    assert "is running, stopping" in run("cancel", job).err
    queued = run("submit", "sleep", "--seed", "7").out.strip()
    assert "is cancelled" in run("cancel", queued).err
    assert run("watch", queued).status == 1
    assert run("pause", queued).status == 1


def test_whoami(run):
    shown = run("whoami")
    assert "tenant   local" in shown.out
    assert "admin, read, submit, worker" in shown.out
    assert run("whoami", "--json").json["key_id"] is None


def test_many_jobs_are_cancelled_by_filters(run, worker):
    for seed in range(20, 23):
        run("submit", "sleep", "--seed", str(seed))
    selection = ("--stage", "sleep", "--state", "queued", "--created-after", "1h")
    counted = run("cancel", *selection, "--dry-run", "--json").json
    assert counted["cancelled"] >= 3
    assert "3" in run("cancel", *selection, "--dry-run").err
    kept = run("submit", "sleep", "--seed", "29").out.strip()
    done = run("cancel", *selection, "--created-before", counted["created_before"], "--json").json
    assert (done["cancelled"], done["remaining"]) == (counted["cancelled"], 0)
    assert run("show", kept, "--json").json["state"] == "queued"
    assert " cancelled" in run("cancel", "--stage", "sleep", "--state", "queued", "--yes").err
    assert run("show", kept, "--json").json["state"] == "cancelled"
    assert run("cancel").status == 2
    assert run("cancel", kept, "--stage", "sleep").status == 2
    assert "--created-after 'soon'" in run("cancel", "--created-after", "soon").err


def test_priority_drain_and_paused_stages(run, worker):
    worker = ManualWorker(worker.db, worker.artifacts, "resting")
    run("cancel", "--state", "queued", "--yes")  # what other tests have left
    job = run("submit", "sleep", "--seed", "30").out.strip()
    assert "has priority -5" in run("priority", job, "--to", "-5").err
    assert run("jobs", "--created-after", "2h", "--json").json[0]["priority"] == -5
    assert "sleep is paused" in run("pause", "--stage", "sleep").err
    assert "paused" in run("queues").out
    assert worker.try_claim() is None
    assert run("resume", "--stage", "sleep", "--json").json["paused_at"] is None
    assert run("resume").status == run("pause", job, "--stage", "sleep").status == 2
    claim = worker.claim()
    thread = threading.Timer(1.5, worker.finish, [claim])
    thread.start()
    drained = run("drain", "resting", "--wait")
    thread.join()
    assert (drained.status, f"resting is returning {claim.job.id}" in drained.err) == (0, True)
    assert "resting is drained" in drained.err
    assert "drained" in run("workers").out
    assert "takes jobs" in run("undrain", "resting").err
    assert run("drain", "nobody").status == 2


def test_an_audit_is_labelled_cloned_retried_and_downloaded(run, worker):
    Path("a.yaml").write_text(json.dumps({**AUDIT, "name": "labelled", "metadata": {"a": 1}}))
    audit = run("audit", "a.yaml", "--label", "team=red", "--metadata", "b.c=2").out.strip()
    assert [a["id"] for a in run("audits", "--label", "team=red", "--json").json] == [audit]
    assert "team=red" in run("audits", "--name", "LABEL").out
    changed = run("label", audit, "run=7", "team-", "--metadata", '{"a": null}', "--json").json
    assert changed == {"labels": {"run": "7"}, "metadata": {"b": {"c": 2}}}
    assert "run=7" in run("label", audit).out
    assert run("label", audit, "x").status == run("label", audit, "--metadata", "[]").status == 2
    edits = ("--set", "seeds=[0]", "--set", "attacks.0.params.iterations=7", "--set", "name=again")
    dry = run("clone", audit, *edits, "--dry-run", "--json").json
    assert (dry["dry_run"], dry["reused"] > 0, dry["new"] > 0) == (True, True, True)
    clone = run("show", run("clone", audit, *edits).out.strip(), "--json").json
    assert (clone["name"], clone["labels"], clone["spec"]["seeds"]) == ("again", {"run": "7"}, [0])
    assert clone["spec"]["attacks"][0]["params"]["iterations"] == 7
    assert "has no 'attack'" in run("clone", audit, "--unset", "attack.0").err
    assert run("retry", audit).status == 1
    saved = run("download", audit, "--no-models", "-o", "all.zip")
    assert (saved.status, saved.out.strip()) == (0, "all.zip")
    with zipfile.ZipFile("all.zip") as archive:
        assert f"{audit}/index.json" in archive.namelist()
    assert run("download", "aud_" + "0" * 20).status == 2
    assert not Path("aud_00000000000000000000.zip").exists()
    assert run("cancel", audit, clone["id"]).status == 0


def test_an_audit_is_retried_from_what_failed(run, worker):
    run("cancel", "--state", "queued", "--yes")  # what other tests have left
    Path("a.yaml").write_text(json.dumps({**AUDIT, "no_cache": True}))
    audit = run("audit", "a.yaml").out.strip()
    claim = worker.claim()
    worker.fail(claim)
    assert run("show", claim.job.id, "--json").json["audits"] == [audit]
    retried = run("retry", audit)
    assert (retried.status, "jobs run again" in retried.err) == (0, True)
    assert f"palimpsest watch {audit}" in retried.err
    assert run("show", claim.job.id, "--json").json["state"] == "queued"
    assert run("cancel", audit).status == 0


def test_lists(run, worker):
    assert "hand" in run("workers").out
    assert run("workers", "--json").json[0]["live"] is True
    assert "sleep" in run("queues").out
    assert {q["stage"] for q in run("queues", "--json").json} >= {"sleep"}
    assert "Match gradients." in run("catalog").out
    assert "iterations" in run("catalog", "attack").out
    assert "no plugins of kind x" in run("catalog", "x").out
    assert set(run("catalog", "attack", "--json").json["kinds"]) == {"attack"}
    assert run("audits", "--json").status == 0


WRONG: list[tuple[list[str], int, str]] = [
    ([], 2, ""),
    (["dance"], 2, "No such command"),
    (["submit"], 2, "Missing argument"),
    (["submit", "slep"], 2, "did you mean 'sleep'"),
    (["submit", "sleep", "-p", "seconds=-1"], 2, "palimpsest: params.seconds: -1.0 is less"),
    (["submit", "sleep", "-p", "seconds"], 2, "expected NAME=VALUE"),
    (["submit", "sleep", "-i", "BASE"], 2, "expected ROLE=JOB"),
    (["submit", "sleep", "-i", "BASE=newest"], 2, "inputs.BASE: "),
    (["show", "job_0"], 2, "there is no job 'job_0'"),
    (["watch", "job_" + "0" * 20], 2, "there is no job"),
    (["fetch", "0" * 64], 2, "there is no artifact"),
    (["audit", "none.yaml"], 2, "No such file"),
    (["audit"], 2, "give a file, or at least --dataset"),
    (["audit", "broken.yaml"], 2, "palimpsest: broken.yaml:1: not YAML"),
    (["audit", "list.yaml"], 2, "must be a mapping"),
    (["audit", "date.yaml"], 2, "date.yaml:1: YAML reads 2024-01-01 as a date"),
    (["audit", "wrong.yaml"], 2, "wrong.yaml:1: unknown unlearning 'forgetting'"),
    (["audit", "empty.yaml"], 2, "empty.yaml:1: dataset is missing"),
    (["jobs", "--state", "asleep"], 2, "state: "),
    (["jobs", "--limit", "0"], 2, "--limit"),
    (["jobs", "--created-after", "soon"], 2, "expected a time such as"),
    (["audits", "--state", "asleep"], 2, "state: "),
    (
        ["audits", "--created-after", "1h", "--created-before", "2h"],
        2,
        "must be later than created_after",
    ),
    (["clone", "aud_" + "0" * 20], 2, "there is no audit"),
    (["priority", "job_" + "0" * 20, "--to", "101"], 2, "less than or equal to 100"),
]


@pytest.mark.parametrize(
    ("words", "status", "text"), WRONG, ids=[" ".join(w[0])[:40] or "nothing" for w in WRONG]
)
def test_wrong_use_is_one_clear_sentence(run, words, status, text):
    Path("broken.yaml").write_text("a: [")
    Path("list.yaml").write_text("[1, 2]")
    Path("date.yaml").write_text("name: 2024-01-01")
    Path("empty.yaml").write_text("{}")
    Path("wrong.yaml").write_text(json.dumps({**AUDIT, "unlearning": ["forgetting"]}))
    done = run(*words)
    assert done.status == status
    assert text in done.err


def test_a_gateway_that_is_not_there_and_one_that_says_no(run, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_TOKEN", "wrong")
    done = run("jobs")
    assert (done.status, "rejected this token" in done.err) == (2, True)
    monkeypatch.setenv("PALIMPSEST_URL", "http://127.0.0.1:1")
    done = run("jobs")
    assert (done.status, "is it running?" in done.err) == (1, True)
    monkeypatch.setenv("PALIMPSEST_URL", "ftp://x")
    assert run("jobs").status == 2
    monkeypatch.delenv("PALIMPSEST_URL")
    done = run("jobs")
    assert (done.status, "no gateway configured" in done.err) == (2, True)


def test_as_a_program(gateway, worker, tmp_path):
    """The installed entry point does what `main` does, and a closed pipe is no error of ours."""
    folder = tmp_path / ".palimpsest"
    folder.mkdir()
    (folder / "serve.json").write_text(json.dumps({"url": gateway.url, "token": TOKEN}))
    env = {
        k: v
        for k, v in gateway.make_client_env().items()
        if k not in ("PALIMPSEST_URL", "PALIMPSEST_TOKEN")
    }
    done = subprocess.run(
        [*PROGRAM, "submit", "sleep", "--seed", "8"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout[:4]) == (0, "job_")
    piped = subprocess.run(
        ["bash", "-c", f'"$0" -c "{PROGRAM[2]}" catalog --json | head -c 10', sys.executable],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert piped.stdout == '{"digest":'
    assert "Traceback" not in piped.stderr


@pytest.mark.slow
def test_interrupted_in_a_pipe(gateway, run, worker):
    job = run("submit", "sleep", "--seed", "9").out.strip()
    process = subprocess.Popen(
        [*PROGRAM, "watch", job],
        env=gateway.make_client_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "queued" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert f"To reattach: palimpsest watch {job}" in err
    assert "Traceback" not in err
