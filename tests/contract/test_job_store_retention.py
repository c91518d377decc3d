"""What was kept long enough goes, by kind, and nothing that anything refers to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.event import listen, remove

from shared.catalog import Catalog
from shared.errors import Conflict, Gone, NotFound
from shared.jobs import (
    access_log,
    attempts,
    audit_deletion,
    completion,
    control,
    erasure,
    expiry,
    queries,
    removal,
    repair,
    submit,
    uploads,
    webhooks,
    worker_registry,
)
from shared.jobs.collector import RESTART_S
from shared.jobs.database import Database
from shared.jobs.metric_totals import load_totals
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.previews import SIGNATURE, record_preview
from shared.jobs.records import Input
from shared.jobs.retention import DAY_S, PAGE_ROLES, Retention
from shared.jobs.submit import IdempotencyKey
from shared.jobs.tables import (
    audits,
    catalogs,
    erasures,
    events,
    idempotency,
    job_artifacts,
    job_inputs,
    jobs,
    plugin_sets,
    webhook_deliveries,
)
from shared.jobs.webhook_events import EVENTS
from tests.support.job_store import ALICE, BOB, JobStore, make_planned_job
from tests.support.migrated import open_in_memory
from tests.support.retention import Shelf


@pytest.fixture(params=["memory", pytest.param("postgresql", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest) -> Iterator[JobStore]:
    """Without the SQLite file, which does nothing else here than one in memory."""
    if request.param == "postgresql":
        found: JobStore = request.getfixturevalue("postgres_store")
        found.clear()
        yield found
        return
    db = open_in_memory()
    yield JobStore(db)
    db.close()


@pytest.fixture
def shelf(store: JobStore) -> Iterator[Shelf]:
    shelf = Shelf(store)
    yield shelf
    shelf.set_day(0)


def count(db: Database, table: object) -> int:
    with db.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]  # any table


def test_events_go_but_the_last(shelf: Shelf) -> None:
    job, _ = shelf.submit("a")
    shelf.run()
    assert "events" not in shelf.collect_on(29)
    assert len(shelf.jobs.list_events(job)) == 3
    assert shelf.collect_on(31)["events"] == 1
    last = shelf.jobs.list_events(job)
    assert [(one.seq, one.data["to"]) for one in last] == [(3, "succeeded")]
    assert "events" not in shelf.collect_on(32)


def test_a_preview_goes_a_day_after_the_end(shelf: Shelf) -> None:
    job, _ = shelf.submit("a")
    claim = shelf.jobs.claim_one()
    record_preview(shelf.db, job, claim.fence, SIGNATURE, 1, 2)
    assert "previews" not in shelf.collect_on(2)  # the job is running
    shelf.set_day(0)
    shelf.jobs.finish(claim)
    version = shelf.jobs.get_job(job).version
    assert "previews" not in shelf.collect_on(0.9)
    assert shelf.jobs.get_job(job).preview is not None
    assert shelf.collect_on(1.1)["previews"] == 1
    assert shelf.jobs.get_job(job).preview is None
    assert shelf.jobs.get_job(job).version == version + 1
    assert "previews" not in shelf.collect_on(2)


def test_a_checkpoint_goes_with_those_before_it(shelf: Shelf) -> None:
    job, _ = shelf.submit("a")
    claim = shelf.jobs.claim_one()
    saved = [shelf.artifacts.put(f"state {n}".encode()) for n in range(2)]
    for sha256 in saved:
        attempts.save_checkpoint(shelf.db, job, claim.fence, sha256, "key")
    shelf.collect_on(400)  # a live job needs it
    assert shelf.has_bytes(saved[1])
    shelf.set_day(0)
    shelf.jobs.fail(claim)
    shelf.collect_on(6)
    assert attempts.find_checkpoint(shelf.db, job, "key") == saved[1]
    assert shelf.collect_on(8)["checkpoints"] == 1
    assert attempts.find_checkpoint(shelf.db, job, "key") is None
    assert not any(shelf.has_bytes(sha256) for sha256 in saved)
    control.retry_job(shelf.db, ALICE, job)  # begins anew
    assert shelf.jobs.list_states(job) == ["queued"]


def test_a_reconstruction_expires_and_the_rest_of_the_audit_stays(shelf: Shelf) -> None:
    attack, evaluation, audit = shelf.submit("attack", "evaluation")
    brought_back = shelf.run("RECONSTRUCTION")
    score = shelf.run("EVALUATION")
    assert "reconstructions" not in shelf.collect_on(29)
    assert shelf.collect_on(31)["reconstructions"] == 1
    assert (shelf.has_bytes(brought_back), shelf.has_bytes(score)) == (False, True)
    with pytest.raises(Gone, match="expired on"):
        queries.get_artifact(shelf.db, ALICE, brought_back)
    assert queries.get_artifact(shelf.db, ALICE, score).role == "EVALUATION"
    listed = shelf.jobs.get_job(attack).artifacts
    assert [one.expired_at is not None for one in listed] == [True]
    assert queries.get_audit(shelf.db, ALICE, audit).state == "succeeded"
    # of another tenant nobody learns anything
    with pytest.raises(NotFound) as error:
        queries.get_artifact(shelf.db, BOB, brought_back)
    assert not isinstance(error.value, Gone)
    # damage is repaired, what has expired is not
    producer = repair.find_producer(shelf.db, ALICE, brought_back)
    assert producer is not None
    assert repair.rebuild_artifact(shelf.db, ALICE, brought_back, producer) == set()
    assert shelf.jobs.list_states(attack, evaluation) == ["succeeded"] * 2


def test_a_job_that_needs_an_expired_reconstruction_gets_it_anew(shelf: Shelf) -> None:
    attack, _ = shelf.submit("attack")
    sha256 = shelf.run("RECONSTRUCTION", b"a face")
    shelf.collect_on(31)
    (later,) = shelf.submit("later", audit=False, parents=[attack])
    with shelf.db.write() as connection:
        connection.execute(
            update(job_inputs).where(job_inputs.c.job == later).values(
                parent_role="RECONSTRUCTION"
            )
        )  # fmt: skip
    claim = shelf.jobs.claim_one()
    assert claim.job.id == later
    producer = repair.find_producer(shelf.db, ALICE, sha256, attack)
    lost = [repair.UnreadableInput("IN0", sha256, producer)]
    repair.wait_for_inputs(shelf.db, later, claim.fence, lost)
    assert shelf.jobs.list_states(attack, later) == ["queued", "waiting"]
    shelf.run("RECONSTRUCTION", b"a face")
    assert shelf.jobs.list_states(later) == ["queued"]
    shelf.set_day(0)
    assert queries.get_artifact(shelf.db, ALICE, sha256).sha256 == sha256
    shelf.collect_on(400)  # a live job needs it
    assert shelf.has_bytes(sha256)


@pytest.mark.parametrize("role", PAGE_ROLES)
def test_a_page_expires_if_it_shows_pictures(shelf: Shelf, role: str) -> None:
    with_pictures, without, _ = [], [], shelf.submit("a", "b")
    shelf.run("PICTURES")
    with shelf.db.write() as connection:
        connection.execute(update(job_inputs).values(parent_role="PICTURES"))
    with_pictures.append(shelf.run(role))
    shelf.submit("c")
    without.append(shelf.run(role))
    shelf.collect_on(31)
    assert not any(shelf.has_bytes(one) for one in with_pictures)
    assert all(shelf.has_bytes(one) for one in without)


def test_jobs_in_no_audit_go_from_the_last_of_a_chain_on(shelf: Shelf) -> None:
    first, _ = shelf.submit("a", "b", audit=False)
    digests = [shelf.run(), shelf.run()]
    assert "jobs" not in shelf.collect_on(89)
    assert shelf.collect_on(91)["jobs"] == 2
    with pytest.raises(NotFound):
        shelf.jobs.get_job(first)
    assert not any(shelf.has_bytes(one) for one in digests)
    assert count(shelf.db, jobs) == 0


def test_what_is_referred_to_stays(shelf: Shelf) -> None:
    parent, audit = shelf.submit("a")
    shelf.run()
    (child,) = shelf.submit("b", audit=False, parents=[parent])
    digest = shelf.run()
    (reader,) = shelf.jobs.submit(
        make_planned_job("reader", Input("BY_DIGEST", sha256=digest))
    ).jobs.values()
    shelf.collect_on(400)  # the reader is live; the child refers to the parent
    assert shelf.jobs.list_states(parent, child, reader) == ["succeeded", "succeeded", "queued"]
    with pytest.raises(NotFound):
        queries.get_audit(shelf.db, ALICE, audit)
    control.cancel_job(shelf.db, ALICE, reader)
    shelf.collect_on(900)
    assert count(shelf.db, jobs) == 0


class EventCounter:
    """How many events each transaction removes."""

    def __init__(self, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.db, self.counts, self._run = db, list[int](), db.run_transaction
        monkeypatch.setattr(removal, "MAX_EVENTS", 7)
        monkeypatch.setattr(db, "run_transaction", self.run)

    def run(self, transaction: Any) -> Any:
        before = count(self.db, events)
        result = self._run(transaction)
        self.counts.append(before - count(self.db, events))
        return result


def test_one_transaction_removes_jobs_by_their_events(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of a day has tens of thousands, and every one is a row to be written over."""
    shelf.submit("a", "b", "c", audit=False)
    shelf.submit("d", "e", "f", "g")
    digests = [shelf.run() for _ in range(7)]
    audit = queries.list_audits(shelf.db, ALICE).items[0].id
    counter = EventCounter(shelf.db, monkeypatch)
    monkeypatch.setattr(removal, "MAX_CASCADE", 1)
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, audit)
    assert count(shelf.db, jobs) == 3
    shelf.set_day(91)
    rows = expiry.list_ended_jobs(shelf.db, 90 * DAY_S, expiry.START)
    for _ in range(3):
        expiry.expire_jobs(shelf.db, 90 * DAY_S, rows)
    assert count(shelf.db, jobs) == 0
    assert max(counter.counts) <= 7
    uploads.remove_deleted_bytes(shelf.db, shelf.artifacts)
    assert not any(shelf.has_bytes(one) for one in digests)


