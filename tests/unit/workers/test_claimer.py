"""No claim is forgotten: the job store answers late, not at all, or after it has taken the job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.errors import TransientError
from shared.jobs import queries, submit
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from shared.jobs.records import Claim, PlannedJob
from tests.support.migrated import open_in_memory
from workers import claimer
from workers.claimer import MAX_TRIES, Claimer


class Line:
    """A real dispatcher at the end of a bad line: each call does or does not go out, and is or is
    not answered."""

    def __init__(self, db: Database) -> None:
        self.real = Dispatcher(db, "w", ["s"], ["stage:s"])
        self.fate: list[str] = []
        self.asked: list[str] = []

    def _over(self, what: str, token: str, lease: float = 60) -> Claim | None:
        self.asked.append(what)
        fate = self.fate.pop(0) if self.fate else "well"
        answer = None
        if fate != "cut":
            answer = (
                self.real.claim(lease, token) if what == "claim" else self.real.find_claim(token)
            )
        if fate != "well":
            raise TransientError("the job store hung up")
        return answer

    def claim(self, lease: float, token: str) -> Claim | None:
        return self._over("claim", token, lease)

    def find_claim(self, token: str) -> Claim | None:
        return self._over("find", token)


class Scene:
    def __init__(self) -> None:
        self.db = open_in_memory()
        self.line, self.wakeup = Line(self.db), InMemoryWakeup()
        self.sender = WakeupSender(self.wakeup)
        self.claimer = Claimer(self.line, self.sender, "s", 60)

    def post(self, key: str) -> str:
        job = PlannedJob(key, "s", None, {}, 0, (), ("stage:s",), ("OUT",), "code")
        return submit.submit_jobs(self.db, "t", [job]).jobs[key]

    def attempts(self, job: str) -> int:
        return queries.get_job(self.db, "t", job).attempt


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(claimer, "RETRY_PAUSE_S", 0.0)
    made = Scene()
    yield made
    made.sender.close()


def test_a_claim_whose_answer_was_lost_is_found(scene: Scene) -> None:
    job = scene.post("a")
    scene.line.fate = ["lost", "cut", "lost"]
    claim = scene.claimer.claim()
    assert claim is not None
    assert (claim.job.id, claim.fence, scene.attempts(job)) == (job, 1, 1)
    assert scene.line.asked == ["claim", "find", "find", "find"]
    assert scene.claimer.claim() is None  # it is not found twice
    assert scene.line.asked[4:] == ["claim"]


def test_a_claim_that_never_went_out_is_made_again(scene: Scene) -> None:
    job = scene.post("a")
    scene.line.fate = ["cut"]
    claim = scene.claimer.claim()
    assert claim is not None
    assert (claim.job.id, scene.attempts(job)) == (job, 1)
    assert scene.line.asked == ["claim", "find", "claim"]


def test_a_job_store_that_stays_away_lets_the_worker_hear_its_orders_and_look_again(
    scene: Scene,
) -> None:
    job = scene.post("a")
    scene.line.fate = ["lost"] + ["cut"] * (MAX_TRIES - 1)
    assert scene.claimer.claim() is None
    claim = scene.claimer.claim()
    assert claim is not None
    assert (claim.job.id, scene.attempts(job)) == (job, 1)
    scene.sender.close()
    assert scene.wakeup.notified_stages == ["s"]


def test_a_claim_that_was_given_to_another_meanwhile_is_not_found(scene: Scene) -> None:
    job = scene.post("a")
    scene.line.fate = ["lost"] + ["cut"] * (MAX_TRIES - 1)
    assert scene.claimer.claim() is None
    with scene.db.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'queued', lease_until = NULL")
    taken = Dispatcher(scene.db, "other", ["s"], ["stage:s"]).claim(60, "token")
    assert taken is not None
    assert scene.claimer.claim() is None
    assert scene.attempts(job) == 2
