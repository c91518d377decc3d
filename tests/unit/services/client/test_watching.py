"""services.client.watching: the follower without a network."""

from __future__ import annotations

from typing import Any

import pytest

from services.client.records import Audit, Job, Page
from services.client.watching import WINDOW, Follower, Rate, Update


def job(state: str, done: float = 0, total: float = 10, name: str = "job_1", **more: Any) -> Job:
    return Job(name, "attack", state, method="invert", progress={"done": done, "total": total, "loss": 0.5}, **more)


def drive(follower: Follower, *answers: object, etag: str | None = None) -> list[Update]:
    """One round."""
    asked = follower.calls()
    assert len(asked) == len(answers), [c.path for c in asked]
    return [u for call, answer in zip(asked, answers, strict=True) for u in follower.take(call, answer, etag)]  # type: ignore[arg-type]


def test_a_job_to_its_end():
    now = [0.0]
    follower = Follower(["job_1"], clock=lambda: now[0])
    (first,) = drive(follower, job("queued", total=0), etag='"1"')
    assert (first.state, first.label, first.rate) == ("queued", "attack invert", None)
    assert follower.calls()[0].headers["If-None-Match"] == '"1"'
    assert drive(follower, None) == []  # 304
    drive(follower, job("running", 0))
    now[0] = 2.0
    (second,) = drive(follower, job("running", 4))
    assert (second.rate, second.left, second.numbers) == (2.0, 3.0, {"loss": 0.5})
    assert drive(follower, job("running", 4)) == []  # time alone is no update
    (stopping,) = drive(follower, job("running", 4, stopping=True))
    assert stopping.state == "stopping"
    (last,) = drive(follower, job("failed", 4, failure="error", message="m"))
    assert (last.ended, last.failure, last.message, last.left) == (True, "error", "m", None)
    assert follower.open == {}
    assert follower.calls() == []


def test_an_audit_shows_its_running_jobs_and_how_they_ended():
    follower = Follower(["aud_1"])
    audit = Audit("aud_1", "n", "running", {"running": 1, "waiting": 1})
    found = drive(follower, Page([job("running", 1)], None), audit)
    assert [(u.id, u.asked, u.done, u.total) for u in found] == [("job_1", False, 1, 10), ("aud_1", True, 0, 2)]
    follower.take(follower.calls()[0], Page([], None))  # it does not run any more
    after = Audit("aud_1", "n", "running", {"succeeded": 1, "queued": 1})
    found = drive(follower, job("succeeded", 10), Page([], None), after)
    assert [(u.id, u.state) for u in found] == [("job_1", "succeeded"), ("aud_1", "running")]
    found = drive(follower, Page([], None), Audit("aud_1", "n", "failed", {"succeeded": 1, "failed": 1}))
    assert (found[0].ended, found[0].state, found[0].done) == (True, "failed", 2)
    assert not follower.open


def test_a_job_that_is_asked_for_itself_is_not_shown_twice():
    follower = Follower(["aud_1", "job_1"])
    audit = Audit("aud_1", "n", "running", {"running": 1})
    found = drive(follower, Page([job("running", 1)], None), audit, job("running", 1))
    assert [(u.id, u.asked) for u in found] == [("aud_1", True), ("job_1", True)]


def test_a_rate_is_over_the_last_half_minute_and_starts_anew_with_an_attempt():
    rate = Rate()
    assert rate.add(0, 0) is None
    assert rate.add(10, 10) == 1
    assert rate.add(WINDOW + 10, 10 + 2 * WINDOW) == pytest.approx(2)  # the slow start is forgotten
    assert rate.add(WINDOW + 11, 0) is None
    assert rate.add(WINDOW + 12, 5) == 5
