"""A service that runs for days keeps what its settings say, and no more: the job store and the
artifact store stop growing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.artifacts import ArtifactStore
from shared.jobs.database import Database
from shared.jobs.retention import DAY_S, Retention
from tests.support.migrated import open_in_memory
from tests.support.retention import collect_all, make_collector
from tests.support.simulated_days import SimulatedDays

DAYS = 8
KEPT = Retention(
    uploads_s=DAY_S,
    idempotency_s=DAY_S,
    checkpoints_s=0.5 * DAY_S,
    events_s=DAY_S,
    previews_s=0.5 * DAY_S,
    reconstructions_s=DAY_S,
    jobs_s=2 * DAY_S,
    audits_s=2 * DAY_S,
    catalogs_s=DAY_S,
)


@pytest.fixture
def db() -> Iterator[Database]:
    db = open_in_memory()
    yield db
    db.close()


def run_days(db: Database, jobs_per_day: int) -> list[dict[str, int]]:
    """What there is at the end of each day."""
    days = SimulatedDays(db, ArtifactStore.from_url("memory://"))
    collector = make_collector(db, days.store, KEPT)
    sizes = []
    for _ in range(DAYS):
        days.add_day(jobs_per_day)
        collect_all(collector)
        sizes.append(days.measure())
    return sizes


def check_bounded(sizes: list[dict[str, int]], jobs_per_day: int) -> None:
    third, seventh = sizes[2], sizes[6]
    assert third["jobs"] > jobs_per_day  # it keeps what it should
    assert {name for name, size in seventh.items() if size > 1.1 * third[name]} == set()
    assert seventh["stored"] < seventh["artifacts"] + seventh["jobs"]


def test_nothing_grows_for_ever(db: Database) -> None:
    check_bounded(run_days(db, 100), 100)


@pytest.mark.long
def test_200_000_jobs_leave_no_more_than_their_last_days(db: Database) -> None:
    check_bounded(run_days(db, 25_000), 25_000)
