"""A drain, a pause and a bulk cancel of 5,000 jobs on a system of real processes, by the command
line."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.jobs import bulk_cancel, queries, submit, worker_registry
from shared.jobs.filters import JobFilter
from shared.jobs.plan import plan_job
from shared.jobs.states import State
from tests.support.cli import Runner, make_runner
from tests.support.servers import find_free_port
from tests.support.sleep_jobs import make_gated_params, make_params, open_gate
from tests.support.system import TENANT, System
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.slow

WORKER = "worker-sleep"
COUNT = 5000


class Served(System):
    """A gateway on a fixed port, a reconciler and one worker."""

    def __init__(self, home: Path, tree: Path) -> None:
        super().__init__(home, tree)
        self.port = find_free_port()
        self.url = self.start_gateway(self.port)
        self.start_reconciler()
        self.start_worker("sleep", WORKER)

    def restart_gateway(self, **env: str) -> None:
        self.kill("gateway", group=True)
        self.start_gateway(self.port, **env)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, sleep_tree: Path) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("system"), sleep_tree)
    yield made
    made.close()


@pytest.fixture
def run(
    system: Served, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Runner:
    return make_runner(system.url, monkeypatch, capfdbinary)


def test_a_drained_worker_stays_drained_when_it_is_started_again(
    system: Served, run: Runner
) -> None:
    job = system.submit("sleep", make_gated_params(system, "drained"))
    system.wait(job, state="running")
    drained = run("drain", WORKER, "--wait")
    assert (drained.returncode, f"{WORKER} is drained" in drained.stderr) == (0, True)
    assert (system.get_job(job).state, system.get_job(job).lost_count) == ("queued", 0)
    # it keeps no wake-up from other workers but the one that it passes on
    wait_for(lambda: system.redis.client.llen("sleep"), TIMEOUT_S, "wake-ups stay in their queue")

    system.kill(WORKER, group=True)  # as a supervisor would find it
    system.start_worker("sleep", WORKER)
    time.sleep(2)  # several rounds of the reconciler, which wakes nobody for it
    assert system.get_job(job).state == "queued"
    (seen,) = worker_registry.list_workers(system.db)
    assert (seen.live, seen.drain, seen.job) == (True, True, None)
    assert "takes jobs" in run("undrain", WORKER).stderr
    open_gate(system, "drained")
    assert system.wait(job).state == "succeeded"


def test_nothing_of_a_paused_stage_is_claimed_until_it_is_resumed(
    system: Served, run: Runner
) -> None:
    running = system.submit("sleep", make_gated_params(system, "running"))
    system.wait(running, state="running")
    assert "is paused" in run("pause", "--stage", "sleep").stderr
    queued = system.submit("sleep", make_params(system, "queued"))
    open_gate(system, "running")
    assert system.wait(running).state == "succeeded"  # what runs goes on
    system.restart_gateway()
    time.sleep(1.5)  # three rounds of the reconciler
    assert system.get_job(queued).state == "queued"
    (queue,) = (q for q in json.loads(run("queues", "--json").stdout) if q["stage"] == "sleep")
    assert (queue["paused_at"] is not None, queue["counts"]["queued"]) == (True, 1)
    assert run("resume", "--stage", "sleep").returncode == 0
    assert system.wait(queued).state == "succeeded"


def test_a_bulk_cancel_of_5000_jobs_survives_the_death_of_the_gateway(
    system: Served, run: Runner
) -> None:
    run("pause", "--stage", "sleep")
    one = plan_job(
        system.load_catalog(), "sleep", None, {"tag": "bulk"}, 0, (), parent_request_keys={}
    )
    planned = [
        replace(one, request_key=hashlib.sha256(f"{n}".encode()).hexdigest()) for n in range(COUNT)
    ]
    audit = submit.AuditRequest("bulk", {}, labels={"run": "7"})
    submit.submit_jobs(system.db, TENANT, planned, audit=audit)
    theirs = submit.submit_jobs(system.db, "another tenant", planned[:3])
    selection = ("--label", "run=7", "--state", "queued")
    seen = json.loads(run("cancel", *selection, "--dry-run", "--json").stdout)
    assert (seen["cancelled"], seen["remaining"]) == (COUNT, 0)

    system.restart_gateway(PALIMPSEST_FAILPOINT="bulk_cancel.between_slices")
    assert run("cancel", *selection, "--yes").returncode != 0
    left = _count(system)
    assert 0 < left < COUNT  # some are cancelled, and stay so
    system.restart_gateway()
    done = run("cancel", *selection, "--created-before", seen["created_before"], "--json")
    assert json.loads(done.stdout)["cancelled"] == left
    assert _count(system) == 0
    for job_id in theirs.jobs.values():
        assert queries.get_job(system.db, "another tenant", job_id).state == "queued"
    assert queries.list_audits(system.db, TENANT).items[0].counts == {"cancelled": COUNT}
    run("resume", "--stage", "sleep")


def _count(system: Served) -> int:
    """How many jobs of the tenant are queued."""
    counts = bulk_cancel.count_cancellable(system.db, TENANT, JobFilter(state=State.QUEUED))
    return counts.get("queued", 0)
