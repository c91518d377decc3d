"""The command line on stages by hand, files and flags, logs, the shell's TAB. The worker is the
test itself."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import AUDIT_YAML, COMMAND, Completed
from tests.support.gateway import GatewayProcess
from tests.support.waiting import TIMEOUT_S


def inputs(done: Completed) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["inputs"])


def source(done: Completed, role: str) -> dict[str, str]:
    return {"job": json.loads(done.stdout)["id"], "role": role}


def test_every_stage_by_hand_takes_its_inputs_from_the_one_before(run, worker):
    def step(*words: str, of: Completed | None = None) -> Completed:
        start = ["--from", json.loads(of.stdout)["id"]] if of else []
        return run(*words, *start, "--json")

    base = step("pretrain", "-p", "dataset=digits", "-p", "model=mlp", "--seed", "7")
    trained = step("train", "-p", "dataset=digits", of=base)
    assert inputs(trained) == {"BASE": source(base, "BASE")}
    unlearned = step("unlearn", "retrain", "-p", "deletions=2", of=trained)
    assert inputs(unlearned) == {
        "BASE": source(base, "BASE"),
        **{role: source(trained, role) for role in ("ORIGINAL", "TRAINING_SET", "RECIPE")},
    }
    defended = step("defend", "none", of=unlearned)
    original, released = source(trained, "ORIGINAL"), source(defended, "RELEASED")
    assert inputs(step("defend", "none", of=defended)) == inputs(defended)
    assert inputs(step("probe", of=defended)) == {"ORIGINAL": original, "UNLEARNED": released}
    attacked = step("attack", "invert", of=defended)
    assert inputs(attacked) == {
        "ORIGINAL": original, "UNLEARNED": released, "LABELS": source(unlearned, "LABELS")
    }  # fmt: skip
    inferred = step("attack", "invert", "-p", "labels=inferred", of=unlearned)
    assert inputs(inferred) == {"ORIGINAL": original, "UNLEARNED": source(unlearned, "UNLEARNED")}
    given = step("attack", "invert", "-i", f"UNLEARNED={released['job']}:RELEASED", of=unlearned)
    assert json.loads(given.stdout)["id"] == json.loads(attacked.stdout)["id"]
    evaluated = step("evaluate", of=attacked)
    assert inputs(evaluated)["FORGET_SETS"] == source(unlearned, "FORGET_SETS")
    assert inputs(evaluated)["UNLEARNED"] == released
    assert json.loads(evaluated.stdout)["seed"] == 7
    by_stage = run("submit", "evaluate", "--from", json.loads(attacked.stdout)["id"])
    assert "identical job found" in by_stage.stderr
    assert f"RECONSTRUCTION from {json.loads(attacked.stdout)['id']}" in by_stage.stderr


def test_a_verb_that_lacks_something_says_what(run, worker):
    base = run("pretrain", "-p", "dataset=digits", "-p", "model=mlp").stdout.strip()
    for words, expected in (
        (["unlearn"], "Missing argument"),
        (["unlearn", "retrian", "--from", base], "did you mean 'retrain'"),
        (["unlearn", "retrain", "--from", base], "inputs.ORIGINAL"),
        (["unlearn", "ascent", "-p", "size=0", "--from", base], "params.size: 0"),
        (["train", "-p", "dataset=digit", "--from", base], "did you mean 'digits'"),
        (["train", "--from", "job_" + "0" * 20], "there is no job"),
    ):
        done = run(*words)
        assert (done.returncode, expected in done.stderr) == (2, True), (words, done.stderr)
    worker.finish_all()
    with worker.finish_in_background():
        assert (
            run(
                "pretrain", "-p", "dataset=digits", "-p", "model=mlp", "--seed", "9", "--watch"
            ).returncode
            == 0
        )


def test_an_audit_from_flags_and_over_a_file(run, tmp_path):
    flags = [
        "--dataset",
        "digits",
        "--model",
        "mlp:width=8",
        "--unlearning",
        "ascent:rate=0.5",
        "--unlearning",
    ]
    flags += [
        "retrain",
        "--defense",
        "none",
        "--attack",
        "invert",
        "--train",
        "size=16",
        "--forget",
        "deletions=2",
    ]
    dry = json.loads(
        run("audit", *flags, "--seed", "0", "--seed", "1", "--dry-run", "--json").stdout
    )
    by_stage = [job["stage"] for job in dry["jobs"]]
    assert {stage: by_stage.count(stage) for stage in by_stage} == {
        "pretrain": 1, "train": 2, "unlearn": 4, "defend": 4, "evaluate": 8, "attack": 4, "report": 1
    }  # fmt: skip
    report = next(job for job in dry["jobs"] if job["stage"] == "report")["params"]["audit"]
    assert (report["train"], report["forget"]) == ({"size": 16}, {"deletions": 2})
    (tmp_path / "a.yaml").write_text(AUDIT_YAML)
    dry = json.loads(
        run("audit", "a.yaml", "--train", "size=8", "--name", "x", "--dry-run", "--json").stdout
    )
    report = next(job for job in dry["jobs"] if job["stage"] == "report")["params"]["audit"]
    assert (report["name"], report["train"], report["seeds"]) == ("x", {"size": 8}, [0])
    assert "report" in run("audit", "a.yaml", "--dry-run").stdout


@pytest.mark.parametrize(
    ("old", "new", "flags", "expected"),
    [
        (
            "size: 32",
            "sise: 32",
            [],
            "a.yaml:4: unknown parameter 'sise' for stage train; did you mean 'size'?",
        ),
        ("size: 32", "size: 1", [], "a.yaml:4: train.size: 1"),
        ("size: 32", "size: 32", ["--train", "size=1"], "palimpsest: train.size: 1"),
        (
            "[ascent]",
            "[ascent, retrian]",
            [],
            "a.yaml:5: unknown unlearning 'retrian'; did you mean 'retrain'?",
        ),
        ("digits", "digit", [], "a.yaml:2: unknown dataset 'digit'; did you mean 'digits'?"),
        (
            "digits",
            "digit",
            ["--dataset", "digist"],
            "palimpsest: dataset.name: unknown dataset 'digist'",
        ),
        (
            "[invert]",
            "[{name: invert, params: {iteration: 5}}]",
            [],
            "a.yaml:6: unknown parameter 'iteration'",
        ),
        ("attacks", "attack", [], "a.yaml:6: unknown key 'attack'; did you mean 'attacks'?"),
        ("dataset: digits\n", "", [], "a.yaml:1: dataset is missing"),
        ("name: by file", "forget: {deletions: 0}", [], "a.yaml:1: forget.deletions: 0"),
        ("model", "dataset", [], "a.yaml:3: duplicate key 'dataset'"),
        ("[ascent]", "[ascent", [], "a.yaml:6: not YAML"),
    ],
)
def test_an_error_in_a_file_names_its_line(run, tmp_path, old, new, flags, expected):
    (tmp_path / "a.yaml").write_text(AUDIT_YAML.replace(old, new, 1))
    done = run("audit", "a.yaml", *flags)
    assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
    assert ("^" in done.stderr) is not bool(flags)
    assert not done.stdout


def test_the_log_of_a_job(run, worker):
    job = run("pretrain", "-p", "dataset=digits", "-p", "model=mlp", "--seed", "20").stdout.strip()
    claim = worker.claim()
    worker.report_progress(claim, 1, 4, loss=0.12345)
    so_far = run("logs", job).stdout
    assert "running  claimed by hand" in so_far
    assert "progress  1/4  loss 0.1235" in so_far
    thread = threading.Timer(0.5, lambda: worker.fail(claim, "it [broke]"))
    thread.start()
    followed = run("logs", job, "--follow")
    thread.join()
    assert followed.stdout.startswith(so_far)
    assert "failed  error: it [broke]" in followed.stdout
    events = [json.loads(line) for line in run("logs", job, "--json").stdout.splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert "is an audit" in run("logs", "aud_1").stderr


# TAB waits for a second; a busy machine may need more
COMPLETING = (
    "import sys; from services.cli import completion; from services.cli.main import main; "
    f"sys.argv[0], completion.TIMEOUT_S = 'palimpsest', {TIMEOUT_S}; main()"
)


def completed(gateway: GatewayProcess, words: str, **env: str) -> list[str]:
    env = {
        **gateway.make_client_env(),
        "_PALIMPSEST_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        **env,
    }
    env["COMP_CWORD"] = str(words.count(" "))
    done = subprocess.run(
        [sys.executable, "-c", COMPLETING],
        env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_tab_offers_what_there_is_and_never_complains(gateway, run, worker):
    job = run("pretrain", "-p", "dataset=digits", "-p", "model=mlp", "--seed", "21").stdout.strip()
    assert job in completed(gateway, "palimpsest show job_")
    assert completed(gateway, "palimpsest unlearn ") == ["ascent", "retrain"]
    assert completed(gateway, "palimpsest submit attack --method ") == ["invert"]
    assert completed(gateway, "palimpsest submit pre") == ["pretrain"]
    assert completed(gateway, "palimpsest unlearn ", PALIMPSEST_URL="http://127.0.0.1:1") == []


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_done(gateway, run, worker, tmp_path):
    job = run("pretrain", "-p", "dataset=digits", "-p", "model=mlp", "--seed", "22").stdout.strip()
    worker.finish(worker.claim(), os.urandom(300_000), "application/octet-stream")

    def call(*words: str, stdout: Any = subprocess.PIPE, most: int | None = None) -> Completed:
        def limited() -> None:
            if most is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        return subprocess.run(
            [*COMMAND, *words], env=gateway.make_client_env(), cwd=tmp_path, preexec_fn=limited, stdout=stdout,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip

    done = call("fetch", job, "-o", "weights", most=100_000)
    assert done.returncode == 1
    assert done.stderr == "palimpsest: cannot write weights: File too large; nothing was kept\n"
    assert list(tmp_path.iterdir()) == []
    with Path("/dev/full").open("w") as full:
        for words in (["jobs"], ["fetch", job, "-o", "-"], ["catalog", "--json"]):
            done = call(*words, stdout=full)
            assert (done.returncode, done.stderr) == (
                1, "palimpsest: cannot write to standard output: No space left on device\n"
            )  # fmt: skip
