"""Faults around a worker: Redis away, cancel, time limits, stalls, drain, a job that always
dies."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from shared.jobs import control, queries, worker_registry
from tests.support.sleep_jobs import (
    LONG_PARAMS,
    make_gated_params,
    make_params,
    open_gate,
    read_effects,
    rerun_undisturbed,
    wait_for_checkpoint,
)
from tests.support.system import TENANT, System
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(3600)  # each wait has its own limit
Share = Callable[[str], System]


@pytest.mark.parametrize("how", ["killed", "flushed", "down at submission"])
def test_redis(shared_system: Share, how: str) -> None:
    system = shared_system("sqlite")
    assert system.wait(system.submit("sleep", {"tag": f"warm {how}"})).state == "succeeded"
    if how == "down at submission":
        wait_for(
            lambda: not system.redis.client.llen("sleep"), TIMEOUT_S, "every wake-up was handled"
        )
        system.redis.kill()
    first = system.submit("sleep", make_gated_params(system, f"first {how}"))
    second = system.submit("sleep", make_params(system, f"second {how}"), notify=False)
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
        assert len(read_effects(system, job)) == 1


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_cancel_needs_no_redis_and_ends_what_runs(shared_system: Share, store: str) -> None:
    system = shared_system(store)
    running = system.submit("sleep", make_gated_params(system, "e"))
    child = system.submit("sleep", make_params(system, "f"), inputs={"SLEPT": running})
    system.wait(running, state="running")
    system.redis.kill()
    control.cancel_job(system.db, TENANT, running)
    assert system.wait(running).state == "cancelled"
    assert system.get_job(child).failure == "input_failed"
    assert not (system.home / "effects-e").exists()


def test_a_stage_that_does_not_listen_is_killed_for_a_cancel_and_for_its_time_limit(
    shared_system: Share,
) -> None:
    system = shared_system("sqlite")
    deaf = system.submit("sleep", make_params(system, "g", **LONG_PARAMS, deaf=True))
    system.wait(deaf, state="running")
    control.cancel_job(system.db, TENANT, deaf)
    assert system.wait(deaf).state == "cancelled"
    slow = system.submit(
        "sleep", make_params(system, "h", **LONG_PARAMS, deaf=True), time_limit=1.0
    )
    ended = system.wait(slow)
    assert (ended.state, ended.failure) == ("failed", "timeout")


def test_a_stage_that_stands_still_loses_its_lease(sqlite_system: System) -> None:
    system = sqlite_system
    system.env["PALIMPSEST_STALL_TIMEOUT_S"] = "1.5"
    system.start_worker("sleep")
    job = system.submit("sleep", make_params(system, "i", **LONG_PARAMS, deaf=True))
    wait_for(lambda: system.get_job(job).lost_count == 1, TIMEOUT_S, "the attempt is charged")
    assert "no progress" in str([e.data for e in queries.list_events(system.db, TENANT, job, 0)[1]])


def test_a_stage_that_is_given_no_cpu_keeps_its_lease_for_longer(sqlite_system: System) -> None:
    """As on a machine that is too busy: it has said nothing for three times its limit and has
    hardly computed."""
    system = sqlite_system
    system.env["PALIMPSEST_STALL_TIMEOUT_S"] = "2"
    system.start_worker("sleep")
    job = system.wait(system.submit("sleep", make_params(system, "l", steps=60, deaf=True)))
    assert (job.state, job.attempt, job.lost_count) == ("succeeded", 1, 0)


def test_a_job_that_always_dies_fails_as_lost_worker(shared_system: Share) -> None:
    system = shared_system("sqlite")
    job = system.wait(system.submit("sleep", make_params(system, "j", steps=1, die=True)))
    assert (job.state, job.failure, job.lost_count) == ("failed", "lost_worker", 3)
    assert "3 attempts were lost" in str(job.message)
    healthy = system.wait(system.submit("sleep", {"tag": "after"}))
    assert healthy.state == "succeeded"


def test_drain_puts_the_job_back_free_of_charge(sqlite_system: System) -> None:
    system = sqlite_system
    system.start_reconciler()
    system.start_worker("sleep", name="leaving")
    job = system.submit("sleep", make_gated_params(system, "k"))
    wait_for_checkpoint(system, job)
    process = system.processes["leaving"]
    process.send_signal(signal.SIGTERM)
    wait_for(
        lambda: system.get_job(job).state == "queued", TIMEOUT_S, "the job is back in its queue"
    )
    assert process.wait(timeout=TIMEOUT_S) == 0
    assert system.get_job(job).lost_count == 0
    assert "leaving" not in {w.id for w in worker_registry.list_workers(system.db)}
    system.start_worker("sleep", name="next", timeout_s=0)
    open_gate(system, "k")
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 2, 0)
    assert ended.artifacts[0].sha256 == rerun_undisturbed(system, job)
