"""Faults around a worker: Redis away, cancel, time limits, silence, drain, a job that always dies."""

from __future__ import annotations

import signal
import time

import pytest

from shared.jobs import control, fleet, reads
from tests.support.sleeping import checkpointed, effects_of, unbroken_again, work
from tests.support.system import TENANT, System, wait_for


@pytest.mark.parametrize("how", ["killed", "flushed", "down at submission"])
def test_redis(sqlite_system: System, how: str) -> None:
    system = sqlite_system
    system.reconciler()
    system.worker("sleep")
    assert system.wait(system.submit("sleep", {"tag": "warm"})).state == "succeeded"
    if how == "down at submission":
        wait_for(lambda: not system.redis.client.llen("sleep"), 10, "every bell was heard")
        time.sleep(0.5)  # and what it was heard for is over
        system.redis.kill()
    first = system.submit("sleep", work(system, "c"))
    second = system.submit("sleep", work(system, "d"), ring=False)
    if how == "down at submission":
        time.sleep(1)
        assert system.job(first).state == "queued"
        system.redis.start()
    else:
        system.wait(first, state="running")
        if how == "killed":
            system.redis.kill()
            time.sleep(1)
            system.redis.start()
        system.redis.client.flushall()
    for job in (first, second):
        ended = system.wait(job, 90)
        assert (ended.state, ended.lost_count) == ("succeeded", 0)
        assert len(effects_of(system, job)) == 1


def test_cancel_needs_no_redis_and_takes_less_than_ten_seconds(system: System) -> None:
    system.worker("sleep")
    running = system.submit("sleep", work(system, "e", steps=1000))
    child = system.submit("sleep", work(system, "f"), inputs={"SLEPT": running})
    system.wait(running, state="running")
    system.redis.kill()
    started = time.monotonic()
    control.cancel_job(system.db, TENANT, running)
    assert system.wait(running, 10).state == "cancelled"
    assert time.monotonic() - started < 10
    assert system.job(child).failure == "input_failed"
    assert not (system.home / "effects-e").exists()


def test_a_stage_that_does_not_listen_is_killed_for_a_cancel_and_for_its_time_limit(sqlite_system: System) -> None:
    system = sqlite_system
    system.worker("sleep")
    deaf = system.submit("sleep", work(system, "g", steps=300, deaf=True))
    system.wait(deaf, state="running")
    control.cancel_job(system.db, TENANT, deaf)
    assert system.wait(deaf, 10).state == "cancelled"
    slow = system.submit("sleep", work(system, "h", steps=300, deaf=True), time_limit=1.0)
    ended = system.wait(slow, 90)
    assert (ended.state, ended.failure) == ("failed", "timeout")


def test_a_stage_that_stands_still_loses_its_lease(sqlite_system: System) -> None:
    system = sqlite_system
    system.env["PALIMPSEST_SILENCE"] = "1.5"
    system.worker("sleep")
    job = system.submit("sleep", work(system, "i", steps=300, deaf=True))
    wait_for(lambda: system.job(job).lost_count == 1, 60, "the attempt is charged")
    assert "no progress" in str([e.data for e in reads.events_after(system.db, TENANT, job, 0)[1]])


def test_a_stage_that_is_given_no_cpu_keeps_its_lease_for_longer(sqlite_system: System) -> None:
    """As on a machine that is too busy: it has said nothing for three times its limit and has hardly computed."""
    system = sqlite_system
    system.env["PALIMPSEST_SILENCE"] = "2"
    system.worker("sleep")
    job = system.wait(system.submit("sleep", work(system, "l", steps=60, deaf=True)), 120)
    assert (job.state, job.attempt, job.lost_count) == ("succeeded", 1, 0)


def test_a_job_that_always_dies_fails_as_lost_worker(sqlite_system: System) -> None:
    system = sqlite_system
    system.worker("sleep")
    job = system.wait(system.submit("sleep", work(system, "j", steps=1, die=True)), 120)
    assert (job.state, job.failure, job.lost_count) == ("failed", "lost_worker", 3)
    assert "3 attempts were lost" in str(job.message)
    healthy = system.wait(system.submit("sleep", {"tag": "after"}), 60)
    assert healthy.state == "succeeded"


def test_drain_puts_the_job_back_free_of_charge(sqlite_system: System) -> None:
    system = sqlite_system
    system.reconciler()
    system.worker("sleep", name="leaving")
    job = system.submit("sleep", work(system, "k", steps=60), fresh=True)
    checkpointed(system, job)
    process = system.processes["leaving"]
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: system.job(job).state == "queued", 15, "the job is back in its queue")
    assert process.wait(timeout=20) == 0
    assert system.job(job).lost_count == 0
    assert "leaving" not in {w.id for w in fleet.fleet(system.db)}
    system.worker("sleep", name="next", wait=0)
    ended = system.wait(job, 60)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 2, 0)
    assert ended.artifacts[0].sha256 == unbroken_again(system, job)
