"""shared.jobs.updates: what happened to many jobs, asked for at once."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from shared.jobs import control
from shared.jobs.updates import IDS_PER_STATEMENT, fetch_updates
from tests.support.job_store import ALICE, JobStore, make_planned_job


def test_each_job_has_its_own_place(store: JobStore) -> None:
    first, second, third = [store.post(make_planned_job(f"{n}")) for n in range(3)]
    control.pause_job(store.db, ALICE, first)
    control.cancel_job(store.db, ALICE, third)
    found = fetch_updates(store.db, {first: 1, second: 1, third: 0, "job_" + "0" * 20: 0}, 10)
    assert {i: (n.state, [e.seq for e in n.events]) for i, n in found.items()} == {
        first: ("paused", [2]),
        second: ("queued", []),
        third: ("cancelled", [1, 2]),
    }
    assert [e.seq for e in fetch_updates(store.db, {third: 0}, 1)[third].events] == [1]
    assert fetch_updates(store.db, {}, 10) == {}


@pytest.mark.parametrize("count", [1, IDS_PER_STATEMENT, IDS_PER_STATEMENT + 1])
def test_jobs_without_news_cost_a_statement_for_hundreds(store: JobStore, count: int) -> None:
    ids = list(store.submit(*[make_planned_job(f"{n}") for n in range(count)]).jobs.values())
    statements: list[str] = []
    event.listen(store.db.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    assert fetch_updates(store.db, dict.fromkeys(ids, 1), 10).keys() == set(ids)
    assert len([s for s in statements if s.startswith("SELECT")]) == -(-count // IDS_PER_STATEMENT)
