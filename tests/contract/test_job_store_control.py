"""What a user may ask of jobs and audits, and what must not come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from shared.errors import Conflict, NotFound
from shared.jobs import claims, control, reads
from shared.jobs.moves import lock
from shared.jobs.tables import audit_jobs
from tests.support.jobs import ALICE, BOB, STAGE, Store, overlapping, planned, together

BY_ID: dict[str, Callable[[Store, str, str], Any]] = {
    "get": lambda s, tenant, job: reads.get_job(s.db, tenant, job),
    "events": lambda s, tenant, job: reads.events_after(s.db, tenant, job, 0),
    "cancel": lambda s, tenant, job: control.cancel_job(s.db, tenant, job),
    "retry": lambda s, tenant, job: control.retry_job(s.db, tenant, job),
    "hold": lambda s, tenant, job: control.hold_job(s.db, tenant, job),
    "unhold": lambda s, tenant, job: control.unhold_job(s.db, tenant, job),
}


@pytest.mark.parametrize("state", ["waiting", "queued", "held"])
def test_a_job_that_does_not_run_is_cancelled_at_once(store: Store, state: str) -> None:
    root = planned("root")
    job_id = store.post(*([root, planned("a", root)] if state == "waiting" else [planned("a")]))
    if state == "held":
        control.hold_job(store.db, ALICE, job_id)
    assert store.states(job_id) == [state]
    control.cancel_job(store.db, ALICE, job_id)
    job = store.job(job_id)
    assert (job.state, job.failure) == ("cancelled", None)
    assert job.finished_at is not None


def test_a_running_job_is_told_once(store: Store) -> None:
    job_id = store.post(planned("a"))
    store.take()
    for _ in range(3):
        control.cancel_job(store.db, ALICE, job_id)
    job = store.job(job_id)
    assert (job.state, job.stop) == ("running", "cancel")
    assert [e.kind for e in store.events(job_id)] == ["state", "state", "cancel"]


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_cancelling_a_job_that_has_ended_changes_nothing(store: Store, end: str) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    if end == "succeeded":
        store.finish(claim)
    elif end == "failed":
        store.fail(claim)
    else:
        claims.cancelled(store.db, job_id, claim.fence)
    before = store.dump()
    control.cancel_job(store.db, ALICE, job_id)
    assert store.states(job_id) == [end]
    assert store.dump() == before


def test_cancelling_an_audit_cancels_what_only_it_wants(store: Store) -> None:
    root = planned("root")
    audit, ids = store.audit(root, planned("a", root), planned("b", root))
    assert control.cancel_audit(store.db, ALICE, audit) == 3
    assert store.states(*ids) == ["cancelled"] * 3
    found = reads.get_audit(store.db, ALICE, audit)
    assert (found.state, found.counts) == ("cancelled", {"cancelled": 3})
    assert control.cancel_audit(store.db, ALICE, audit) == 0


def test_cancelling_an_audit_tells_its_running_jobs(store: Store) -> None:
    root = planned("root")
    audit, ids = store.audit(root, planned("a", root))
    store.take()
    assert control.cancel_audit(store.db, ALICE, audit) == 2
    assert store.states(*ids) == ["running", "cancelled"]
    assert store.job(ids[0]).stop == "cancel"


def test_cancelling_an_audit_leaves_what_another_audit_wants(store: Store) -> None:
    root = planned("root")
    first, (root_id, a) = store.audit(root, planned("a", root))
    second, (shared, b) = store.audit(root, planned("b", root))
    assert shared == root_id
    assert control.cancel_audit(store.db, ALICE, first) == 1
    assert store.states(root_id, a, b) == ["queued", "cancelled", "waiting"]
    assert control.cancel_audit(store.db, ALICE, second) == 2  # the last one to leave
    assert store.states(root_id, b) == ["cancelled", "cancelled"]


@pytest.mark.parametrize("by_hand", ["before", "after"])
def test_cancelling_an_audit_leaves_what_was_posted_by_hand(store: Store, by_hand: str) -> None:
    a = planned("a")
    if by_hand == "before":
        store.submit(a)
    audit, (job_id, other) = store.audit(a, planned("b"))
    if by_hand == "after":
        store.submit(a)
    assert control.cancel_audit(store.db, ALICE, audit) == 1
    assert store.states(job_id, other) == ["queued", "cancelled"]


def test_cancelling_an_audit_leaves_what_a_live_job_needs(store: Store) -> None:
    root, middle = planned("root"), None
    middle = planned("middle", root)
    audit, ids = store.audit(root, middle, planned("leaf", middle))
    by_hand = store.post(planned("by hand", ids[1]))
    assert control.cancel_audit(store.db, ALICE, audit) == 1
    assert store.states(*ids, by_hand) == ["queued", "waiting", "cancelled", "waiting"]


def test_cancelling_an_audit_that_has_ended_changes_nothing(store: Store) -> None:
    audit, _ = store.audit(planned("a"))
    store.finish(store.take())
    before = store.dump()
    assert control.cancel_audit(store.db, ALICE, audit) == 0
    assert store.dump() == before


def test_cancelling_an_audit_leaves_what_has_ended(store: Store) -> None:
    done = store.run("done")
    audit, ids = store.audit(planned("done"), planned("a"))
    assert ids[0] == done
    assert control.cancel_audit(store.db, ALICE, audit) == 1
    assert store.states(done) == ["succeeded"]


def test_an_audit_that_shares_a_job_while_another_is_cancelled_keeps_it(store: Store) -> None:
    """The one that shares has locked the job; whoever cancels must see the share once it has the lock."""
    first, (job_id,) = store.audit(planned("a"))
    second, _ = store.audit(planned("b"))

    def share(connection: Any) -> None:
        lock(connection, job_id)
        connection.execute(insert(audit_jobs).values(audit=second, job=job_id, detached=False))

    assert overlapping(store.db, share, lambda: control.cancel_audit(store.db, ALICE, first)) == 0
    assert store.states(job_id) == ["queued"]


def test_an_audit_submitted_while_its_equal_is_cancelled_loses_nothing(store: Store) -> None:
    for n in range(6):
        root = planned(f"root{n}")
        grid = [root, planned(f"a{n}", root), planned(f"b{n}", root)]
        audit, _ = store.audit(*grid)
        submitted, cancelled = together(
            lambda grid=grid: store.audit(*grid), lambda audit=audit: control.cancel_audit(store.db, ALICE, audit)
        )
        assert isinstance(cancelled, int), cancelled
        assert store.states(*submitted[1]) == ["queued", "waiting", "waiting"]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_retried_job_starts_afresh_but_keeps_its_checkpoint(store: Store, end: str) -> None:
    job_id = store.post(planned("a"))
    store.take(lease=-1)
    store.expire()
    claim = store.take()
    claims.save_checkpoint(store.db, job_id, claim.fence, "c" * 64, "k" * 64)
    claims.renew(store.db, job_id, claim.fence, 60, {"done": 1})
    if end == "failed":
        store.fail(claim)
    else:
        claims.cancelled(store.db, job_id, claim.fence)
    assert control.retry_job(store.db, ALICE, job_id) == {STAGE}
    job = store.job(job_id)
    assert (job.state, job.failure, job.message, job.lost_count, job.finished_at) == ("queued", None, None, 0, None)
    assert (job.checkpoint, job.progress, job.attempt) == ("c" * 64, {}, 2)
    assert store.post(planned("a")) == job_id  # it answers for its equals again
    assert store.take().fence == claim.fence + 1


def test_only_a_failed_or_cancelled_job_can_be_retried(store: Store) -> None:
    root = planned("root")
    ids = store.submit(root, planned("a", root)).jobs
    for job_id in ids.values():
        with pytest.raises(Conflict, match="only a failed or cancelled one"):
            control.retry_job(store.db, ALICE, job_id)
    store.finish(store.take())
    with pytest.raises(Conflict, match="succeeded"):
        control.retry_job(store.db, ALICE, ids[root.plan_key])


def test_a_retry_beside_a_live_equal_is_refused(store: Store) -> None:
    old = store.post(planned("a"))
    store.fail(store.take())
    new = store.post(planned("a"))
    with pytest.raises(Conflict, match="an equal job is live"):
        control.retry_job(store.db, ALICE, old)
    assert store.states(old, new) == ["failed", "queued"]
    control.cancel_job(store.db, ALICE, new)
    control.retry_job(store.db, ALICE, old)
    assert store.states(old) == ["queued"]


def test_equal_jobs_retried_at_the_same_moment_are_one(store: Store) -> None:
    old = store.post(planned("a"))
    store.fail(store.take())
    new = store.post(planned("a"))
    store.fail(store.take())
    answers = together(lambda: control.retry_job(store.db, ALICE, old), lambda: control.retry_job(store.db, ALICE, new))
    assert sorted(type(a).__name__ for a in answers) == ["Conflict", "set"]
    assert sorted(store.states(old, new)) == ["failed", "queued"]


def test_a_child_is_retried_after_its_parent(store: Store) -> None:
    root = planned("root")
    root_id, child = store.submit(root, planned("child", root)).jobs.values()
    store.fail(store.take())
    with pytest.raises(Conflict, match=f"its input, job {root_id} .*, has failed: retry that one first"):
        control.retry_job(store.db, ALICE, child)
    control.retry_job(store.db, ALICE, root_id)
    assert control.retry_job(store.db, ALICE, child) == set()
    assert store.states(root_id, child) == ["queued", "waiting"]
    assert store.finish(store.take()) == {STAGE}
    assert store.states(child) == ["queued"]


def test_a_child_is_not_retried_onto_a_parent_that_is_being_cancelled(store: Store) -> None:
    root = planned("root")
    root_id, child = store.submit(root, planned("child", root)).jobs.values()
    claim = store.take()
    control.cancel_job(store.db, ALICE, child)
    control.cancel_job(store.db, ALICE, root_id)
    with pytest.raises(Conflict, match="is being cancelled: retry that one first"):
        control.retry_job(store.db, ALICE, child)
    claims.cancelled(store.db, root_id, claim.fence)
    control.retry_job(store.db, ALICE, root_id)
    control.retry_job(store.db, ALICE, child)
    assert store.states(root_id, child) == ["queued", "waiting"]


def test_a_held_job_is_not_claimed(store: Store) -> None:
    job_id = store.post(planned("a"))
    control.hold_job(store.db, ALICE, job_id)
    assert store.claim() is None
    assert control.unhold_job(store.db, ALICE, job_id) == {STAGE}
    assert store.take().job.id == job_id


def test_hold_and_unhold_may_be_asked_again_when_the_answer_was_lost(store: Store) -> None:
    job_id = store.post(planned("a"))
    for _ in range(2):
        control.hold_job(store.db, ALICE, job_id)
    assert [control.unhold_job(store.db, ALICE, job_id) for _ in range(2)] == [{STAGE}, set()]
    assert store.path(job_id) == ["queued", "held", "queued"]


def test_hold_is_for_queued_jobs_and_unhold_for_held_ones(store: Store) -> None:
    root = planned("root")
    root_id, child = store.submit(root, planned("child", root)).jobs.values()
    with pytest.raises(Conflict):
        control.hold_job(store.db, ALICE, child)
    with pytest.raises(Conflict):
        control.unhold_job(store.db, ALICE, child)
    store.take()
    for ask in (control.hold_job, control.unhold_job):  # neither takes a job from its attempt
        with pytest.raises(Conflict):
            ask(store.db, ALICE, root_id)
    assert store.states(root_id, child) == ["running", "waiting"]


@pytest.mark.parametrize("name", BY_ID)
def test_a_foreign_job_and_one_that_does_not_exist_look_alike(store: Store, name: str) -> None:
    job_id = store.post(planned("a"))
    before = store.dump()
    for tenant, wanted in ((BOB, job_id), (ALICE, "job_" + "0" * 20)):
        with pytest.raises(NotFound, match=f"^there is no job {wanted}$"):
            BY_ID[name](store, tenant, wanted)
    assert store.dump() == before


def test_a_foreign_audit_and_one_that_does_not_exist_look_alike(store: Store) -> None:
    audit, _ = store.audit(planned("a"))
    before = store.dump()
    for tenant, wanted in ((BOB, audit), (ALICE, "aud_" + "0" * 20)):
        for ask in (control.cancel_audit, reads.get_audit):
            with pytest.raises(NotFound, match=f"^there is no audit {wanted}$"):
                ask(store.db, tenant, wanted)
    assert store.dump() == before
