"""What the lease process does at each tick, on a real store; the child is a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import update
from structlog.contextvars import get_contextvars

from shared.config import Settings
from shared.errors import TransientError
from shared.jobs import attempts, control, queries, submit, worker_registry
from shared.jobs.database import Database
from shared.jobs.device_leases import Device, lease_device, list_device_leases
from shared.jobs.dispatch import Dispatcher
from shared.jobs.records import Claim, PlannedJob
from shared.jobs.tables import jobs
from tests.support.migrated import open_in_memory
from tests.support.waiting import TIMEOUT_S, FastClock
from workers.attempt_state import AttemptState, ControlSignal
from workers.lease_keeper import LeaseKeeper


@dataclass
class Scene:
    db: Database
    page: AttemptState
    keeper: LeaseKeeper
    claim: Claim
    child: subprocess.Popen[bytes]

    @property
    def state(self) -> str:
        return queries.get_job(self.db, "t", self.claim.job.id).state

    def hold(self, stall_timeout_s: float = 60, time_limit: float | None = None) -> None:
        job = {
            "job": self.claim.job.id,
            "fence": self.claim.fence,
            "stall_timeout_s": stall_timeout_s,
        }
        more = {"time_limit": time_limit, "started_at": time.monotonic()}
        self.keeper.handle_command({"lease": 1, **job, **more})


def refuse_connection() -> None:
    raise TransientError("the job store did not answer")


@pytest.fixture
def scene() -> Iterator[Scene]:
    db = open_in_memory()
    worker_registry.register_worker(
        db, "w", host="h", pid=1, stages=("s",), device="cpu", threads=1, versions={}, catalog="c"
    )
    submit.submit_jobs(
        db, "t", [PlannedJob("k", "s", None, {}, 0, (), ("stage:s",), ("OUT",), "code")]
    )
    claim = Dispatcher(db, "w", ["s"], ["stage:s"]).claim(45, "token")
    assert claim is not None
    page = AttemptState.create()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    settings = Settings(stop_grace_s=0.000001)
    yield Scene(db, page, LeaseKeeper(settings, db, page, "w", os.getppid()), claim, child)
    child.kill()
    child.wait()


def test_progress_goes_out_with_the_renewal(scene: Scene) -> None:
    scene.hold()
    scene.page.heartbeat({"done": 1, "total": 2})
    scene.keeper.tick()
    assert queries.get_job(scene.db, "t", scene.claim.job.id).progress == {"done": 1, "total": 2}


def test_the_worker_says_what_memory_it_has(scene: Scene) -> None:
    scene.keeper.tick()
    (worker,) = worker_registry.list_workers(scene.db)
    assert worker.memory_bytes is not None
    assert worker.memory_bytes > 0  # of the process that the keeper watches
    assert worker.device_memory_bytes is None
    scene.page.write_device_memory(3 << 30)
    scene.keeper.tick()
    (worker,) = worker_registry.list_workers(scene.db)
    assert worker.device_memory_bytes == 3 << 30


def test_the_lease_of_a_device_is_renewed_and_says_whether_there_is_a_job(scene: Scene) -> None:
    devices = [Device("GPU-1", 0, "NVIDIA H100", 80 << 30)]
    scene.page.write_device_fence(lease_device(scene.db, "w", "h", devices, 1e-6).fence)
    assert list_device_leases(scene.db, 45) == []  # run out
    scene.keeper.tick()
    (lease,) = list_device_leases(scene.db, 45)
    assert (lease.id, lease.worker, lease.in_use) == ("GPU-1", "w", False)
    scene.hold()
    scene.keeper.tick()
    (lease,) = list_device_leases(scene.db, 45)
    assert lease.in_use


def test_the_lease_of_a_device_is_renewed_once_the_job_store_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [Device("GPU-1", 0, "NVIDIA H100", 80 << 30)]
    scene.page.write_device_fence(lease_device(scene.db, "w", "h", devices, 1e-6).fence)
    scene.hold()
    with monkeypatch.context() as away:
        away.setattr(scene.db, "write", refuse_connection)
        with pytest.raises(TransientError):
            scene.keeper.tick()
    assert list_device_leases(scene.db, 45) == []
    scene.keeper.tick()
    assert [lease.worker for lease in list_device_leases(scene.db, 45)] == ["w"]


def test_lines_name_the_job_while_there_is_one(scene: Scene) -> None:
    fields = scene.claim.log_fields
    command = {"lease": 1, "job": scene.claim.job.id, "fence": 1, "stall_timeout_s": 60}
    more = {"time_limit": None, "started_at": time.monotonic(), "log_fields": fields}
    scene.keeper.handle_command({**command, **more})
    assert get_contextvars() == {**fields, "worker": "w"}
    assert fields == {"job": scene.claim.job.id, "stage": "s", "tenant": "t"}
    scene.keeper.handle_command({"release": 1})
    assert get_contextvars() == {}


def test_cancel_and_drain_come_in(scene: Scene) -> None:
    scene.hold()
    scene.keeper.tick()
    assert scene.page.pending_signal(1) is ControlSignal.NONE
    worker_registry.request_drain(scene.db, "w")
    scene.keeper.tick()
    assert scene.page.pending_signal(1) is ControlSignal.DRAIN
    control.cancel_job(scene.db, "t", scene.claim.job.id)
    scene.keeper.tick()
    assert scene.page.pending_signal(1) is ControlSignal.CANCEL


def test_a_passed_fence_is_told_as_lost(scene: Scene) -> None:
    scene.hold()
    attempts.lose_attempt(scene.db, scene.claim.job.id, scene.claim.fence, "elsewhere", 3)
    scene.keeper.tick()
    assert scene.page.pending_signal(1) is ControlSignal.LOST


@pytest.fixture
def killed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The keeper takes the sleeping process for its own parent, so that what it kills is not the
    test."""
    scene.keeper.child_pid = scene.child.pid
    monkeypatch.setattr(os, "getppid", lambda: scene.child.pid)
    return scene


