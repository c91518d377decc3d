"""Workers killed and frozen: the job goes on from its checkpoint, and nothing is written twice."""

from __future__ import annotations

import psutil
import pytest

from tests.support.sleeping import checkpointed, effects_of, gated, open_gate, unbroken_again
from tests.support.system import System
from tests.support.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.timeout(3600)  # each wait has its own limit


def test_pool_child_and_whole_worker_killed_go_on_from_the_checkpoint(system: System) -> None:
    system.reconciler()
    system.worker("sleep")
    job = system.submit("sleep", gated(system, "a"))
    checkpointed(system, job)
    child = System.child_of(system.processes["worker-sleep"])
    assert child is not None
    child.kill()
    wait_for(lambda: system.job(job).attempt == 2, PATIENCE, "the next child takes it up")
    system.kill("worker-sleep")
    system.worker("sleep", wait=0)
    wait_for(lambda: system.job(job).attempt == 3, PATIENCE, "the next worker takes it up")
    open_gate(system, "a")
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 3, 2)
    assert effects_of(system, job) == ["a"]
    assert ended.artifacts[0].sha256 == unbroken_again(system, job)


def test_a_frozen_worker_that_wakes_changes_nothing(system: System) -> None:
    system.reconciler()
    frozen = system.worker("sleep", name="frozen")
    job = system.submit("sleep", gated(system, "b"))
    checkpointed(system, job)
    family = [psutil.Process(frozen.pid), *psutil.Process(frozen.pid).children(recursive=True)]
    for process in family:
        process.suspend()
    system.worker("sleep", name="other", wait=0)
    open_gate(system, "b")
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count, ended.worker) == ("succeeded", 2, 1, "other")
    for process in family:
        process.resume()
    wait_for(lambda: "fenced out" in system.log("frozen"), PATIENCE, f"the frozen one notices: {system.log('frozen')}")
    after = system.job(job)
    assert (after.version, after.artifacts) == (ended.version, ended.artifacts)
    # it may have done the work to its end before it noticed, but has published nothing of it
    assert set(effects_of(system, job)) == {"b"}
