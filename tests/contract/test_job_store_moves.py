"""The one function that changes a state, held against the one table of moves."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import select, update

from shared.errors import Conflict
from shared.jobs.moves import lock, move
from shared.jobs.states import LIVE, MOVES, TERMINAL, State
from shared.jobs.tables import jobs
from tests.support.jobs import Store, planned

PAIRS = list(itertools.product(State, State))


def _job_in(store: Store, state: State) -> str:
    job_id = store.post(planned("a", fresh=True))
    with store.db.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(state=state, lease_until=5.0, stop="cancel"))
    return job_id


def test_every_step_outside_the_table_is_refused_and_writes_nothing(store: Store) -> None:
    for before, to in (p for p in PAIRS if p not in MOVES):
        store.clear()
        job_id = _job_in(store, before)
        rows = store.dump()
        with pytest.raises(Conflict, match=f"{before}: it cannot become {to}"), store.db.write() as connection:
            move(store.db, connection, lock(connection, job_id), to, "because")
        assert store.dump() == rows, (before, to)


def test_every_step_of_the_table_is_made_with_one_event(store: Store) -> None:
    for before, to in MOVES:
        store.clear()
        job_id = _job_in(store, before)
        with store.db.write() as connection:
            move(store.db, connection, lock(connection, job_id), to, "because")
        job, event = store.job(job_id), store.events(job_id)[-1]
        assert (job.state, event.seq) == (to, 2)
        assert event.data == {"from": before, "to": to, "because": "because"}
        assert (job.finished_at is not None) == (to in TERMINAL)
        if to is not State.HELD:
            assert (job.stop, job.lease_until) == (("cancel", 5.0) if to is State.RUNNING else (None, None))


def test_a_job_that_has_failed_or_was_cancelled_is_nobodys_equal(store: Store) -> None:
    for to in (State.FAILED, State.CANCELLED, State.SUCCEEDED):
        store.clear()
        job_id = store.post(planned("a"))
        store.take()
        with store.db.write() as connection:
            move(store.db, connection, lock(connection, job_id), to, "because")
            live_key = connection.execute(select(jobs.c.live_key)).scalar_one()
        assert (live_key is None) == (to is not State.SUCCEEDED)


def test_what_fails_inside_a_move_leaves_no_half_of_it(store: Store) -> None:
    """The state, the event and what follows for dependants are one transaction."""
    root = planned("root")
    store.submit(root, planned("child", root))
    claim = store.take()
    before = store.dump()

    def then_the_process_breaks() -> None:
        with store.db.write() as connection:
            assert move(store.db, connection, lock(connection, claim.job.id), State.SUCCEEDED, "done")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        then_the_process_breaks()
    assert store.dump() == before


def test_every_state_is_either_live_or_terminal() -> None:
    assert set(State) == LIVE | TERMINAL
    assert not LIVE & TERMINAL