def test_a_child_that_does_not_obey_is_killed_and_spoken_for(killed: Scene) -> None:
    killed.hold()
    control.cancel_job(killed.db, "t", killed.claim.job.id)
    killed.keeper.tick()
    assert killed.state == "running"
    killed.keeper.tick()
    assert killed.state == "cancelled"
    assert killed.child.wait(TIMEOUT_S) == -signal.SIGKILL


def test_a_child_that_stands_still_is_killed_and_its_job_charged(killed: Scene) -> None:
    killed.hold(stall_timeout_s=0.0)
    killed.page.heartbeat()
    killed.keeper.tick()  # the beat is seen
    killed.keeper.tick()  # and was the last
    assert killed.state == "queued"
    assert queries.get_job(killed.db, "t", killed.claim.job.id).lost_count == 1
    assert killed.child.wait(TIMEOUT_S) == -signal.SIGKILL


def test_the_time_limit_is_not_measured_by_a_clock_that_can_be_set(scene: Scene) -> None:
    scene.hold(time_limit=600)
    with scene.db.write() as connection:  # as it stands when SQL's clock is put forward by an hour
        connection.execute(
            update(jobs).values(started_at=jobs.c.started_at - 3600, time_limit=600.0)
        )
    scene.keeper.tick()
    assert scene.page.pending_signal(1) is ControlSignal.NONE
    scene.hold(time_limit=0.0)
    scene.keeper.tick()
    assert scene.page.pending_signal(1) is ControlSignal.TIMEOUT


def test_a_wait_for_a_store_is_not_held_against_an_attempt(killed: Scene) -> None:
    killed.hold(stall_timeout_s=0.0)
    with killed.page.mark_waiting():
        killed.keeper.tick()
        # nothing but the wait itself could be counted
        killed.keeper.held_lease.stall_detector.max_gap_s = 0.0
        killed.keeper.tick()
    assert killed.state == "running"


def test_a_wait_without_end_gives_the_job_back_free_of_charge(killed: Scene) -> None:
    killed.hold(stall_timeout_s=0.0)
    with killed.page.mark_waiting():
        killed.keeper.tick()
        killed.keeper.tick()
    assert killed.state == "queued"
    assert queries.get_job(killed.db, "t", killed.claim.job.id).lost_count == 0
    assert killed.child.wait(10) == -signal.SIGKILL


def test_a_worker_that_was_forgotten_is_known_again(killed: Scene) -> None:
    """After an hour of sleep another worker's start drops its row: it would get no wake-ups any
    more."""
    about = {
        "host": "h",
        "pid": 1,
        "stages": ["s"],
        "device": "cpu",
        "threads": 1,
        "versions": {},
        "catalog": "c",
    }
    killed.keeper.registration = about
    worker_registry.unregister_worker(killed.db, "w")
    killed.keeper.tick()
    assert worker_registry.count_live_by_stage(killed.db) == {"s": 1}
    killed.keeper.child_pid = 1  # it has left
    worker_registry.unregister_worker(killed.db, "w")
    killed.keeper.tick()
    assert worker_registry.count_live_by_stage(killed.db) == {}


def test_the_end_of_the_pipe_gives_the_job_back_unless_it_was_released(scene: Scene) -> None:
    scene.hold()
    scene.keeper.handle_command({"release": 1})
    scene.keeper.handle_child_exit()
    assert scene.state == "running"
    scene.hold()
    scene.keeper.handle_child_exit()
    assert scene.state == "queued"


def test_how_an_attempt_ended_is_told_however_long_the_job_store_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.hold()
    monkeypatch.setattr("workers.lease_keeper.time", FastClock())
    assert scene.keeper.held_lease is not None
    tries = list(range(12))

    def tell() -> None:
        if tries:
            raise TransientError(f"the job store did not answer: {tries.pop()}")
        told.append(True)

    told: list[bool] = []
    scene.keeper.record_end(scene.keeper.held_lease, tell)
    assert told == [True]
