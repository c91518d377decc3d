"""Workers killed and frozen: the job goes on from its checkpoint, and nothing is written twice."""

from __future__ import annotations

import psutil
import pytest

from tests.support.freezing import freeze
from tests.support.sleep_jobs import (
    make_gated_params,
    open_gate,
    read_effects,
    rerun_undisturbed,
    wait_for_checkpoint,
)
from tests.support.system import System
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(3600)  # each wait has its own limit


def test_pool_child_and_whole_worker_killed_go_on_from_the_checkpoint(system: System) -> None:
    system.start_reconciler()
    system.start_worker("sleep")
    job = system.submit("sleep", make_gated_params(system, "a"))
    wait_for_checkpoint(system, job)
    child = System.find_child(system.processes["worker-sleep"])
    assert child is not None
    child.kill()
    wait_for(lambda: system.get_job(job).attempt == 2, TIMEOUT_S, "the next child takes it up")
    system.kill("worker-sleep")
    system.start_worker("sleep", timeout_s=0)
    wait_for(lambda: system.get_job(job).attempt == 3, TIMEOUT_S, "the next worker takes it up")
    open_gate(system, "a")
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 3, 2)
    assert read_effects(system, job) == ["a"]
    assert ended.artifacts[0].sha256 == rerun_undisturbed(system, job)


def test_a_frozen_worker_that_wakes_changes_nothing(system: System) -> None:
    system.start_reconciler()
    frozen = system.start_worker("sleep", name="frozen")
    job = system.submit("sleep", make_gated_params(system, "b"))
    wait_for_checkpoint(system, job)
    with freeze(psutil.Process(frozen.pid), system.db):
        system.start_worker("sleep", name="other", timeout_s=0)
        open_gate(system, "b")
        ended = system.wait(job)
        assert (ended.state, ended.attempt, ended.lost_count, ended.worker) == (
            "succeeded",
            2,
            1,
            "other",
        )
    wait_for(
        lambda: "fenced out" in system.read_log("frozen"),
        TIMEOUT_S,
        f"the frozen one notices: {system.read_log('frozen')}",
    )
    after = system.get_job(job)
    assert (after.version, after.artifacts) == (ended.version, ended.artifacts)
    # it may have done the work to its end before it noticed, but has published nothing of it
    assert set(read_effects(system, job)) == {"b"}
