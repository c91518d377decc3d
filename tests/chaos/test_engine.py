"""Faults around a worker: Redis away, cancel, time limits, silence, drain, a job that always dies."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from shared.jobs import control, fleet, reads
from tests.support.sleeping import LONG, checkpointed, effects_of, gated, open_gate, unbroken_again, work
from tests.support.system import TENANT, System
from tests.support.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.timeout(3600)  # each wait has its own limit
Share = Callable[[str], System]


@pytest.mark.parametrize("how", ["killed", "flushed", "down at submission"])
def test_redis(shared_system: Share, how: str) -> None:
    system = shared_system("sqlite")
    assert system.wait(system.submit("sleep", {"tag": f"warm {how}"})).state == "succeeded"
    if how == "down at submission":
        wait_for(lambda: not system.redis.client.llen("sleep"), PATIENCE, "every bell was heard")
        system.redis.kill()
    first = system.submit("sleep", gated(system, f"first {how}"))
    second = system.submit("sleep", work(system, f"second {how}"), ring=False)
    if how != "down at submission":
        system.wait(first, state="running")
    if how == "killed":
        system.redis.kill()
    if how != "flushed":
        system.redis.start()
    system.redis.client.flushall()
    open_gate(system, f"first {how}")
    for job in (first, second):
        ended = system.wait(job)
        assert (ended.state, ended.lost_count) == ("succeeded", 0)
        assert len(effects_of(system, job)) == 1


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_cancel_needs_no_redis_and_ends_what_runs(shared_system: Share, store: str) -> None:
    system = shared_system(store)
    running = system.submit("sleep", gated(system, "e"))
    child = system.submit("sleep", work(system, "f"), inputs={"SLEPT": running})
    system.wait(running, state="running")
    system.redis.kill()
    control.cancel_job(system.db, TENANT, running)
    assert system.wait(running).state == "cancelled"
    assert system.job(child).failure == "input_failed"
    assert not (system.home / "effects-e").exists()


def test_a_stage_that_does_not_listen_is_killed_for_a_cancel_and_for_its_time_limit(shared_system: Share) -> None:
    system = shared_system("sqlite")
    deaf = system.submit("sleep", work(system, "g", **LONG, deaf=True))
    system.wait(deaf, state="running")
    control.cancel_job(system.db, TENANT, deaf)
    assert system.wait(deaf).state == "cancelled"
    slow = system.submit("sleep", work(system, "h", **LONG, deaf=True), time_limit=1.0)
    ended = system.wait(slow)
    assert (ended.state, ended.failure) == ("failed", "timeout")


def test_a_stage_that_stands_still_loses_its_lease(sqlite_system: System) -> None:
    system = sqlite_system
    system.env["PALIMPSEST_SILENCE"] = "1.5"
    system.worker("sleep")
    job = system.submit("sleep", work(system, "i", **LONG, deaf=True))
    wait_for(lambda: system.job(job).lost_count == 1, PATIENCE, "the attempt is charged")
    assert "no progress" in str([e.data for e in reads.events_after(system.db, TENANT, job, 0)[1]])


def test_a_stage_that_is_given_no_cpu_keeps_its_lease_for_longer(sqlite_system: System) -> None:
    """As on a machine that is too busy: it has said nothing for three times its limit and has hardly computed."""
    system = sqlite_system
    system.env["PALIMPSEST_SILENCE"] = "2"
    system.worker("sleep")
    job = system.wait(system.submit("sleep", work(system, "l", steps=60, deaf=True)))
    assert (job.state, job.attempt, job.lost_count) == ("succeeded", 1, 0)


def test_a_job_that_always_dies_fails_as_lost_worker(shared_system: Share) -> None:
    system = shared_system("sqlite")
    job = system.wait(system.submit("sleep", work(system, "j", steps=1, die=True)))
    assert (job.state, job.failure, job.lost_count) == ("failed", "lost_worker", 3)
    assert "3 attempts were lost" in str(job.message)
    healthy = system.wait(system.submit("sleep", {"tag": "after"}))
    assert healthy.state == "succeeded"


def test_drain_puts_the_job_back_free_of_charge(sqlite_system: System) -> None:
    system = sqlite_system
    system.reconciler()
    system.worker("sleep", name="leaving")
    job = system.submit("sleep", gated(system, "k"))
    checkpointed(system, job)
    process = system.processes["leaving"]
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: system.job(job).state == "queued", PATIENCE, "the job is back in its queue")
    assert process.wait(timeout=PATIENCE) == 0
    assert system.job(job).lost_count == 0
    assert "leaving" not in {w.id for w in fleet.fleet(system.db)}
    system.worker("sleep", name="next", wait=0)
    open_gate(system, "k")
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 2, 0)
    assert ended.artifacts[0].sha256 == unbroken_again(system, job)
