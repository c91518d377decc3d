"""What a submission promises: equal jobs are one, a request can be repeated, nothing is stored by
halves."""

from __future__ import annotations

import functools

import pytest

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs import control, queries, submit
from shared.jobs.records import Input, SubmitResult
from shared.jobs.submit import AuditRequest, IdempotencyKey
from shared.jobs.transitions import lock_job
from tests.support.job_store import (
    ALICE,
    BOB,
    CODE_DIGEST,
    STAGE,
    JobStore,
    compute_sha256,
    make_planned_job,
    run_overlapping,
    run_together,
)


def test_what_was_planned_is_what_is_stored(store: JobStore) -> None:
    root = make_planned_job("root", plugins=("stage:train", "dataset:digits"))
    done = store.submit(root, make_planned_job("leaf", root), priority=7, time_limit=90.0)
    leaf = store.get_job(done.jobs[compute_sha256("leaf")])
    assert (leaf.stage, leaf.method, leaf.params, leaf.seed, leaf.produces) == (
        STAGE,
        None,
        {"tag": "leaf"},
        0,
        ("OUT",),
    )
    assert leaf.inputs == (Input("IN0", parent=done.jobs[root.request_key], parent_role="OUT"),)
    assert (leaf.priority, leaf.time_limit, leaf.request_key, leaf.code) == (
        7,
        90.0,
        compute_sha256("leaf"),
        CODE_DIGEST,
    )
    assert (leaf.state, leaf.fence, leaf.attempt, leaf.lost_count, leaf.queued_at) == (
        "waiting",
        0,
        0,
        0,
        None,
    )
    assert done.created == set(done.jobs.values())
    assert done.stages == {STAGE}  # the root's: the leaf has nothing to do yet
    assert store.list_states(done.jobs[root.request_key]) == ["queued"]


def test_equal_live_jobs_are_one(store: JobStore) -> None:
    first = store.submit(make_planned_job("a"))
    again = store.submit(make_planned_job("a"))
    assert again.jobs == first.jobs
    assert (again.created, again.stages) == (frozenset(), frozenset())
    assert len(queries.list_jobs(store.db, ALICE).items) == 1


@pytest.mark.parametrize("state", ["waiting", "queued", "paused", "running", "succeeded"])
def test_a_job_in_any_state_but_failed_and_cancelled_answers_for_its_equal(
    store: JobStore, state: str
) -> None:
    root = make_planned_job("root")
    if state == "waiting":
        a = store.post(root, make_planned_job("a", root))
        assert store.post(root, make_planned_job("a", root)) == a
        return
    a = store.post(make_planned_job("a"))
    if state == "paused":
        control.pause_job(store.db, ALICE, a)
    elif state in ("running", "succeeded"):
        claim = store.claim_one()
        if state == "succeeded":
            store.finish(claim)
    assert store.list_states(a) == [state]
    assert store.post(make_planned_job("a")) == a


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_an_equal_of_a_failed_or_cancelled_job_runs_anew(store: JobStore, end: str) -> None:
    a = store.post(make_planned_job("a"))
    if end == "failed":
        store.fail(store.claim_one())
    else:
        control.cancel_job(store.db, ALICE, a)
    assert store.post(make_planned_job("a")) != a


def test_a_running_job_that_was_told_to_end_does_not_answer_for_its_equal(store: JobStore) -> None:
    """Else a submission accepted after the cancel would be cancelled with it."""
    root = make_planned_job("root")
    both = store.submit(root, make_planned_job("leaf", root)).jobs
    store.claim_one()
    control.cancel_job(store.db, ALICE, both[root.request_key])
    again = store.submit(root, make_planned_job("leaf", root))
    assert not set(again.jobs.values()) & set(both.values())
    assert store.list_states(*again.jobs.values()) == ["queued", "waiting"]


def test_a_fresh_job_neither_shares_nor_is_shared(store: JobStore) -> None:
    store.run_job("a")
    fresh = store.post(make_planned_job("a", no_cache=True))
    assert store.list_states(fresh) == ["queued"]
    assert store.post(make_planned_job("a", no_cache=True)) != fresh
    again = store.submit(make_planned_job("a"))
    assert (again.created, fresh in again.jobs.values()) == (frozenset(), False)


def test_a_job_planned_for_other_code_does_not_answer_for_its_plan_key(store: JobStore) -> None:
    a = store.post(make_planned_job("a"))
    store.finish(store.claim_one(), code="code that ran")
    assert store.get_job(a).code == "code that ran"
    assert store.post(make_planned_job("a")) != a


def test_equal_jobs_submitted_at_the_same_moment_are_one(store: JobStore) -> None:
    for n in range(6):
        root = make_planned_job(f"root{n}")
        answers = run_together(
            *[
                lambda root=root, n=n: store.submit(root, make_planned_job(f"leaf{n}", root))
                for _ in range(4)
            ]
        )
        assert all(isinstance(a, SubmitResult) for a in answers), answers
        assert len({tuple(sorted(a.jobs.items())) for a in answers}) == 1
        assert sum(len(a.created) for a in answers) == 2
    assert len(queries.list_jobs(store.db, ALICE).items) == 12


def test_grids_that_overlap_in_opposite_order_do_not_lock_each_other_out(store: JobStore) -> None:
    for n in range(2):
        ab = [make_planned_job(f"{x}{n}") for x in "abcd"]
        answers = run_together(
            lambda ab=ab: store.submit(*ab), lambda ab=ab: store.submit(*reversed(ab))
        )
        assert [a.jobs for a in answers if isinstance(a, SubmitResult)] == [answers[0].jobs] * 2


