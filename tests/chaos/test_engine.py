"""Faults on real processes, with a stage that sleeps: what SQL says must come true whatever dies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from shared.jobs import control, fleet, reads
from tests.support.system import TENANT, System, wait_for

WORK = {"steps": 30, "seconds": 0.1}


def effects_of(system: System, job: str) -> list[str]:
    return Path(system.job(job).params["effects"]).read_text().splitlines()


def work(system: System, tag: str, **more: object) -> dict[str, object]:
    return {**WORK, "tag": tag, "effects": str(system.home / f"effects-{tag}"), **more}


def checkpointed(system: System, job: str) -> None:
    wait_for(lambda: system.job(job).checkpoint, 30, "a checkpoint is written")


def unbroken(system: System, tag: str) -> str:
    """The artifact's digest when nothing goes wrong."""
    job = system.wait(system.submit("sleep", work(system, tag), fresh=True))
    assert job.state == "succeeded", job
    return job.artifacts[0].sha256


def unbroken_again(system: System, job: str) -> str:
    """The digest of the same work, done anew without a break."""
    params = {**system.job(job).params, "seconds": 0.0}
    again = system.wait(system.submit("sleep", params, fresh=True))
    return again.artifacts[0].sha256


def test_pool_child_and_whole_worker_killed_go_on_from_the_checkpoint(system: System) -> None:
    system.reconciler()
    system.worker("sleep")
    wanted = unbroken(system, "a")

    job = system.submit("sleep", work(system, "a"), fresh=True)
    checkpointed(system, job)
    child = System.child_of(system.processes["worker-sleep"])
    assert child is not None
    child.kill()
    wait_for(lambda: system.job(job).attempt == 2, 60, "the next child takes it up")
    checkpointed(system, job)
    system.kill("worker-sleep")
    system.worker("sleep", wait=0)
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 3, 2)
    assert ended.artifacts[0].sha256 == wanted
    assert effects_of(system, job) == ["a", "a"]  # once unbroken, once broken: never doubled


def test_a_frozen_worker_that_wakes_changes_nothing(system: System) -> None:
    system.reconciler()
    frozen = system.worker("sleep", name="frozen")
    job = system.submit("sleep", work(system, "b", steps=40), fresh=True)
    checkpointed(system, job)
    family = [psutil.Process(frozen.pid), *psutil.Process(frozen.pid).children(recursive=True)]
    for process in family:
        process.suspend()
    system.worker("sleep", name="other", wait=0)
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count, ended.worker) == ("succeeded", 2, 1, "other")
    for process in family:
        process.resume()
    wait_for(lambda: "fenced out" in system.log("frozen"), 30, f"the frozen one notices: {system.log('frozen')}")
    after = system.job(job)
    assert (after.version, after.artifacts) == (ended.version, ended.artifacts)
    assert effects_of(system, job) == ["b"]


@pytest.mark.parametrize("how", ["killed", "flushed", "down at submission"])
def test_redis(sqlite_system: System, how: str) -> None:
    system = sqlite_system
    system.reconciler()
    system.worker("sleep")
    if how == "down at submission":
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


@pytest.mark.parametrize(
    "point", ["worker.after_claim", "worker.in_checkpoint", "worker.after_checkpoint", "worker.before_artifacts",
              "worker.after_artifacts", "worker.after_finish"],
)  # fmt: skip
def test_killed_between_any_two_steps(system: System, point: str) -> None:
    """The first worker kills itself at the point; whoever comes next finishes, and only once."""
    system.reconciler()
    doomed = system.worker("sleep", name="doomed", PALIMPSEST_FAILPOINT=point)
    job = system.submit("sleep", work(system, point, steps=10))
    reached = {"worker.after_finish": "succeeded"}.get(point)
    wait_for(
        lambda: system.job(job).state == reached if reached else system.job(job).lost_count >= 1,
        60,
        f"it dies at {point}",
    )
    os.killpg(doomed.pid, signal.SIGKILL)
    doomed.wait()
    system.processes.pop("doomed")
    system.worker("sleep", name="heir", wait=0)
    ended = system.wait(job, 60)
    assert ended.state == "succeeded"
    assert len(ended.artifacts) == 1
    assert system.artifacts.get(ended.artifacts[0].sha256)
    # what was done before the kill was done twice only where the kill came between the work and its record
    redone = point in ("worker.before_artifacts", "worker.after_artifacts")
    assert len(effects_of(system, job)) >= 1 + redone
    healthy = system.wait(system.submit("sleep", {"tag": f"after {point}"}), 60)
    assert healthy.state == "succeeded"