def test_what_a_deletion_has_no_room_for_is_looked_at_by_the_next_batch(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what belonged to audits that are gone: jobs that stayed only as this one was made of
    them."""
    *_, third, first = shelf.submit("a", "b", "c")
    for _ in range(3):
        shelf.run()
    (_, second) = shelf.submit("d", parents=[third])
    shelf.run()
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, first)
    assert count(shelf.db, jobs) == 4
    counter = EventCounter(shelf.db, monkeypatch)
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, second)
    assert count(shelf.db, jobs) == 0
    assert max(counter.counts) <= 7


def test_an_audit_leaves_what_another_shares(shelf: Shelf) -> None:
    common, _, first = shelf.submit("common", "one")
    shared, alone = shelf.run(), shelf.run()
    shelf.set_day(300)
    again, two, second = shelf.submit("common", "two")
    assert again == common
    shelf.run()
    with shelf.db.write() as connection:  # the jobs took the time of the machine
        connection.execute(update(jobs).where(jobs.c.id == two).values(finished_at=shelf.db.now))
    shelf.collect_on(400)
    assert [a.id for a in queries.list_audits(shelf.db, ALICE).items] == [second]
    assert shelf.jobs.list_states(common, two) == ["succeeded"] * 2
    assert (shelf.has_bytes(shared), shelf.has_bytes(alone)) == (True, False)
    with pytest.raises(NotFound):
        queries.get_audit(shelf.db, ALICE, first)
    shelf.collect_on(700)
    assert count(shelf.db, jobs) == 0
    assert not shelf.has_bytes(shared)


def test_the_result_that_another_job_took_over_stays(shelf: Shelf) -> None:
    (first,) = shelf.submit("a", audit=False)
    sha256 = shelf.run()
    copy, _ = shelf.submit("b")
    claim = shelf.jobs.claim_one()
    artifacts = shelf.jobs.get_job(first).artifacts
    completion.finish_job(
        shelf.db, copy, claim.fence, artifacts, cache_key="k", code="c", reused_from=first
    )
    shelf.collect_on(91)
    assert shelf.jobs.list_states(first) == ["succeeded"]
    assert shelf.has_bytes(sha256)


def test_a_result_that_was_taken_over_goes_with_the_last_who_took_it(shelf: Shelf) -> None:
    first, its_audit = shelf.submit("a")
    sha256 = shelf.run()
    copy, audit = shelf.submit("b")
    claim = shelf.jobs.claim_one()
    artifacts = shelf.jobs.get_job(first).artifacts
    completion.finish_job(
        shelf.db, copy, claim.fence, artifacts, cache_key="k", code="c", reused_from=first
    )
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, its_audit)
    assert shelf.jobs.list_states(first) == ["succeeded"]
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, audit)
    assert count(shelf.db, jobs) == 0
    assert not shelf.has_bytes(sha256)


def bring(shelf: Shelf, data: bytes, lifetime_s: float) -> uploads.Upload:
    with shelf.artifacts.open_draft() as draft:
        draft.write(data)
        return uploads.record_upload(
            shelf.db, ALICE, draft.seal(), "text/csv",
            lifetime_s=lifetime_s, quota_bytes=1 << 20, place=draft.place,
        )[0]  # fmt: skip


@pytest.mark.parametrize("is_declared", [False, True])
def test_what_was_brought_for_ever_stays_when_the_job_that_made_it_too_goes(
    shelf: Shelf, is_declared: bool
) -> None:
    _, audit = shelf.submit("a")
    sha256 = shelf.run(data=b"made and brought")
    assert bring(shelf, b"made and brought", math.inf).expires_at is None
    if is_declared:  # and is not any more
        with shelf.db.write() as connection:
            uploads.keep_uploads(shelf.db, connection, ALICE, [sha256], "")
        with shelf.db.write() as connection:
            uploads.release_uploads(shelf.db, connection, ALICE, [sha256], math.inf)
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, audit)
    assert uploads.get_upload(shelf.db, ALICE, sha256).expires_at is None
    shelf.collect_on(100_000)
    assert shelf.has_bytes(sha256)


def test_what_was_brought_for_a_while_and_declared_stays_that_while(shelf: Shelf) -> None:
    _, audit = shelf.submit("a")
    sha256 = shelf.run(data=b"made and brought")
    bring(shelf, b"made and brought", 10 * DAY_S)
    with shelf.db.write() as connection:
        uploads.keep_uploads(shelf.db, connection, ALICE, [sha256], "")
    shelf.set_day(20)
    with shelf.db.write() as connection:
        uploads.release_uploads(shelf.db, connection, ALICE, [sha256], 10 * DAY_S)
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, audit)
    shelf.collect_on(29)
    assert shelf.has_bytes(sha256)
    shelf.collect_on(31)
    assert not shelf.has_bytes(sha256)


def test_a_result_that_is_gone_is_not_taken_over(shelf: Shelf) -> None:
    (first,) = shelf.submit("a", audit=False)
    shelf.run()
    copy, _ = shelf.submit("b")
    claim = shelf.jobs.claim_one()
    artifacts = shelf.jobs.get_job(first).artifacts
    shelf.collect_on(91)
    with pytest.raises(Conflict, match="gone"):
        completion.finish_job(
            shelf.db, copy, claim.fence, artifacts, cache_key="k", code="c", reused_from=first
        )
    assert shelf.jobs.list_states(copy) == ["running"]


def test_answers_workers_catalogs_and_sets_of_plugins(shelf: Shelf) -> None:
    key = IdempotencyKey("key", "0" * 64)
    shelf.jobs.submit(make_planned_job("a"), idempotency_key=key)
    shelf.run()
    worker_registry.register_worker(
        shelf.db, "w", host="h", pid=1, stages=(), device="cpu", threads=1, versions={},
        catalog="old",
    )  # fmt: skip
    rows = [{"digest": d, "body": "[]", "published_at": 1.0} for d in ("old", "older")]
    with shelf.db.write() as connection:
        connection.execute(insert(catalogs), rows)
    worker_registry.publish_catalog(shelf.db, Catalog([]))
    shelf.collect_on(0.01)
    assert count(shelf.db, catalogs) == 2  # a worker serves one
    assert (count(shelf.db, idempotency), count(shelf.db, plugin_sets)) == (1, 1)
    assert shelf.collect_on(2)["answers"] == 1
    assert worker_registry.list_workers(shelf.db) == []
    access_log.begin_entry(shelf.db, ALICE, "token", "POST /v1/jobs", "")  # on day 2
    shelf.collect_on(2)
    assert len(access_log.list_entries(shelf.db).items) == 1
    assert count(shelf.db, catalogs) == 1
    shelf.collect_on(91)
    shelf.collect_on(91)
    assert count(shelf.db, plugin_sets) == 0
    assert len(access_log.list_entries(shelf.db).items) == 1
    assert shelf.collect_on(368)["log_entries"] == 1
    shelf.set_day(0)
    shelf.submit("b")  # the set is stored again
    assert shelf.jobs.claim() is not None


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_set_of_plugins_stays_for_a_job_that_comes_in_meanwhile(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    (old,) = shelf.submit("a", audit=False)
    shelf.run()
    with shelf.db.write() as connection:
        connection.execute(delete(events))
        connection.execute(delete(job_artifacts))
        connection.execute(delete(jobs).where(jobs.c.id == old))
    run_transaction = shelf.db.run_transaction

    def submit_first(transaction: Any) -> Any:
        monkeypatch.undo()
        shelf.submit("b", audit=False)
        if has_ended:
            shelf.run()
        return run_transaction(transaction)

    monkeypatch.setattr(shelf.db, "run_transaction", submit_first)
    assert expiry.expire_catalogs(shelf.db, 0) == 0
    assert count(shelf.db, plugin_sets) == 1


def test_no_write_transaction_looks_at_all_jobs_for_a_set_of_plugins() -> None:
    db = open_in_memory()
    with db.write() as connection:
        row = {"digest": "d", "stage": "s", "plugins": "[]"}
        connection.execute(insert(plugin_sets), [row, row | {"digest": "e"}])
    statements = list[tuple[str, Any]]()

    def note(_c: Any, _k: Any, statement: str, values: Any, context: Any, _m: Any) -> None:
        if context.root_connection.get_execution_options().get("palimpsest_write"):
            statements.append((statement, values))

    listen(db.engine, "before_cursor_execute", note)
    assert expiry.expire_catalogs(db, 0) == 2
    remove(db.engine, "before_cursor_execute", note)
    with db.read() as connection:
        plans = [
            str(row.detail)
            for statement, values in statements
            if not statement.startswith("BEGIN")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert any("jobs" in plan for plan in plans)
    assert [plan for plan in plans if plan.startswith("SCAN jobs")] == []
    db.close()


def test_an_answer_whose_job_has_expired_is_given_no_more(shelf: Shelf) -> None:
    """A POST may link a job that ends its last day: the answer would name what is gone."""
    (old,) = shelf.submit("a", audit=False)
    shelf.run()
    key, planned = IdempotencyKey("key", "0" * 64), make_planned_job("a")
    shelf.set_day(89.9)
    assert shelf.jobs.post(planned, idempotency_key=key) == old
    assert shelf.collect_on(90.1)["jobs"] == 1
    assert submit.find_replay(shelf.db, ALICE, key) is None
    new = shelf.jobs.post(planned, idempotency_key=key)
    assert shelf.jobs.list_states(new) == ["queued"]
    again = submit.find_replay(shelf.db, ALICE, key)
    assert again is not None
    assert (list(again.jobs.values()), again.replayed) == ([new], True)
    assert shelf.jobs.post(planned, idempotency_key=key) == new


def test_an_audit_is_deleted_with_what_is_not_shared(shelf: Shelf) -> None:
    common, _, first = shelf.submit("common", "one")
    _, two, second = shelf.submit("common", "two")
    with pytest.raises(Conflict, match=common):
        audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, first)
    with pytest.raises(NotFound):
        audit_deletion.delete_audit(shelf.db, BOB, shelf.artifacts, first)
    shared, *_ = digests = [shelf.run() for _ in range(3)]
    done = audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, first)
    assert (done.audits, done.jobs, done.artifacts) == (1, 1, 1)
    assert shelf.jobs.list_states(common, two) == ["succeeded"] * 2
    assert [shelf.has_bytes(d) for d in digests].count(True) == 2
    assert shelf.has_bytes(shared)
    with pytest.raises(NotFound):
        audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, first)
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, second)
    assert count(shelf.db, jobs) == 0
    assert not any(shelf.has_bytes(d) for d in digests)


def test_a_deleted_audit_and_its_jobs_are_named_nowhere(shelf: Shelf) -> None:
    webhooks.add_webhook(shelf.db, ALICE, "https://receiver.example/", EVENTS)
    hook, _ = webhooks.add_webhook(shelf.db, ALICE, "https://receiver.example/", EVENTS)
    webhooks.add_test_delivery(shelf.db, ALICE, hook.id)
    common, kept_audit = shelf.submit("common")
    _, one, two, first = shelf.submit("common", "one", "two")
    shelf.run()
    shelf.run()
    process_outbox(shelf.db)
    shelf.run()  # and this end is still to be told
    entries = [
        access_log.begin_entry(shelf.db, tenant, "token", "POST /v1/somewhere", subject)
        for subject in (first, one, two, common, kept_audit)
        for tenant in (ALICE, BOB)
    ]
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, first)
    assert process_outbox(shelf.db) > 0
    with shelf.db.read() as connection:
        bodies = list(connection.execute(select(webhook_deliveries.c.body)).scalars())
        totals = load_totals(connection)["tenant_jobs_finished"]
    assert not [body for body in bodies for gone in (first, one, two) if gone in body]
    assert sum(common in body for body in bodies) == 2
    assert sum(kept_audit in body for body in bodies) == 2
    assert sum(hook.id in body for body in bodies) == 1
    assert totals == {(ALICE, "succeeded"): 3}  # and the end is counted all the same
    subjects = {e.id: e.subject for e in access_log.list_entries(shelf.db).items}
    of_alice = [subjects[entry] for entry in entries[::2]]
    assert of_alice == ["", "", "", common, kept_audit]
    assert [subjects[entry] for entry in entries[1::2]] == [first, one, two, common, kept_audit]


def test_a_running_audit_is_cancelled_and_goes_when_its_jobs_have_ended(shelf: Shelf) -> None:
    webhooks.add_webhook(shelf.db, ALICE, "https://receiver.example/", EVENTS)
    common, _, first = shelf.submit("common", "one")
    claim = shelf.jobs.claim_one()
    done = audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, first, cancel=True)
    assert not done.finished
    assert queries.list_audits(shelf.db, ALICE).items == []
    assert shelf.jobs.list_states(common) == ["running"]  # until its attempt obeys
    shelf.collect_on(0)
    assert count(shelf.db, erasures) == 1
    attempts.cancel_attempt(shelf.db, common, claim.fence)
    process_outbox(shelf.db)
    with shelf.db.read() as connection:
        bodies = list(connection.execute(select(webhook_deliveries.c.body)).scalars())
    assert not [body for body in bodies if first in body]  # nobody is told of it any more
    shelf.collect_on(0)
    assert count(shelf.db, jobs) == 0
    assert count(shelf.db, webhook_deliveries) == 0


def test_the_traces_of_one_deletion_do_not_wait_for_another(shelf: Shelf) -> None:
    *_, slow = shelf.submit("slow")
    claim = shelf.jobs.claim_one()
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, slow, cancel=True)
    *_, quick = shelf.submit("quick")
    shelf.run()
    *_, old = shelf.submit("of an audit that the collector has just marked")
    with shelf.db.write() as connection:
        connection.execute(update(audits).where(audits.c.id == old).values(deleting=True))
    audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, quick)
    assert not erasure.finish_erasures(shelf.db, shelf.artifacts)
    assert count(shelf.db, erasures) == 1  # of the slow one
    attempts.cancel_attempt(shelf.db, claim.job.id, claim.fence)
    audit_deletion.finish_deletions(shelf.db, math.inf)
    assert erasure.finish_erasures(shelf.db, shelf.artifacts)
    assert count(shelf.db, erasures) == 0


def test_what_was_referred_to_is_found_in_the_next_walk(shelf: Shelf) -> None:
    seconds = [0.0]
    collector = replace(shelf.collector, clock=lambda: seconds[0])
    (job,) = shelf.submit("a", audit=False)
    shelf.run()
    copy, _ = shelf.submit("b")
    shelf.set_day(91)
    with shelf.db.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == copy).values(reused_from=job))
    collector.collect()
    with shelf.db.write() as connection:
        connection.execute(update(jobs).values(reused_from=None))
    assert collector.collect().get("jobs") is None  # it has passed the job
    shelf.set_day(0)
    (later,) = shelf.submit("c", audit=False)
    control.cancel_job(shelf.db, ALICE, later)
    shelf.set_day(91)
    assert collector.collect().get("jobs") == 1  # and goes on
    assert shelf.jobs.list_states(job) == ["succeeded"]
    seconds[0] += RESTART_S
    assert collector.collect()["jobs"] == 1
    with pytest.raises(NotFound):
        shelf.jobs.get_job(job)


def test_what_is_kept_for_ever_stays(store: JobStore) -> None:
    shelf = Shelf(store, Retention())
    job, _ = shelf.submit("a")
    shelf.run("RECONSTRUCTION")
    before = store.dump()
    assert shelf.collect_on(100_000) == {}
    shelf.set_day(0)
    assert store.dump() == before
    assert len(store.list_events(job)) == 3
