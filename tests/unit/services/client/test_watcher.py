"""services.client.watcher: without a network."""

from __future__ import annotations

from typing import Any

import pytest

from services.client.records import Audit, Job, Page
from services.client.watcher import Update, Watcher


def job(state: str, done: float = 0, total: float = 10, name: str = "job_1", **more: Any) -> Job:
    return Job(
        name,
        "attack",
        state,
        method="invert",
        progress={"done": done, "total": total, "loss": 0.5},
        **more,
    )


def drive(watcher: Watcher, *answers: object, etag: str | None = None) -> list[Update]:
    """One round."""
    requested = watcher.start_round()
    assert len(requested) == len(answers), [c.path for c in requested]
    return [
        u
        for call, answer in zip(requested, answers, strict=True)
        for u in watcher.read_answer(call, answer, etag)
    ]  # type: ignore[arg-type]


def test_a_job_to_its_end():
    now = [0.0]
    watcher = Watcher(["job_1"], clock=lambda: now[0], wall_clock=lambda: now[0])
    (first,) = drive(watcher, job("queued", total=0), etag='"1"')
    assert (first.state, first.label, first.steps_per_s) == ("queued", "attack invert", None)
    assert watcher.start_round()[0].headers["If-None-Match"] == '"1"'
    assert drive(watcher, None) == []  # 304
    drive(watcher, job("running", 0))
    now[0] = 2.0
    (second,) = drive(watcher, job("running", 4))
    assert (second.steps_per_s, second.numbers) == (2.0, {"loss": 0.5})
    assert drive(watcher, job("running", 4)) == []  # time alone is no update
    (stopping,) = drive(watcher, job("running", 4, stopping=True))
    assert stopping.state == "stopping"
    (last,) = drive(watcher, job("failed", 4, failure="error", message="m"))
    assert (last.is_final, last.failure, last.message, last.remaining_s) == (
        True,
        "error",
        "m",
        None,
    )
    assert watcher.open_ids == {}
    assert watcher.start_round() == []


def test_an_audit_shows_its_running_jobs_and_how_they_ended():
    watcher = Watcher(["aud_1"])
    audit = Audit("aud_1", "n", "running", {"running": 1, "waiting": 1})
    found = drive(watcher, Page([job("running", 1)], None), audit)
    assert [(u.id, u.requested, u.done, u.total) for u in found] == [
        ("job_1", False, 1, 10),
        ("aud_1", True, 0, 2),
    ]
    watcher.read_answer(watcher.start_round()[0], Page([], None))  # it does not run any more
    after = Audit("aud_1", "n", "running", {"succeeded": 1, "queued": 1})
    found = drive(watcher, job("succeeded", 10), Page([], None), after)
    assert [(u.id, u.state) for u in found] == [("job_1", "succeeded"), ("aud_1", "running")]
    found = drive(
        watcher, Page([], None), Audit("aud_1", "n", "failed", {"succeeded": 1, "failed": 1})
    )
    assert (found[0].is_final, found[0].state, found[0].done) == (True, "failed", 2)
    assert not watcher.open_ids


def test_a_job_that_is_asked_for_itself_is_not_shown_twice():
    watcher = Watcher(["aud_1", "job_1"])
    audit = Audit("aud_1", "n", "running", {"running": 1})
    found = drive(watcher, Page([job("running", 1)], None), audit, job("running", 1))
    assert [(u.id, u.requested) for u in found] == [("aud_1", True), ("job_1", True)]


@pytest.mark.parametrize(
    "clock_goes_on", [False, True], ids=["the clock slept too", "the clock went on"]
)
@pytest.mark.parametrize("gateway_goes_on", [False, True], ids=["here", "elsewhere"])
def test_a_machine_that_slept_keeps_the_rate_it_had(clock_goes_on, gateway_goes_on):
    """The lid of a laptop is closed for an hour; the gateway runs on it, or on another machine."""
    now, wall, done = [0.0], [0.0], 0
    watcher = Watcher(["job_1"], clock=lambda: now[0], wall_clock=lambda: wall[0])
    for _ in range(600):
        (update,) = drive(watcher, job("running", done, 36000))
        done, now[0], wall[0] = done + 4, now[0] + 1, wall[0] + 1
    assert update.steps_per_s == pytest.approx(4)
    now[0], wall[0] = now[0] + 3600 * clock_goes_on, wall[0] + 3600
    done += 3600 * 4 * gateway_goes_on
    (update,) = drive(watcher, job("running", done, 36000))
    assert update.steps_per_s == pytest.approx(4, rel=0.05)
    assert update.remaining_s == pytest.approx((36000 - done) / 4, rel=0.05)
