"""How many bells are missing."""

from __future__ import annotations

import pytest

from shared.jobs import fleet
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from shared.jobs.queue import MemoryBell
from workers.reconciler import look, missing_bells


@pytest.mark.parametrize(
    ("queued", "live", "lying", "ring"),
    [
        (0, 1, 0, 0),
        (1, 1, 0, 1),
        (5, 1, 0, 2),
        (1_000_000, 3, 0, 6),
        (5, 1, 2, 0),
        (5, 2, 1, 3),
        (5, 0, 0, 0),
        (5, 1, 9, 0),
    ],
)
def test_a_list_holds_as_many_bells_as_there_are_jobs_but_at_most_two_a_worker(
    queued: int, live: int, lying: int, ring: int
) -> None:
    found = missing_bells({"attack": queued}, {"attack": live}, lambda _stage: lying)
    assert found == ({"attack": ring} if ring else {})


def test_a_round_over_an_empty_store_rings_nothing() -> None:
    db, bell = Database("sqlite://"), MemoryBell()
    migrate(db)
    fleet.register(db, "w", host="h", pid=1, stages=("attack",), device="cpu", threads=1, versions={}, catalog="c")
    look(db, bell, lambda _stage: 0, 3)
    assert bell.rung == []
