"""Workers killed and frozen: the job goes on from its checkpoint, and nothing is written twice."""

from __future__ import annotations

import psutil

from tests.support.sleeping import checkpointed, effects_of, unbroken, work
from tests.support.system import System, wait_for


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
