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

from shared.config import Settings
from shared.errors import TransientError
from shared.jobs import claims, control, fleet, reads, submit
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.migrations import migrate
from shared.jobs.records import Claim, PlannedJob
from shared.jobs.tables import jobs
from tests.support.waiting import PATIENCE, FastClock
from workers.keeper import Keeper
from workers.page import Order, Page


@dataclass
class Scene:
    db: Database
    page: Page
    keeper: Keeper
    claim: Claim
    child: subprocess.Popen[bytes]

    @property
    def state(self) -> str:
        return reads.get_job(self.db, "t", self.claim.job.id).state

    def hold(self, silence: float = 60, time_limit: float | None = None) -> None:
        job = {"job": self.claim.job.id, "fence": self.claim.fence, "silence": silence}
        more = {"time_limit": time_limit, "began": time.monotonic()}
        self.keeper.obey({"hold": 1, **job, **more})


@pytest.fixture
def scene() -> Iterator[Scene]:
    db = Database("sqlite://")
    migrate(db)
    fleet.register(db, "w", host="h", pid=1, stages=("s",), device="cpu", threads=1, versions={}, catalog="c")
    submit.submit(db, "t", [PlannedJob("k", "s", None, {}, 0, (), ("stage:s",), ("OUT",), "code")])
    claim = Dispatcher(db, "w", ["s"], ["stage:s"]).claim(45, "token")
    assert claim is not None
    page = Page.create()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    settings = Settings(obey_within=0.000001)
    yield Scene(db, page, Keeper(settings, db, page, "w", os.getppid()), claim, child)
    child.kill()
    child.wait()


def test_progress_goes_out_with_the_renewal(scene: Scene) -> None:
    scene.hold()
    scene.page.beat({"done": 1, "total": 2})
    scene.keeper.tick()
    assert reads.get_job(scene.db, "t", scene.claim.job.id).progress == {"done": 1, "total": 2}


def test_cancel_and_drain_come_in(scene: Scene) -> None:
    scene.hold()
    scene.keeper.tick()
    assert scene.page.orders(1) is Order.NONE
    fleet.drain(scene.db, "w")
    scene.keeper.tick()
    assert scene.page.orders(1) is Order.DRAIN
    control.cancel_job(scene.db, "t", scene.claim.job.id)
    scene.keeper.tick()
    assert scene.page.orders(1) is Order.CANCEL


def test_a_passed_fence_is_told_as_lost(scene: Scene) -> None:
    scene.hold()
    claims.lose(scene.db, scene.claim.job.id, scene.claim.fence, "elsewhere", 3)
    scene.keeper.tick()
    assert scene.page.orders(1) is Order.LOST


@pytest.fixture
def killed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The keeper takes the sleeping process for its own parent, so that what it kills is not the test."""
    scene.keeper.child = scene.child.pid
    monkeypatch.setattr(os, "getppid", lambda: scene.child.pid)
    return scene


def test_a_child_that_does_not_obey_is_killed_and_spoken_for(killed: Scene) -> None:
    killed.hold()
    control.cancel_job(killed.db, "t", killed.claim.job.id)
    killed.keeper.tick()
    assert killed.state == "running"
    killed.keeper.tick()
    assert killed.state == "cancelled"
    assert killed.child.wait(PATIENCE) == -signal.SIGKILL


def test_a_child_that_stands_still_is_killed_and_its_job_charged(killed: Scene) -> None:
    killed.hold(silence=0.0)
    killed.page.beat()
    killed.keeper.tick()  # the beat is seen
    killed.keeper.tick()  # and was the last
    assert killed.state == "queued"
    assert reads.get_job(killed.db, "t", killed.claim.job.id).lost_count == 1
    assert killed.child.wait(PATIENCE) == -signal.SIGKILL


def test_the_time_limit_is_not_measured_by_a_clock_that_can_be_set(scene: Scene) -> None:
    scene.hold(time_limit=600)
    with scene.db.write() as connection:  # as it stands when SQL's clock is put forward by an hour
        connection.execute(update(jobs).values(started_at=jobs.c.started_at - 3600, time_limit=600.0))
    scene.keeper.tick()
    assert scene.page.orders(1) is Order.NONE
    scene.hold(time_limit=0.0)
    scene.keeper.tick()
    assert scene.page.orders(1) is Order.TIMEOUT


def test_a_wait_for_a_store_is_not_held_against_an_attempt(killed: Scene) -> None:
    killed.hold(silence=0.0)
    with killed.page.waiting():
        killed.keeper.tick()
        killed.keeper.hold.stall.gap = 0.0  # nothing but the wait itself could be counted
        killed.keeper.tick()
    assert killed.state == "running"


def test_a_wait_without_end_gives_the_job_back_free_of_charge(killed: Scene) -> None:
    killed.hold(silence=0.0)
    with killed.page.waiting():
        killed.keeper.tick()
        killed.keeper.tick()
    assert killed.state == "queued"
    assert reads.get_job(killed.db, "t", killed.claim.job.id).lost_count == 0
    assert killed.child.wait(10) == -signal.SIGKILL


def test_a_worker_that_was_forgotten_is_known_again(killed: Scene) -> None:
    """After an hour of sleep another worker's start drops its row: nobody would ring for it any more."""
    about = {"host": "h", "pid": 1, "stages": ["s"], "device": "cpu", "threads": 1, "versions": {}, "catalog": "c"}
    killed.keeper.about = about
    fleet.gone(killed.db, "w")
    killed.keeper.tick()
    assert fleet.live_by_stage(killed.db) == {"s": 1}
    killed.keeper.child = 1  # it has left
    fleet.gone(killed.db, "w")
    killed.keeper.tick()
    assert fleet.live_by_stage(killed.db) == {}


def test_the_end_of_the_pipe_gives_the_job_back_unless_it_was_released(scene: Scene) -> None:
    scene.hold()
    scene.keeper.obey({"release": 1})
    scene.keeper.child_died()
    assert scene.state == "running"
    scene.hold()
    scene.keeper.child_died()
    assert scene.state == "queued"


def test_how_an_attempt_ended_is_told_however_long_the_job_store_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.hold()
    monkeypatch.setattr("workers.keeper.time", FastClock())
    assert scene.keeper.hold is not None
    tries = list(range(12))

    def tell() -> None:
        if tries:
            raise TransientError(f"the job store did not answer: {tries.pop()}")
        told.append(True)

    told: list[bool] = []
    scene.keeper.record(scene.keeper.hold, tell)
    assert told == [True]
