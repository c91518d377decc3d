"""A collector or a deletion that is killed anywhere leaves nothing that promises what is not there,
and the next one finishes it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from sqlalchemy import select

from shared.artifacts import ArtifactStore
from shared.failpoints import FAILPOINT_VARIABLE
from shared.jobs import audit_deletion
from shared.jobs.database import Database
from shared.jobs.tables import artifacts, audits, jobs
from tests.contract.test_bounded_growth import KEPT
from tests.support.job_store import ALICE, JobStore
from tests.support.migrated import open_migrated
from tests.support.retention import Shelf, collect_all, make_collector
from tests.support.simulated_days import SimulatedDays

PLACES = (
    "expiry.events",
    "expiry.checkpoints",
    "expiry.previews",
    "expiry.reconstructions",
    "expiry.audits",
    "removal.before_commit",
    "audit_deletion.between_batches",
    "uploads.after_bytes",
)


def kill_at(place: str, url: str, folder: Path, *, audit: str | None = None) -> None:
    """A process that collects, or deletes an audit, until it is killed at that place."""
    child = os.fork()
    if child == 0:
        os.environ[FAILPOINT_VARIABLE] = place
        db, store = Database(url), ArtifactStore.from_url(f"file://{folder}/artifacts")
        if audit is None:
            collect_all(make_collector(db, store, KEPT))
        else:
            audit_deletion.delete_audit(db, ALICE, store, audit)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def check_whole(db: Database, store: ArtifactStore) -> None:
    """What a row promises is there."""
    with db.read() as connection:
        for row in connection.execute(select(artifacts).where(artifacts.c.expired_at.is_(None))):
            assert store.has(row.sha256, row.size)
        for sha256 in connection.execute(
            select(jobs.c.checkpoint).where(jobs.c.checkpoint.is_not(None))
        ).scalars():
            assert store.get(sha256)


@pytest.fixture(scope="module")
def a_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job store all of which has expired."""
    folder = tmp_path_factory.mktemp("day")
    db = open_migrated(folder / "palimpsest.db")
    SimulatedDays(db, ArtifactStore.from_url(f"file://{folder}/artifacts")).add_day(100)
    db.close()
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_collector_is_finished_by_the_next(
    a_day: Path, tmp_path: Path, place: str
) -> None:
    url = f"sqlite:///{tmp_path}/palimpsest.db"
    source = Database(f"sqlite:///{a_day}/palimpsest.db")
    source.copy_to(tmp_path / "palimpsest.db")
    source.close()
    shutil.copytree(a_day / "artifacts", tmp_path / "artifacts")
    kill_at(place, url, tmp_path)
    db, store = Database(url), ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    check_whole(db, store)
    for _ in range(2):
        collect_all(make_collector(db, store, KEPT))
    with db.read() as connection:
        assert [connection.execute(select(t)).all() for t in (jobs, audits, artifacts)] == [[]] * 3
    assert list(store.list_objects()) == []
    db.close()


@pytest.mark.parametrize(
    "place",
    [
        "audit_deletion.before_commit",
        "audit_deletion.after_commit",
        "audit_deletion.between_batches",
    ],
)
def test_a_killed_deletion_is_all_or_finished_by_the_reconciler(tmp_path: Path, place: str) -> None:
    db = open_migrated(tmp_path / "palimpsest.db")
    shelf = Shelf(JobStore(db))
    shelf.artifacts = ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    *_, audit = shelf.submit("a", "b")
    shelf.run()
    shelf.run()
    url = str(db.url)
    db.close()
    kill_at(place, url, tmp_path, audit=audit)
    db, store = Database(url), shelf.artifacts
    check_whole(db, store)
    with db.read() as connection:
        (row,) = connection.execute(select(audits.c.deleting)).all() or [(True,)]
    assert row[0] == (place != "audit_deletion.before_commit")
    if row[0]:
        collect_all(make_collector(db, store, KEPT))
        with db.read() as connection:
            assert connection.execute(select(jobs.c.id)).all() == []
        assert list(store.list_objects()) == []
    db.close()
