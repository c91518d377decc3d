"""`make serve` with an audit under way: every process it runs is killed in turn, then its
supervisor, then the serve itself. The audit finishes, and nothing is done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.client import Client
from shared.jobs import queries
from shared.jobs.database import Database
from shared.jobs.records import Job
from shared.jobs.states import TERMINAL
from tests.support.local_serve import make_clean_env
from tests.support.source_tree import SLEEP_STAGE, copy_tree
from tests.support.system import FAST_SETTINGS, TENANT
from tests.support.tiny_chain import DATA, MODEL, write_data
from tests.support.waiting import TIMEOUT_S, wait_for

# Methods that take as long as they are to, without a core: there is always something to interrupt.
PATIENT = {
    "shared/ml/unlearning/patient.py": '''
"""Forgets nothing, slowly."""

import time
from pathlib import Path

from shared.ml.unlearning import registry
from shared.plugins import Params


class PatientParams(Params):
    gate: str = ""  # file that it waits for


@registry.register("patient", params=PatientParams, needs=("ORIGINAL",), exact=False)
def unlearn(inputs, retain, forget, params, ctx):
    """Leave the network as it is."""
    while params.gate and not Path(params.gate).exists():
        time.sleep(0.1)
        ctx.report_progress(0, 1)
    ctx.report_progress(1, 1)
    return inputs.original
''',
    "shared/ml/attacks/patient.py": '''
"""Guesses class 0, slowly."""

import time
from pathlib import Path

import torch

from shared.ml.attacks import registry
from shared.ml.attack_io import LabelGuesses
from shared.plugins import Params


class PatientParams(Params):
    gate: str = ""  # file that it waits for


@registry.register(
    "patient", params=PatientParams, needs=("ORIGINAL", "UNLEARNED"), produces=("ANSWERS",),
    access="white_box",
)
def run(observation, params, ctx):
    """Guess class 0."""
    done, _ = ctx.load_checkpoint() or (0, {})
    while params.gate and not Path(params.gate).exists():
        time.sleep(0.1)
        done += 1
        ctx.report_progress(done, done + 1)
        if ctx.is_checkpoint_due():
            ctx.save_checkpoint(done, {"nothing": torch.zeros(1)})
    deletions = observation.unlearned.count
    return LabelGuesses(torch.zeros(deletions, 1, dtype=torch.long), torch.zeros(deletions, 4))
''',
}
AUDIT: dict[str, Any] = {
    "name": "killed again and again",
    "dataset": DATA,
    "model": MODEL,
    "pretrain": {"epochs": 1},
    "train": {"size": 12},
    "forget": {"deletions": 3},
    "unlearning": ["patient"],
    "attacks": ["patient"],
}
# once these have ended, the workers that serve them need not be started again
DONE_EARLY = ("pretrain", "train", "unlearn", "retraining", "defend")


class Serve:
    """One folder, served again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / ".palimpsest"
        tree = copy_tree(folder / "tree", {**SLEEP_STAGE, **PATIENT})
        write_data(folder)
        self.env = make_clean_env(
            PYTHONPATH=str(tree), **FAST_SETTINGS, PALIMPSEST_DATA_ROOT=str(folder)
        )
        self.db = Database(f"sqlite:///{self.home}/palimpsest.db")

    def start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "deploy.local.serve", *arguments]
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=log, stderr=log
            )
        served = self.home / "serve.json"
        wait_for(
            lambda: served.exists() or self.process.poll() is not None,
            TIMEOUT_S,
            f"serve is up: {self.log()}",
        )
        assert self.process.poll() is None, self.log()
        self.supervisor = psutil.Process(int((self.home / "run/supervisord.pid").read_text()))

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()[-3000:]

    def client(self) -> Client:
        at = json.loads((self.home / "serve.json").read_text())
        return Client(at["url"], at["token"], retry_for_s=30)

    def program(self, *words: str) -> psutil.Process | None:
        """The one that the supervisor keeps whose command line has one of these words."""
        for process in self.supervisor.children():
            with suppress(psutil.NoSuchProcess):
                if any(word in argument for argument in process.cmdline() for word in words):
                    return process
        return None

    def kill(self, *words: str) -> psutil.Process:
        """Kill a program; returns the one in its place."""
        old = wait_for(lambda: self.program(*words), TIMEOUT_S, f"{words} runs")
        old.kill()
        return wait_for(
            lambda: (new := self.program(*words)) and new.pid != old.pid and new,
            TIMEOUT_S,
            f"{words} is started again",
        )

    def lease(self, group: str) -> psutil.Process | None:
        """The lease process of a worker's pool child, which is its parent; None while there is
        none."""
        with suppress(psutil.NoSuchProcess):
            worker = self.program(f"worker-{group}-1@")
            family = worker.children(recursive=True) if worker else []
            return next((p for p in family if "workers.lease" in p.cmdline()), None)
        return None

    def gate(self, name: str) -> str:
        """A file that gated work waits for."""
        return str(self.folder / f"gate-{name}")

    def open_gate(self, name: str) -> None:
        Path(self.gate(name)).touch()

    def jobs(self) -> list[Job]:
        return queries.list_jobs(self.db, TENANT, limit=200).items

    def running(self, *stages: str) -> list[Job]:
        """A job of each of these stages, all under way at the same time."""

        def found() -> list[Job] | None:
            under_way = {j.stage: j for j in self.jobs() if j.state == "running" and j.progress}
            return [under_way[s] for s in stages] if set(stages) <= set(under_way) else None

        return wait_for(found, TIMEOUT_S, f"{stages} run")

    def lost_and_taken_up(self, jobs: list[Job]) -> None:
        """The attempts that were killed are charged, and others have begun."""
        for job in jobs:
            wait_for(
                lambda job=job: (
                    (j := queries.get_job(self.db, TENANT, job.id)).attempt > job.attempt
                    and j.lost_count > job.lost_count
                ),
                TIMEOUT_S,
                f"{job.stage} is taken up again",
            )

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=TIMEOUT_S)
        self.db.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    made = Serve(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.mark.long
@pytest.mark.timeout(3600)  # it waits for one thing after another, each with its own limit
def test_an_audit_outlives_every_process_of_a_serve(serve: Serve) -> None:
    effects = serve.folder / "effects"
    with serve.client() as client:
        # beforehand: it would keep the worker busy that is to run `sleep` beside the others
        client.submit_job("selftest")
        wait_for(
            lambda: [j.state for j in serve.jobs()] == ["succeeded"],
            TIMEOUT_S,
            "the self-test is done",
        )
        first = {"name": "patient", "params": {"gate": serve.gate("first attack")}}
        audits = [client.submit_audit({**AUDIT, "attacks": [first]}).id]

        # the broker, the gateway, and the process that supervises them
        for words in (
            ("valkey-server", "redis-server"),
            ("services.gateway",),
            ("services.reconciler",),
        ):
            serve.kill(*words)

        # something for every worker at the same moment
        serve.running("attack")
        gated = {"name": "patient", "params": {"gate": serve.gate("unlearn")}}
        # under way still when the supervisor and serve itself are killed
        last = {"name": "patient", "params": {"gate": serve.gate("last attack")}}
        audits.append(
            client.submit_audit(
                {**AUDIT, "seeds": [1], "unlearning": [gated], "attacks": [last]}
            ).id
        )
        client.submit_job(
            "sleep",
            params={
                "steps": 5,
                "gate": serve.gate("sleep"),
                "tag": "slept",
                "effects": str(effects),
            },
        )
        serve.running("unlearn", "sleep")
        client.submit_job("pretrain", params={"dataset": DATA, "model": MODEL, "epochs": 500})

    # every worker's Celery parent
    busy = serve.running("pretrain", "unlearn", "attack", "sleep")
    for group in ("train", "unlearn", "attack", "evaluate"):
        serve.kill(f"worker-{group}-1@")
    serve.lost_and_taken_up(busy)

    # inside a worker
    attack, sleep = serve.running("attack", "sleep")
    wait_for(
        lambda: serve.lease("attack"), TIMEOUT_S, "the attack's worker has a lease process"
    ).parent().kill()
    serve.lost_and_taken_up([attack])
    old = wait_for(
        lambda: serve.lease("evaluate"), TIMEOUT_S, "the other worker has a lease process"
    )
    old.kill()  # costs nothing: another one goes on with the job
    wait_for(
        lambda: serve.lease("evaluate") not in (None, old),
        TIMEOUT_S,
        "a new lease process is there",
    )
    assert queries.get_job(serve.db, TENANT, sleep.id).lost_count == sleep.lost_count

    for gate in ("unlearn", "sleep", "first attack"):
        serve.open_gate(gate)

    # the supervisor: serve says so and ends, and with it all that it kept
    wait_for(
        lambda: all(j.state == "succeeded" for j in serve.jobs() if j.stage in DONE_EARLY),
        TIMEOUT_S,
        "all but attacks",
    )
    serve.running("attack")
    family = serve.supervisor.children(recursive=True)
    serve.supervisor.kill()
    assert serve.process.wait(timeout=TIMEOUT_S) == 1
    assert "the supervisor ended" in serve.log()
    assert psutil.wait_procs(family, timeout=TIMEOUT_S)[1] == []
    serve.start("--workers", "train=0", "unlearn=0", "evaluate=0")

    # serve itself
    serve.running("attack")
    serve.process.kill()
    serve.process.wait()
    serve.open_gate("last attack")
    serve.start("--workers", "train=0", "unlearn=0")

    wait_for(
        lambda: all(j.state in TERMINAL for j in serve.jobs()), TIMEOUT_S, "everything has ended"
    )
    assert {(j.stage, j.state, j.message) for j in serve.jobs()} == {
        (stage, "succeeded", None)
        for stage in (
            "pretrain",
            "train",
            "unlearn",
            "retraining",
            "defend",
            "forgetting",
            "attack",
            "evaluate",
            "selftest",
            "report",
            "sleep",
        )
    }
    with serve.client() as client:
        assert [client.get_audit(audit).state for audit in audits] == ["succeeded", "succeeded"]
    assert effects.read_text() == "slept\n"
