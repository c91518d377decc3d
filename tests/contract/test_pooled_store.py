"""What a store behind a pooler leaves on connections that others get next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from shared.jobs.database import Database
from tests.support.job_store import JobStore, make_planned_job

pytestmark = pytest.mark.slow
CALLS = 12  # more than it takes until a statement is prepared


@pytest.fixture
def pooled(postgres_store: JobStore) -> Iterator[Database]:
    postgres_store.clear()
    url = postgres_store.db.url.set(query={**postgres_store.db.url.query, "pooler": "transaction"})
    db = Database(url.render_as_string(hide_password=False))
    yield db
    db.close()


def read_session(db: Database) -> tuple[int, str]:
    """Prepared statements and the timeout of the connection that comes next."""
    with db.read() as connection:
        prepared = connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        return prepared.scalar_one(), connection.execute(text("SHOW lock_timeout")).scalar_one()


def test_nothing_stays_on_a_connection(postgres_store: JobStore, pooled: Database) -> None:
    stores = {"direct": postgres_store, "pooled": JobStore(pooled)}
    sessions = {}
    for name, store in stores.items():
        job = store.post(make_planned_job(name))
        claim = store.claim_one()
        assert claim.job.id == job
        for _ in range(CALLS):
            assert store.claim() is None
        sessions[name] = read_session(store.db)
    assert sessions["pooled"] == (0, "0")
    assert sessions["direct"][0] > 0
    assert sessions["direct"][1] == "10s"
