"""A worker's name comes back: `make serve` and containers start the next one under the name of the
last."""

from __future__ import annotations

import signal
import subprocess

import pytest

from shared.jobs import worker_registry
from tests.support.sleep_jobs import make_params
from tests.support.system import System, wait_for
from tests.support.waiting import TIMEOUT_S


def test_one_killed_while_it_drains_takes_jobs_again_under_the_same_name(system: System) -> None:
    process = system.start_worker("sleep")
    deaf = system.submit("sleep", make_params(system, "deaf", steps=600, deaf=True))
    system.wait(deaf, state="running")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: drains(system), TIMEOUT_S, "it is told to drain")
    system.kill("worker-sleep", group=True)
    assert drains(system)  # the row is as it was left

    system.start_worker("sleep")
    after = system.wait(system.submit("sleep", {"tag": "after"}))
    assert (after.state, after.worker) == ("succeeded", "worker-sleep")


def test_a_pool_child_that_is_replaced_while_its_worker_drains_takes_nothing(
    system: System,
) -> None:
    process = system.start_worker("sleep")
    first = System.find_child(process)
    assert first is not None
    worker_registry.request_drain(system.db, "worker-sleep")
    first.kill()
    wait_for(
        lambda: (c := System.find_child(process)) and c.pid != first.pid,
        TIMEOUT_S,
        "another child registers",
    )
    waiting = system.submit("sleep", {"tag": "waiting"})
    wait_for(lambda: not system.redis.client.llen("sleep"), TIMEOUT_S, "its wake-up was handled")
    assert drains(system)
    assert system.get_job(waiting).state == "queued"


@pytest.mark.long
def test_sigterm_at_any_moment_of_a_start_ends_the_worker_and_leaves_no_mark(
    sqlite_system: System,
) -> None:
    """Beside the row of an earlier worker of the name, which was killed while it drained."""
    system = sqlite_system
    process = system.start_worker("sleep")
    worker_registry.request_drain(system.db, "worker-sleep")
    system.kill("worker-sleep", group=True)
    for seconds in (0.3, 1.0, 2.0, 3.0):
        process = system.start_worker("sleep", timeout_s=0)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=TIMEOUT_S) in (0, -signal.SIGTERM), system.read_log(
            "worker-sleep"
        )
    system.start_worker("sleep")
    assert system.wait(system.submit("sleep", {"tag": "after"})).state == "succeeded"


def drains(system: System) -> bool:
    return any(w.id == "worker-sleep" and w.drain for w in worker_registry.list_workers(system.db))
