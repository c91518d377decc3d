"""Large audits keep nobody from the store: few statements, short transactions, cancels in
slices."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select

from shared.jobs import attempts, control, queries, reconcile
from shared.jobs.lineage import find_inputs
from shared.jobs.mapping import VALUES
from shared.jobs.plan import MAX_JOBS
from shared.jobs.records import Input, PlannedJob
from shared.jobs.tables import events, jobs
from tests.support.job_store import (
    ALICE,
    CODE_DIGEST,
    PLUGIN,
    STAGE,
    JobStore,
    compute_sha256,
    make_planned_job,
)
from tests.support.plugins import make_catalog

LEASE = 45.0


def grid(n: int, tag: str = "") -> list[PlannedJob]:
    """`n` jobs as of an audit: a base, groups of twenty on it, and one that is made of them all."""
    made = [make_planned_job(f"{tag}base")]
    while len(made) < n - 1:
        group = make_planned_job(f"{tag}{len(made)}", made[0])
        made += [
            group,
            *(make_planned_job(f"{tag}{len(made)} {i}", made[0], group) for i in range(20)),
        ][: n - 1 - len(made)]
    leaves = tuple(
        Input(f"IN_{i}", parent=j.request_key, parent_role="OUT")
        for i, j in enumerate(made[1:], start=1)
    )
    return [
        *made,
        PlannedJob(
            compute_sha256(f"{tag}all"),
            STAGE,
            None,
            {"tag": "all"},
            0,
            leaves,
            (PLUGIN,),
            ("OUT",),
            CODE_DIGEST,
        ),
    ]


@pytest.mark.slow
def test_renewals_pass_while_the_largest_audit_is_stored(store: JobStore) -> None:
    running = store.post(make_planned_job("running"))
    claim = store.claim_one(lease_s=LEASE)
    ended, waits = threading.Event(), []

    def renew() -> None:
        while not ended.is_set():
            # of this process, which does the storing: a busy machine adds nothing to it
            start = time.process_time()
            assert attempts.renew_lease(store.db, running, claim.fence, LEASE) is not None
            waits.append(time.process_time() - start)
            time.sleep(0.01)

    renewing = threading.Thread(target=renew)
    renewing.start()
    audit, ids = store.submit_audit(*grid(MAX_JOBS))
    assert control.cancel_audit(store.db, ALICE, audit) == MAX_JOBS
    ended.set()
    renewing.join()
    assert len(set(ids)) == MAX_JOBS
    assert max(waits) < LEASE / 4
    assert store.get_job(running).lost_count == 0


@pytest.mark.slow
def test_an_audit_is_cancelled_in_time_if_its_tables_were_counted_while_it_was_stored(
    store: JobStore,
) -> None:
    """PostgreSQL counts on its own, at any moment: here before the rows can be seen."""
    if store.db.dialect == "postgresql":

        @event.listens_for(store.db.engine, "commit", once=True)
        def _count_too_early(_: Connection) -> None:
            with store.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
                other.exec_driver_sql("ANALYZE jobs, job_inputs, audit_jobs")

    audit, _ = store.submit_audit(*grid(MAX_JOBS))
    assert control.cancel_audit(store.db, ALICE, audit) == MAX_JOBS


def test_an_audit_is_stored_in_few_statements_however_large_it_is(store: JobStore) -> None:
    counts = []
    for n in (10, 500):
        seen: list[str] = []
        listener = lambda *given, seen=seen: seen.append(given[2])  # noqa: E731
        event.listen(store.db.engine, "before_cursor_execute", listener)
        store.submit_audit(*grid(n, f"{n} "))
        event.remove(store.db.engine, "before_cursor_execute", listener)
        counts.append(len(seen))
    assert counts[1] <= counts[0] + 2  # one more look for equals, five hundred at a time
    with store.db.read() as connection:
        found = [
            connection.execute(select(func.count()).select_from(t)).scalar_one()
            for t in (jobs, events)
        ]
    assert found == [510, 510]


def test_a_cancel_that_dies_between_its_slices_is_finished_by_the_reconciler(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    slices = iter((None, Died()))

    def die(_name: str) -> None:
        if (error := next(slices)) is not None:
            raise error

    audit, ids = store.submit_audit(*grid(40))
    running = store.claim_one()
    monkeypatch.setattr(control, "BATCH_SIZE", 7)
    with monkeypatch.context() as dying:
        dying.setattr(control, "failpoint", die)
        with pytest.raises(Died):
            control.cancel_audit(store.db, ALICE, audit)
    states = Counter(store.list_states(*ids))
    assert (states["cancelled"], states["running"]) == (1 + 7, 1)  # what is made of all comes first
    assert queries.get_audit(store.db, ALICE, audit).state == "cancelled"
    reconcile.finish_cancels(store.db)
    assert Counter(store.list_states(*ids)) == {"cancelled": 39, "running": 1}
    assert attempts.renew_lease(
        store.db, running.job.id, running.fence, 60
    ) == attempts.ControlFlags("cancel", None)
    before = store.dump()
    reconcile.finish_cancels(store.db)
    assert store.dump() == before


def test_a_cancelled_audit_leaves_a_legal_history(store: JobStore) -> None:
    audit, ids = store.submit_audit(*grid(30))
    control.cancel_audit(store.db, ALICE, audit)
    for job in ids:
        assert store.list_transitions(job)[-1] == "cancelled"
        happened = store.list_events(job)
        assert [e.seq for e in happened] == list(range(1, len(happened) + 1))
        assert store.get_job(job).version == len(happened)


def test_inputs_are_looked_for_in_slices(store: JobStore) -> None:
    """A report is made of thousands: databases bound how many values a statement names."""
    made = store.submit(*grid(1200))
    named: list[int] = []

    def count(*given: Any) -> None:
        parameters = given[3]
        named.append(len(parameters))

    event.listen(store.db.engine, "before_cursor_execute", count)
    try:
        _, found = find_inputs(
            store.db,
            ALICE,
            made.jobs[compute_sha256("all")],
            make_catalog(),
            "attack",
            ["OUT", "NOTHING"],
        )
    finally:
        event.remove(store.db.engine, "before_cursor_execute", count)
    assert found["OUT"].parent == made.jobs[compute_sha256("all")]
    assert max(named) <= VALUES + 1
    assert sum(named) > 1200
