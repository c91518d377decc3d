"""What a user may ask of jobs and audits, and what must not come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from shared.errors import Conflict, NotFound
from shared.jobs import attempts, control, queries
from shared.jobs.tables import audit_jobs
from shared.jobs.transitions import lock_job
from tests.support.job_store import (
    ALICE,
    BOB,
    STAGE,
    JobStore,
    make_planned_job,
    run_overlapping,
    run_together,
)

BY_ID: dict[str, Callable[[JobStore, str, str], Any]] = {
    "get": lambda s, tenant, job: queries.get_job(s.db, tenant, job),
    "events": lambda s, tenant, job: queries.list_events(s.db, tenant, job, 0),
    "cancel": lambda s, tenant, job: control.cancel_job(s.db, tenant, job),
    "retry": lambda s, tenant, job: control.retry_job(s.db, tenant, job),
    "pause": lambda s, tenant, job: control.pause_job(s.db, tenant, job),
    "resume": lambda s, tenant, job: control.resume_job(s.db, tenant, job),
}


@pytest.mark.parametrize("state", ["waiting", "queued", "paused"])
def test_a_job_that_does_not_run_is_cancelled_at_once(store: JobStore, state: str) -> None:
    root = make_planned_job("root")
    job_id = store.post(
        *([root, make_planned_job("a", root)] if state == "waiting" else [make_planned_job("a")])
    )
    if state == "paused":
        control.pause_job(store.db, ALICE, job_id)
    assert store.list_states(job_id) == [state]
    control.cancel_job(store.db, ALICE, job_id)
    job = store.get_job(job_id)
    assert (job.state, job.failure) == ("cancelled", None)
    assert job.finished_at is not None


def test_a_running_job_is_told_once(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    store.claim_one()
    for _ in range(3):
        control.cancel_job(store.db, ALICE, job_id)
    job = store.get_job(job_id)
    assert (job.state, job.stop) == ("running", "cancel")
    assert [e.kind for e in store.list_events(job_id)] == ["state", "state", "cancel"]


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_cancelling_a_job_that_has_ended_changes_nothing(store: JobStore, end: str) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    if end == "succeeded":
        store.finish(claim)
    elif end == "failed":
        store.fail(claim)
    else:
        attempts.cancel_attempt(store.db, job_id, claim.fence)
    before = store.dump()
    control.cancel_job(store.db, ALICE, job_id)
    assert store.list_states(job_id) == [end]
    assert store.dump() == before


def test_cancelling_an_audit_cancels_what_only_it_wants(store: JobStore) -> None:
    root = make_planned_job("root")
    audit, ids = store.submit_audit(root, make_planned_job("a", root), make_planned_job("b", root))
    assert control.cancel_audit(store.db, ALICE, audit) == 3
    assert store.list_states(*ids) == ["cancelled"] * 3
    found = queries.get_audit(store.db, ALICE, audit)
    assert (found.state, found.counts) == ("cancelled", {"cancelled": 3})
    assert control.cancel_audit(store.db, ALICE, audit) == 0


def test_cancelling_an_audit_tells_its_running_jobs(store: JobStore) -> None:
    root = make_planned_job("root")
    audit, ids = store.submit_audit(root, make_planned_job("a", root))
    store.claim_one()
    assert control.cancel_audit(store.db, ALICE, audit) == 2
    assert store.list_states(*ids) == ["running", "cancelled"]
    assert store.get_job(ids[0]).stop == "cancel"


def test_cancelling_an_audit_leaves_what_another_audit_wants(store: JobStore) -> None:
    root = make_planned_job("root")
    first, (root_id, a) = store.submit_audit(root, make_planned_job("a", root))
    second, (shared, b) = store.submit_audit(root, make_planned_job("b", root))
    assert shared == root_id
    assert control.cancel_audit(store.db, ALICE, first) == 1
    assert store.list_states(root_id, a, b) == ["queued", "cancelled", "waiting"]
    assert control.cancel_audit(store.db, ALICE, second) == 2  # the last one to leave
    assert store.list_states(root_id, b) == ["cancelled", "cancelled"]


@pytest.mark.parametrize("by_hand", ["before", "after"])
def test_cancelling_an_audit_leaves_what_was_posted_by_hand(store: JobStore, by_hand: str) -> None:
    a = make_planned_job("a")
    if by_hand == "before":
        store.submit(a)
    audit, (job_id, other) = store.submit_audit(a, make_planned_job("b"))
    if by_hand == "after":
        store.submit(a)
    assert control.cancel_audit(store.db, ALICE, audit) == 1
    assert store.list_states(job_id, other) == ["queued", "cancelled"]


def test_cancelling_an_audit_leaves_what_a_live_job_needs(store: JobStore) -> None:
    root, middle = make_planned_job("root"), None
    middle = make_planned_job("middle", root)
    audit, ids = store.submit_audit(root, middle, make_planned_job("leaf", middle))
    by_hand = store.post(make_planned_job("by hand", ids[1]))
    assert control.cancel_audit(store.db, ALICE, audit) == 1
    assert store.list_states(*ids, by_hand) == ["queued", "waiting", "cancelled", "waiting"]


def test_cancelling_an_audit_that_has_ended_changes_nothing(store: JobStore) -> None:
    audit, _ = store.submit_audit(make_planned_job("a"))
    store.finish(store.claim_one())
    before = store.dump()
    assert control.cancel_audit(store.db, ALICE, audit) == 0
    assert store.dump() == before


def test_cancelling_an_audit_leaves_what_has_ended(store: JobStore) -> None:
    done = store.run_job("done")
    audit, ids = store.submit_audit(make_planned_job("done"), make_planned_job("a"))
    assert ids[0] == done
    assert control.cancel_audit(store.db, ALICE, audit) == 1
    assert store.list_states(done) == ["succeeded"]


def test_an_audit_that_shares_a_job_while_another_is_cancelled_keeps_it(store: JobStore) -> None:
    """The one that shares has locked the job; whoever cancels must see the share once it has the
    lock."""
    first, (job_id,) = store.submit_audit(make_planned_job("a"))
    second, _ = store.submit_audit(make_planned_job("b"))

    def share(connection: Any) -> None:
        lock_job(connection, job_id)
        connection.execute(insert(audit_jobs).values(audit=second, job=job_id, detached=False))

    assert (
        run_overlapping(store.db, share, lambda: control.cancel_audit(store.db, ALICE, first)) == 0
    )
    assert store.list_states(job_id) == ["queued"]


def test_an_audit_submitted_while_its_equal_is_cancelled_loses_nothing(store: JobStore) -> None:
    for n in range(6):
        root = make_planned_job(f"root{n}")
        grid = [root, make_planned_job(f"a{n}", root), make_planned_job(f"b{n}", root)]
        audit, _ = store.submit_audit(*grid)
        submitted, cancelled = run_together(
            lambda grid=grid: store.submit_audit(*grid),
            lambda audit=audit: control.cancel_audit(store.db, ALICE, audit),
        )
        assert isinstance(cancelled, int), cancelled
        assert store.list_states(*submitted[1]) == ["queued", "waiting", "waiting"]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_retried_job_starts_afresh_but_keeps_its_checkpoint(store: JobStore, end: str) -> None:
    job_id = store.post(make_planned_job("a"))
    store.claim_one(lease_s=-1)
    store.expire_leases()
    claim = store.claim_one()
    attempts.save_checkpoint(store.db, job_id, claim.fence, "c" * 64, "k" * 64)
    attempts.renew_lease(store.db, job_id, claim.fence, 60, {"done": 1})
    if end == "failed":
        store.fail(claim)
    else:
        attempts.cancel_attempt(store.db, job_id, claim.fence)
    assert control.retry_job(store.db, ALICE, job_id) == {STAGE}
    job = store.get_job(job_id)
    assert (job.state, job.failure, job.message, job.lost_count, job.finished_at) == (
        "queued",
        None,
        None,
        0,
        None,
    )
    assert (job.checkpoint, job.progress, job.attempt) == ("c" * 64, {}, 2)
    assert store.post(make_planned_job("a")) == job_id  # it answers for its equals again
    assert store.claim_one().fence == claim.fence + 1


def test_only_a_failed_or_cancelled_job_can_be_retried(store: JobStore) -> None:
    root = make_planned_job("root")
    ids = store.submit(root, make_planned_job("a", root)).jobs
    for job_id in ids.values():
        with pytest.raises(Conflict, match="only failed and cancelled jobs"):
            control.retry_job(store.db, ALICE, job_id)
    store.finish(store.claim_one())
    with pytest.raises(Conflict, match="succeeded"):
        control.retry_job(store.db, ALICE, ids[root.request_key])


def test_a_retry_beside_a_live_equal_is_refused(store: JobStore) -> None:
    old = store.post(make_planned_job("a"))
    store.fail(store.claim_one())
    new = store.post(make_planned_job("a"))
    with pytest.raises(Conflict, match="an identical job is"):
        control.retry_job(store.db, ALICE, old)
    assert store.list_states(old, new) == ["failed", "queued"]
    control.cancel_job(store.db, ALICE, new)
    control.retry_job(store.db, ALICE, old)
    assert store.list_states(old) == ["queued"]


def test_equal_jobs_retried_at_the_same_moment_are_one(store: JobStore) -> None:
    old = store.post(make_planned_job("a"))
    store.fail(store.claim_one())
    new = store.post(make_planned_job("a"))
    store.fail(store.claim_one())
    answers = run_together(
        lambda: control.retry_job(store.db, ALICE, old),
        lambda: control.retry_job(store.db, ALICE, new),
    )
    assert sorted(type(a).__name__ for a in answers) == ["Conflict", "set"]
    assert sorted(store.list_states(old, new)) == ["failed", "queued"]


def test_a_child_is_retried_after_its_parent(store: JobStore) -> None:
    root = make_planned_job("root")
    root_id, child = store.submit(root, make_planned_job("child", root)).jobs.values()
    store.fail(store.claim_one())
    with pytest.raises(
        Conflict, match=f"its input, job {root_id} .*, has failed: retry that one first"
    ):
        control.retry_job(store.db, ALICE, child)
    control.retry_job(store.db, ALICE, root_id)
    assert control.retry_job(store.db, ALICE, child) == set()
    assert store.list_states(root_id, child) == ["queued", "waiting"]
    assert store.finish(store.claim_one()) == {STAGE}
    assert store.list_states(child) == ["queued"]


def test_a_child_is_not_retried_onto_a_parent_that_is_being_cancelled(store: JobStore) -> None:
    root = make_planned_job("root")
    root_id, child = store.submit(root, make_planned_job("child", root)).jobs.values()
    claim = store.claim_one()
    control.cancel_job(store.db, ALICE, child)
    control.cancel_job(store.db, ALICE, root_id)
    with pytest.raises(Conflict, match="is being cancelled: retry that one first"):
        control.retry_job(store.db, ALICE, child)
    attempts.cancel_attempt(store.db, root_id, claim.fence)
    control.retry_job(store.db, ALICE, root_id)
    control.retry_job(store.db, ALICE, child)
    assert store.list_states(root_id, child) == ["queued", "waiting"]


def test_a_held_job_is_not_claimed(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    control.pause_job(store.db, ALICE, job_id)
    assert store.claim() is None
    assert control.resume_job(store.db, ALICE, job_id) == {STAGE}
    assert store.claim_one().job.id == job_id


def test_hold_and_unhold_may_be_asked_again_when_the_answer_was_lost(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    for _ in range(2):
        control.pause_job(store.db, ALICE, job_id)
    assert [control.resume_job(store.db, ALICE, job_id) for _ in range(2)] == [{STAGE}, set()]
    assert store.list_transitions(job_id) == ["queued", "paused", "queued"]


def test_hold_is_for_queued_jobs_and_unhold_for_held_ones(store: JobStore) -> None:
    root = make_planned_job("root")
    root_id, child = store.submit(root, make_planned_job("child", root)).jobs.values()
    with pytest.raises(Conflict):
        control.pause_job(store.db, ALICE, child)
    with pytest.raises(Conflict):
        control.resume_job(store.db, ALICE, child)
    store.claim_one()
    for ask in (control.pause_job, control.resume_job):  # neither takes a job from its attempt
        with pytest.raises(Conflict):
            ask(store.db, ALICE, root_id)
    assert store.list_states(root_id, child) == ["running", "waiting"]


@pytest.mark.parametrize("name", BY_ID)
def test_a_foreign_job_and_one_that_does_not_exist_look_alike(store: JobStore, name: str) -> None:
    job_id = store.post(make_planned_job("a"))
    before = store.dump()
    for tenant, wanted in ((BOB, job_id), (ALICE, "job_" + "0" * 20)):
        with pytest.raises(NotFound, match=f"^there is no job {wanted}$"):
            BY_ID[name](store, tenant, wanted)
    assert store.dump() == before


def test_a_foreign_audit_and_one_that_does_not_exist_look_alike(store: JobStore) -> None:
    audit, _ = store.submit_audit(make_planned_job("a"))
    before = store.dump()
    for tenant, wanted in ((BOB, audit), (ALICE, "aud_" + "0" * 20)):
        for ask in (control.cancel_audit, queries.get_audit):
            with pytest.raises(NotFound, match=f"^there is no audit {wanted}$"):
                ask(store.db, tenant, wanted)
    assert store.dump() == before
