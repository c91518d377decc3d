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
def stores(postgres_store: JobStore) -> Iterator[dict[str, JobStore]]:
    """Each with connections of its own: one, as it is asked one thing after another."""
    postgres_store.clear()
    url = postgres_store.db.url
    pooled = url.set(query={**url.query, "pooler": "transaction"})
    made = {
        name: JobStore(Database(one.render_as_string(hide_password=False)))
        for name, one in {"direct": url, "pooled": pooled}.items()
    }
    yield made
    for store in made.values():
        store.db.close()


def read_session(db: Database) -> tuple[int, str]:
    """Prepared statements and the timeout of the connection that comes next."""
    with db.read() as connection:
        prepared = connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        return prepared.scalar_one(), connection.execute(text("SHOW lock_timeout")).scalar_one()


def test_nothing_stays_on_a_connection(stores: dict[str, JobStore]) -> None:
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
