"""The storm's judges, on histories made by hand: each kind of wrong is found, and what is right is
left alone."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos.storm import report
from tests.chaos.storm.history import History, JobHistory
from tests.chaos.storm.oracle import Oracle
from tests.chaos.storm.recovery import recoveries
from tests.chaos.storm.redis_host import asked_port, own_port
from tests.chaos.storm.settings import Piece

BEGAN = 1_800_000_000.0
LEASE = 10.0
DONE = [(0.0, "queued"), (1.0, "running"), (2.0, "succeeded")]
Steps = list[tuple[float, str]]


def job(name: str, steps: Steps, offset: int = 0, because: str = "", **view: Any) -> JobHistory:
    """A job that went through these states, at these seconds."""
    events, before = [], None
    for seq, (at, to) in enumerate(steps, start=1):
        data: dict[str, Any] = {
            "from": before,
            "to": to,
            "because": because if before == "running" else "",
        }
        if because and before == "running" and to == "queued":  # a loss that was charged
            data["lost_count"] = 1
        if to == "running":
            data["worker"] = "worker-evaluate-1@host"
        when = datetime.fromtimestamp(BEGAN + at + offset, UTC).isoformat()
        events.append({"seq": seq, "at": when, "kind": "state", "data": data})
        before = to
    shown = {
        "id": f"job_{name}", "state": steps[-1][1], "failure": None, "message": None, "lost_count": 0, "inputs": {},
        "attempt": sum(to == "running" for _, to in steps), "params": {"tag": name}, "audits": [], "stage": "sleep",
        "artifacts": {"SLEPT": {"sha256": f"digest of {name}"}} if steps[-1][1] == "succeeded" else {},
    }  # fmt: skip
    return JobHistory({**shown, **view}, events, BEGAN)


def effect(name: str, digest: str | None = None) -> dict[str, Any]:
    return {"tag": name, "sha256": digest or f"digest of {name}"}


def history(
    *jobs: JobHistory, effects: list[dict[str, Any]] | None = None, **worker: Any
) -> History:
    done = (
        [effect(str(j.tag)) for j in jobs if j.view["state"] == "succeeded"]
        if effects is None
        else effects
    )
    return History(
        BEGAN, list(jobs), [], [{"id": "w", "live": True, "drain": False, **worker}], done
    )


def posted(name: str, **more: Any) -> list[dict[str, Any]]:
    """The journal of one job that was accepted."""
    return [
        {"what": "asked", "key": name, "tag": name, "wish": "succeed", **more},
        {"what": "post", "key": name, "status": 202, "id": f"job_{name}", "detail": None},
    ]


def fault(kind: str, began: float, ended: float | None = None, **more: Any) -> dict[str, Any]:
    ended = began if ended is None else ended
    made = {
        "what": "fault",
        "kind": kind,
        "on": "worker",
        "worker": "worker-evaluate-1",
        "may_charge": True,
        "note": "",
    }
    return {**made, "began": BEGAN + began, "ended": BEGAN + ended, **more}


def found(what: History, *lines: list[dict[str, Any]]) -> list[str]:
    return [f.kind for f in Oracle(what, [x for some in lines for x in some], LEASE).findings()]


def test_nothing_is_found_where_all_is_well() -> None:
    assert found(history(job("a", DONE)), posted("a")) == []


def test_accepted_and_not_there_is_lost() -> None:
    assert found(history(job("a", DONE)), posted("a"), posted("b")) == ["lost"]


def test_two_answers_to_one_key_and_two_jobs_of_one_post_are_doubled() -> None:
    other = {"what": "post", "key": "a", "status": 202, "id": "job_b", "detail": None}
    twice = history(
        job("a", DONE),
        job("b", DONE, params={"tag": "a"}),
        effects=[effect("a"), effect("a", "digest of b")],
    )
    # and the two came to different results
    assert found(twice, posted("a"), [other]).count("doubled") == 3


def test_different_results_of_one_job_are_doubled() -> None:
    assert found(
        history(job("a", DONE), effects=[effect("a"), effect("a", "other")]), posted("a")
    ) == ["doubled"]


def test_the_same_work_done_again_before_it_was_recorded_is_no_finding() -> None:
    assert found(history(job("a", DONE), effects=[effect("a"), effect("a")]), posted("a")) == []


@pytest.mark.parametrize("state", ["waiting", "queued", "paused", "running"])
def test_what_has_not_ended_is_stuck(state: str) -> None:
    steps = {"running": DONE[:2]}.get(state, [(0.0, state)])
    assert found(history(job("a", steps)), posted("a")) == ["stuck"]


@pytest.mark.parametrize("worker", [{"drain": True}, {"live": False}])
def test_a_worker_that_takes_nothing_any_more_is_stuck(worker: dict[str, Any]) -> None:
    assert found(history(job("a", DONE), **worker), posted("a")) == ["stuck"]


def test_a_worker_that_did_not_come_back_is_stuck() -> None:
    there = history(job("a", DONE), id="worker-evaluate-1@host")
    assert found(replace(there, served=("worker-evaluate-1",)), posted("a")) == []
    assert found(replace(there, served=("worker-evaluate-1", "worker-attack-1")), posted("a")) == [
        "stuck"
    ]


@pytest.mark.parametrize(
    ("steps", "view"),
    [
        (DONE[:1], {"state": "succeeded"}),  # no event for it
        ([*DONE, (3.0, "queued"), (4.0, "running"), (5.0, "succeeded")], {}),  # out of an end
        ([(0.0, "queued"), (1.0, "succeeded")], {}),  # a step that there is not
        (DONE, {"attempt": 2}),
        ([*DONE[:2], (2.0, "failed")], {"failure": "error", "message": "it broke"}),
        ([*DONE[:2], (2.0, "cancelled")], {}),
    ],
)
def test_a_chain_that_is_illegal_or_an_end_that_nobody_asked_for(
    steps: Steps, view: dict[str, Any]
) -> None:
    assert set(found(history(job("a", steps, **view), effects=[effect("a")]), posted("a"))) == {
        "unexpected"
    }


def test_a_500_and_a_refusal_without_reason() -> None:
    broke = {"what": "post", "key": "a", "status": 500, "id": None, "detail": "a defect"}
    assert found(history(job("a", DONE)), posted("a"), [broke]) == ["unexpected"]
    refused = [
        *posted("b")[:1],
        {"what": "post", "key": "b", "status": 422, "id": None, "detail": "no"},
    ]
    assert found(history(), refused) == ["unexpected"]


def test_a_stranger() -> None:
    assert "unexpected" in found(history(job("a", DONE)))


def test_cancelled_because_it_was_asked_and_failed_because_its_input_was() -> None:
    asked = {
        "what": "action",
        "job": "job_a",
        "action": "cancel",
        "status": 202,
        "lost": 0,
        "detail": None,
    }
    cancelled = job("a", [(0.0, "queued"), (1.0, "cancelled")])
    child = job(
        "b",
        [(0.0, "waiting"), (1.0, "failed")],
        failure="input_failed",
        inputs={"SLEPT": {"job": "job_a"}},
    )
    assert (
        found(history(cancelled, child), posted("a"), posted("b", inputs=["job_a"]), [asked]) == []
    )


LOST = [(0.0, "queued"), (1.0, "running"), (20.0, "queued"), (21.0, "running"), (22.0, "succeeded")]


@pytest.mark.parametrize(
    ("what", "charged"),
    [
        (fault("child killed", 18), False),
        (fault("child killed", 18, worker="worker-evaluate-2"), True),  # another one's
        (
            fault("lease process killed", -5),
            True,
        ),  # before
        (fault("child killed", 30), True),  # after
        (fault("worker frozen beyond the lease", 3, 18), False),
        (fault("worker frozen shortly", 3, 5, may_charge=False), True),
        (fault("worker terminated", 18, may_charge=False), True),  # a drain is free
        (fault("everything suspended", 3, 18, on="everything", worker="", may_charge=False), True),
    ],
)
def test_a_charge_needs_a_fault_on_that_worker_while_it_had_the_job(
    what: dict[str, Any], charged: bool
) -> None:
    there = history(job("a", LOST, because="its worker process died", lost_count=1))
    assert found(there, posted("a"), [what]) == ["charged"] * charged


def test_a_charge_before_a_retry_counts_as_well() -> None:
    again = {
        "what": "action",
        "job": "job_a",
        "action": "retry",
        "status": 202,
        "lost": 2,
        "detail": None,
    }
    there = history(job("a", LOST, because="its worker process died"))
    assert found(there, posted("a"), [again, fault("child killed", 18)]) == ["charged"]


def test_times_are_read_rightly_when_the_clock_was_an_hour_off() -> None:
    for offset in (-3600, 0, 3600):
        assert [s.at - BEGAN for s in job("a", DONE, offset).steps] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("steps", "faults", "seconds"),
    [
        (LOST, [fault("child killed", 18)], 3.0),  # until it was claimed again
        (DONE, [fault("reconciler killed", 1.5, worker="")], 0.0),  # it ran on
        (
            [(0.0, "queued"), (9.0, "running"), (10.0, "succeeded")],
            [fault("Redis flushed", 4, on="redis")],
            5.0,
        ),
        # an outage meanwhile is not counted
        (
            LOST,
            [fault("child killed", 18), fault("Redis frozen", 19, 20.5, on="redis", worker="")],
            1.5,
        ),
        (LOST[:3], [fault("child killed", 18)], math.inf),
        # it was alive until a later fault
        (
            LOST,
            [
                fault("Redis flushed", 4, on="redis", worker="", may_charge=False),
                fault("child killed", 18),
            ],
            0.0,
        ),
    ],
)
def test_recovery(steps: Steps, faults: list[dict[str, Any]], seconds: float) -> None:
    took = recoveries(history(job("a", steps, because="its worker process died")), faults, LEASE)
    assert took[0][1] == pytest.approx(seconds, abs=1e-3)


def test_back_off_is_not_counted() -> None:
    lost = job("a", LOST, because="its worker process died")
    lost.steps[2].data["pause_s"] = 0.75
    assert recoveries(history(lost), [fault("child killed", 18)], LEASE)[0][1] == pytest.approx(
        2.25, abs=1e-3
    )


def test_pieces_add_up() -> None:
    line = {
        "store": "sqlite", "seed": 1, "faults": {"child killed": 2},
        "recovery_s": [["child killed", 1.0], ["child killed", 3.0]], "commit": "abc", "lease_s": 10.0,
        "jobs": 10, "attempts": 12, "posts": 11, "charges": 2, "lost": 0, "doubled": 0, "stuck": 0, "unexpected": 0,
        "charged": 0, "minutes": 2.0, "load_average": [1.0, 2.0], "machine": "a machine",
    }  # fmt: skip
    lines = [line, {**line, "seed": 2, "store": "postgresql"}]
    assert "| child killed | 2 | 2 | 1.0 s | 3.0 s | 3.0 s |" in report.table(lines)
    assert report.passed(lines)
    assert not report.passed([line, {**line, "stuck": 1}])
    assert not report.passed([{**line, "recovery_s": [["child killed", None]]}])


def test_a_piece_has_bounds() -> None:
    for wrong in ({"minutes": 31.0}, {"minutes": 0.0}, {}, {"minutes": 1.0, "rounds": 1}):
        with pytest.raises(ValueError, match="minutes"):
            Piece(1, "sqlite", **wrong)


def test_the_redis_host_finds_the_port_on_the_command_line_or_in_the_file(tmp_path: Any) -> None:
    config = tmp_path / "redis.conf"
    config.write_text("bind 127.0.0.1\nport 7001\n")
    assert asked_port([str(config)]) == 7001
    assert asked_port([str(config), "--port", "7002"]) == 7002
    assert own_port(["--port", "7002"], 7003)[-2:] == ["--port", "7003"]
