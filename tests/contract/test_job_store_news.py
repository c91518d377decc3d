"""shared.jobs.news: what happened to many jobs, asked for at once."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from shared.jobs import control
from shared.jobs.news import IDS, news
from tests.support.jobs import ALICE, Store, planned


def test_each_job_has_its_own_place(store: Store) -> None:
    first, second, third = [store.post(planned(f"{n}")) for n in range(3)]
    control.hold_job(store.db, ALICE, first)
    control.cancel_job(store.db, ALICE, third)
    found = news(store.db, {first: 1, second: 1, third: 0, "job_" + "0" * 20: 0}, 10)
    assert {i: (n.state, [e.seq for e in n.events]) for i, n in found.items()} == {
        first: ("held", [2]),
        second: ("queued", []),
        third: ("cancelled", [1, 2]),
    }
    assert [e.seq for e in news(store.db, {third: 0}, 1)[third].events] == [1]
    assert news(store.db, {}, 10) == {}


@pytest.mark.parametrize("count", [1, IDS, IDS + 1])
def test_jobs_without_news_cost_a_statement_for_hundreds(store: Store, count: int) -> None:
    ids = list(store.submit(*[planned(f"{n}") for n in range(count)]).jobs.values())
    statements: list[str] = []
    event.listen(store.db.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    assert news(store.db, dict.fromkeys(ids, 1), 10).keys() == set(ids)
    assert len([s for s in statements if s.startswith("SELECT")]) == -(-count // IDS)
