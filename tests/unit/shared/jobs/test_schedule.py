"""How long a plan takes on given workers."""

from __future__ import annotations

import pytest

from shared.jobs.records import PlannedJob
from shared.jobs.schedule import estimate_wall_s
from tests.support.job_store import make_planned_job

A, B = frozenset({"train"}), frozenset({"attack"})


def make_chain(n: int) -> list[PlannedJob]:
    """`n` times a training of 1 s and the attack on it, of 3 s."""
    trained = [make_planned_job(f"train {i}") for i in range(n)]
    return trained + [make_planned_job(f"{i}", t, stage="attack") for i, t in enumerate(trained)]


def seconds_of(jobs: list[PlannedJob]) -> dict[str, float]:
    return {job.request_key: {"train": 1.0, "attack": 3.0}[job.stage] for job in jobs}


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        ({A: 1, B: 1}, 1 + 4 * 3),  # trainings run beside the attacks
        ({A: 1, B: 4}, 4 + 3),  # the last attack waits for the last training
        ({A: 4, B: 4}, 1 + 3),
        ({A | B: 1}, 4 * (1 + 3)),
        ({A | B: 2}, 2 * (1 + 3)),
        ({A: 1, B: 0}, None),
        ({}, None),
    ],
)
def test_workers_that_are_free_take_what_is_ready(
    workers: dict[frozenset[str], int], seconds: float | None
) -> None:
    jobs = make_chain(4)
    assert estimate_wall_s(jobs, seconds_of(jobs), workers) == seconds


def test_what_has_ended_takes_no_time_and_no_worker() -> None:
    jobs = make_chain(2)
    attacks = {key: s for key, s in seconds_of(jobs).items() if s == 3}
    assert estimate_wall_s(jobs, attacks, {B: 2}) == 3
    assert estimate_wall_s(jobs, {}, {}) == 0
