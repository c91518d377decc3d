"""The one function that changes a state, compared with the one table of transitions."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import select, update

from shared.errors import Conflict
from shared.jobs.states import LIVE, TERMINAL, TRANSITIONS, State
from shared.jobs.tables import jobs
from shared.jobs.transitions import lock_job, transition
from tests.support.job_store import JobStore, make_planned_job

PAIRS = list(itertools.product(State, State))


def _job_in(store: JobStore, state: State) -> str:
    job_id = store.post(make_planned_job("a", no_cache=True))
    with store.db.write() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(state=state, lease_until=5.0, stop="cancel")
        )
    return job_id


def test_every_step_outside_the_table_is_refused_and_writes_nothing(store: JobStore) -> None:
    for before, to in (p for p in PAIRS if p not in TRANSITIONS):
        store.clear()
        job_id = _job_in(store, before)
        rows = store.dump()
        with (
            pytest.raises(Conflict, match=f"{before}: it cannot become {to}"),
            store.db.write() as connection,
        ):
            transition(store.db, connection, lock_job(connection, job_id), to, "because")
        assert store.dump() == rows, (before, to)


def test_every_step_of_the_table_is_made_with_one_event(store: JobStore) -> None:
    for before, to in TRANSITIONS:
        store.clear()
        job_id = _job_in(store, before)
        with store.db.write() as connection:
            transition(store.db, connection, lock_job(connection, job_id), to, "because")
        job, event = store.get_job(job_id), store.list_events(job_id)[-1]
        assert (job.state, event.seq) == (to, 2)
        assert event.data == {"from": before, "to": to, "because": "because"}
        assert (job.finished_at is not None) == (to in TERMINAL)
        if to is not State.PAUSED:
            assert (job.stop, job.lease_until) == (
                ("cancel", 5.0) if to is State.RUNNING else (None, None)
            )


def test_a_job_that_has_failed_or_was_cancelled_is_nobodys_equal(store: JobStore) -> None:
    for to in (State.FAILED, State.CANCELLED, State.SUCCEEDED):
        store.clear()
        job_id = store.post(make_planned_job("a"))
        store.claim_one()
        with store.db.write() as connection:
            transition(store.db, connection, lock_job(connection, job_id), to, "because")
            dedup_key = connection.execute(select(jobs.c.dedup_key)).scalar_one()
        assert (dedup_key is None) == (to is not State.SUCCEEDED)


def test_what_fails_inside_a_move_leaves_no_half_of_it(store: JobStore) -> None:
    """The state, the event and what follows for dependants are one transaction."""
    root = make_planned_job("root")
    store.submit(root, make_planned_job("child", root))
    claim = store.claim_one()
    before = store.dump()

    def then_the_process_breaks() -> None:
        with store.db.write() as connection:
            assert transition(
                store.db, connection, lock_job(connection, claim.job.id), State.SUCCEEDED, "done"
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        then_the_process_breaks()
    assert store.dump() == before


def test_every_state_is_either_live_or_terminal() -> None:
    assert set(State) == LIVE | TERMINAL
    assert not LIVE & TERMINAL
