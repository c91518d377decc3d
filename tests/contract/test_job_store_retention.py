"""What was kept long enough goes, by kind, and nothing that anything refers to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, update

from shared.catalog import Catalog
from shared.errors import Conflict, Gone, NotFound
from shared.jobs import (
    access_log,
    attempts,
    audit_deletion,
    completion,
    control,
    queries,
    repair,
    worker_registry,
)
from shared.jobs.collector import RESTART_S
from shared.jobs.database import Database
from shared.jobs.records import Input
from shared.jobs.retention import PAGE_ROLES, Retention
from shared.jobs.submit import IdempotencyKey
from shared.jobs.tables import catalogs, erasures, idempotency, job_inputs, jobs, plugin_sets
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


def test_a_running_audit_is_cancelled_and_goes_when_its_jobs_have_ended(shelf: Shelf) -> None:
    common, _, first = shelf.submit("common", "one")
    claim = shelf.jobs.claim_one()
    done = audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, first, cancel=True)
    assert not done.finished
    assert queries.list_audits(shelf.db, ALICE).items == []
    assert shelf.jobs.list_states(common) == ["running"]  # until its attempt obeys
    shelf.collect_on(0)
    assert count(shelf.db, erasures) == 1
    attempts.cancel_attempt(shelf.db, common, claim.fence)
    shelf.collect_on(0)
    assert count(shelf.db, jobs) == 0


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