def test_a_repeated_request_gets_the_same_answer(store: JobStore) -> None:
    posted = IdempotencyKey("key", compute_sha256("body"))
    first = store.submit(
        make_planned_job("a"), idempotency_key=posted, audit=AuditRequest("one", {})
    )
    again = store.submit(
        make_planned_job("a"), idempotency_key=posted, audit=AuditRequest("one", {})
    )
    assert (again.audit, again.jobs, again.created) == (first.audit, first.jobs, first.created)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.stages == frozenset()
    assert submit.find_replay(store.db, ALICE, posted) == again
    assert len(queries.list_audits(store.db, ALICE).items) == 1


def test_a_key_with_another_body_is_refused_and_stores_nothing(store: JobStore) -> None:
    store.submit(
        make_planned_job("a"), idempotency_key=IdempotencyKey("key", compute_sha256("body"))
    )
    before = store.dump()
    other = IdempotencyKey("key", compute_sha256("other body"))
    with pytest.raises(InvalidRequest) as refused:
        store.submit(make_planned_job("b"), idempotency_key=other)
    assert refused.value.field == "Idempotency-Key"
    with pytest.raises(InvalidRequest):
        submit.find_replay(store.db, ALICE, other)
    assert store.dump() == before


def test_a_request_that_was_refused_leaves_its_key_free(store: JobStore) -> None:
    posted = IdempotencyKey("key", compute_sha256("body"))
    with pytest.raises(NotFound):
        store.submit(make_planned_job("a", "job_of_nobody"), idempotency_key=posted)
    assert submit.find_replay(store.db, ALICE, posted) is None
    assert not store.submit(make_planned_job("b"), idempotency_key=posted).replayed


def test_a_request_repeated_at_the_same_moment_is_stored_once(store: JobStore) -> None:
    for n in range(5):
        posted = IdempotencyKey(f"key{n}", compute_sha256("body"))
        job = make_planned_job(f"{n}", no_cache=True)
        call = functools.partial(store.submit, job, idempotency_key=posted)
        answers = run_together(call, call, call)
        assert all(isinstance(a, SubmitResult) for a in answers), answers
        assert sorted(a.replayed for a in answers) == [False, True, True]
        assert len({a.jobs[compute_sha256(f"{n}")] for a in answers}) == 1
    assert len(queries.list_jobs(store.db, ALICE).items) == 5


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_an_input_that_has_ended_badly_is_refused(store: JobStore, end: str) -> None:
    a = store.post(make_planned_job("a"))
    if end == "failed":
        store.fail(store.claim_one())
    else:
        control.cancel_job(store.db, ALICE, a)
    before = store.dump()
    with pytest.raises(Conflict, match=f"input IN0: job {a} has {end}; retry it first"):
        store.submit(make_planned_job("first"), make_planned_job("b", a))
    assert store.dump() == before  # not even the job before it


def test_an_input_that_is_being_cancelled_is_refused(store: JobStore) -> None:
    a = store.post(make_planned_job("a"))
    store.claim_one()
    control.cancel_job(store.db, ALICE, a)
    with pytest.raises(Conflict, match=f"input IN0: job {a} is being cancelled; retry it first"):
        store.submit(make_planned_job("b", a))


def test_inputs_come_from_jobs_and_from_artifacts(store: JobStore) -> None:
    a = store.run_job("a")
    b = store.post(
        make_planned_job(
            "b",
            Input("MODEL", parent=a, parent_role="OUT"),
            Input("DATA", sha256=compute_sha256("a")),
        )
    )
    claim = store.claim_one()
    assert claim.job.id == b
    assert claim.inputs == {"MODEL": compute_sha256("a"), "DATA": compute_sha256("a")}


def test_an_unknown_artifact_is_refused(store: JobStore) -> None:
    with pytest.raises(InvalidRequest) as refused:
        store.submit(make_planned_job("b", Input("DATA", sha256=compute_sha256("nothing"))))
    assert refused.value.field == "inputs.DATA"


def test_a_job_posted_while_its_input_succeeds_does_not_wait_for_ever(store: JobStore) -> None:
    """The input's row is locked, so either the input releases the job or the job sees it
    succeeded."""
    a = store.post(make_planned_job("a"))
    claim = store.claim_one()
    child = run_overlapping(
        store.db, lambda c: lock_job(c, a), lambda: store.post(make_planned_job("b", a))
    )
    store.finish(claim)
    assert store.list_states(child) == ["queued"]
    for n in range(5):
        x = store.post(make_planned_job(f"x{n}", no_cache=True))
        while (claim := store.claim_one()).job.id != x:
            store.finish(claim)
        answers = run_together(
            lambda c=claim: store.finish(c),
            lambda n=n, x=x: store.post(make_planned_job(f"y{n}", x)),
        )
        assert store.list_states(str(answers[1])) == ["queued"]


def test_other_tenants_share_nothing(store: JobStore) -> None:
    a = store.run_job("a")
    posted = IdempotencyKey("key", compute_sha256("body"))
    mine = store.submit(make_planned_job("b"), idempotency_key=posted)
    theirs = store.submit(
        make_planned_job("b"),
        idempotency_key=IdempotencyKey("key", compute_sha256("other")),
        tenant=BOB,
    )
    assert not theirs.replayed
    assert set(theirs.jobs.values()).isdisjoint(mine.jobs.values())
    with pytest.raises(NotFound):
        store.submit(make_planned_job("c", a), tenant=BOB)
    with pytest.raises(InvalidRequest):
        store.submit(make_planned_job("c", Input("DATA", sha256=compute_sha256("a"))), tenant=BOB)
