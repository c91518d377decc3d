"""What a submission promises: equal jobs are one, a request can be repeated, nothing is stored by halves."""

from __future__ import annotations

import pytest

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs import control, reads, submit
from shared.jobs.moves import lock
from shared.jobs.records import Input, Submitted
from shared.jobs.submit import AuditRequest, Posted
from tests.support.jobs import ALICE, BOB, CODE, STAGE, Store, overlapping, planned, sha, together


def test_what_was_planned_is_what_is_stored(store: Store) -> None:
    root = planned("root", plugins=("stage:train", "dataset:digits"))
    done = store.submit(root, planned("leaf", root), priority=7, time_limit=90.0)
    leaf = store.job(done.jobs[sha("leaf")])
    assert (leaf.stage, leaf.method, leaf.params, leaf.seed, leaf.produces) == (
        STAGE,
        None,
        {"tag": "leaf"},
        0,
        ("OUT",),
    )
    assert leaf.inputs == (Input("IN0", parent=done.jobs[root.plan_key], parent_role="OUT"),)
    assert (leaf.priority, leaf.time_limit, leaf.plan_key, leaf.code) == (7, 90.0, sha("leaf"), CODE)
    assert (leaf.state, leaf.fence, leaf.attempt, leaf.lost_count, leaf.queued_at) == ("waiting", 0, 0, 0, None)
    assert done.created == set(done.jobs.values())
    assert done.stages == {STAGE}  # the root's: the leaf has nothing to do yet
    assert store.states(done.jobs[root.plan_key]) == ["queued"]


def test_equal_live_jobs_are_one(store: Store) -> None:
    first = store.submit(planned("a"))
    again = store.submit(planned("a"))
    assert again.jobs == first.jobs
    assert (again.created, again.stages) == (frozenset(), frozenset())
    assert len(reads.list_jobs(store.db, ALICE).items) == 1


@pytest.mark.parametrize("state", ["waiting", "queued", "held", "running", "succeeded"])
def test_a_job_in_any_state_but_failed_and_cancelled_answers_for_its_equal(store: Store, state: str) -> None:
    root = planned("root")
    if state == "waiting":
        a = store.post(root, planned("a", root))
        assert store.post(root, planned("a", root)) == a
        return
    a = store.post(planned("a"))
    if state == "held":
        control.hold_job(store.db, ALICE, a)
    elif state in ("running", "succeeded"):
        claim = store.take()
        if state == "succeeded":
            store.finish(claim)
    assert store.states(a) == [state]
    assert store.post(planned("a")) == a


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_an_equal_of_a_failed_or_cancelled_job_runs_anew(store: Store, end: str) -> None:
    a = store.post(planned("a"))
    if end == "failed":
        store.fail(store.take())
    else:
        control.cancel_job(store.db, ALICE, a)
    assert store.post(planned("a")) != a


def test_a_running_job_that_was_told_to_end_does_not_answer_for_its_equal(store: Store) -> None:
    """Else a submission accepted after the cancel would be cancelled with it."""
    root = planned("root")
    both = store.submit(root, planned("leaf", root)).jobs
    store.take()
    control.cancel_job(store.db, ALICE, both[root.plan_key])
    again = store.submit(root, planned("leaf", root))
    assert not set(again.jobs.values()) & set(both.values())
    assert store.states(*again.jobs.values()) == ["queued", "waiting"]


def test_a_fresh_job_neither_shares_nor_is_shared(store: Store) -> None:
    store.run("a")
    fresh = store.post(planned("a", fresh=True))
    assert store.states(fresh) == ["queued"]
    assert store.post(planned("a", fresh=True)) != fresh
    again = store.submit(planned("a"))
    assert (again.created, fresh in again.jobs.values()) == (frozenset(), False)


def test_a_job_planned_for_other_code_does_not_answer_for_its_plan_key(store: Store) -> None:
    a = store.post(planned("a"))
    store.finish(store.take(), code="code that ran")
    assert store.job(a).code == "code that ran"
    assert store.post(planned("a")) != a


def test_equal_jobs_submitted_at_the_same_moment_are_one(store: Store) -> None:
    for n in range(6):
        root = planned(f"root{n}")
        answers = together(*[lambda root=root, n=n: store.submit(root, planned(f"leaf{n}", root)) for _ in range(4)])
        assert all(isinstance(a, Submitted) for a in answers), answers
        assert len({tuple(sorted(a.jobs.items())) for a in answers}) == 1
        assert sum(len(a.created) for a in answers) == 2
    assert len(reads.list_jobs(store.db, ALICE).items) == 12


def test_grids_that_overlap_in_opposite_order_do_not_lock_each_other_out(store: Store) -> None:
    for n in range(2):
        ab = [planned(f"{x}{n}") for x in "abcd"]
        answers = together(lambda ab=ab: store.submit(*ab), lambda ab=ab: store.submit(*reversed(ab)))
        assert [a.jobs for a in answers if isinstance(a, Submitted)] == [answers[0].jobs] * 2


def test_a_repeated_request_gets_the_same_answer(store: Store) -> None:
    posted = Posted("key", sha("body"))
    first = store.submit(planned("a"), posted=posted, audit=AuditRequest("one", {}))
    again = store.submit(planned("a"), posted=posted, audit=AuditRequest("one", {}))
    assert (again.audit, again.jobs, again.created) == (first.audit, first.jobs, first.created)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.stages == frozenset()
    assert submit.answered(store.db, ALICE, posted) == again
    assert len(reads.list_audits(store.db, ALICE).items) == 1


def test_a_key_with_another_body_is_refused_and_stores_nothing(store: Store) -> None:
    store.submit(planned("a"), posted=Posted("key", sha("body")))
    before = store.dump()
    other = Posted("key", sha("other body"))
    with pytest.raises(InvalidRequest) as refused:
        store.submit(planned("b"), posted=other)
    assert refused.value.field == "Idempotency-Key"
    with pytest.raises(InvalidRequest):
        submit.answered(store.db, ALICE, other)
    assert store.dump() == before


def test_a_request_that_was_refused_leaves_its_key_free(store: Store) -> None:
    posted = Posted("key", sha("body"))
    with pytest.raises(NotFound):
        store.submit(planned("a", "job_of_nobody"), posted=posted)
    assert submit.answered(store.db, ALICE, posted) is None
    assert not store.submit(planned("b"), posted=posted).replayed


def test_a_request_repeated_at_the_same_moment_is_stored_once(store: Store) -> None:
    for n in range(5):
        posted = Posted(f"key{n}", sha("body"))
        call = lambda n=n, posted=posted: store.submit(planned(f"{n}", fresh=True), posted=posted)  # noqa: E731
        answers = together(call, call, call)
        assert all(isinstance(a, Submitted) for a in answers), answers
        assert sorted(a.replayed for a in answers) == [False, True, True]
        assert len({a.jobs[sha(f"{n}")] for a in answers}) == 1
    assert len(reads.list_jobs(store.db, ALICE).items) == 5


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_an_input_that_has_ended_badly_is_refused(store: Store, end: str) -> None:
    a = store.post(planned("a"))
    if end == "failed":
        store.fail(store.take())
    else:
        control.cancel_job(store.db, ALICE, a)
    before = store.dump()
    with pytest.raises(Conflict, match=f"input IN0: job {a} has {end}; retry it first"):
        store.submit(planned("first"), planned("b", a))
    assert store.dump() == before  # not even the job before it


def test_an_input_that_is_being_cancelled_is_refused(store: Store) -> None:
    a = store.post(planned("a"))
    store.take()
    control.cancel_job(store.db, ALICE, a)
    with pytest.raises(Conflict, match=f"input IN0: job {a} is being cancelled; retry it first"):
        store.submit(planned("b", a))


def test_inputs_come_from_jobs_and_from_artifacts(store: Store) -> None:
    a = store.run("a")
    b = store.post(planned("b", Input("MODEL", parent=a, parent_role="OUT"), Input("DATA", sha256=sha("a"))))
    claim = store.take()
    assert claim.job.id == b
    assert claim.inputs == {"MODEL": sha("a"), "DATA": sha("a")}


def test_an_unknown_artifact_is_refused(store: Store) -> None:
    with pytest.raises(InvalidRequest) as refused:
        store.submit(planned("b", Input("DATA", sha256=sha("nothing"))))
    assert refused.value.field == "inputs.DATA"


def test_a_job_posted_while_its_input_succeeds_does_not_wait_for_ever(store: Store) -> None:
    """The input's row is locked, so either the input releases the job or the job sees it succeeded."""
    a = store.post(planned("a"))
    claim = store.take()
    child = overlapping(store.db, lambda c: lock(c, a), lambda: store.post(planned("b", a)))
    store.finish(claim)
    assert store.states(child) == ["queued"]
    for n in range(5):
        x = store.post(planned(f"x{n}", fresh=True))
        while (claim := store.take()).job.id != x:
            store.finish(claim)
        answers = together(lambda c=claim: store.finish(c), lambda n=n, x=x: store.post(planned(f"y{n}", x)))
        assert store.states(str(answers[1])) == ["queued"]


def test_other_tenants_share_nothing(store: Store) -> None:
    a = store.run("a")
    posted = Posted("key", sha("body"))
    mine = store.submit(planned("b"), posted=posted)
    theirs = store.submit(planned("b"), posted=Posted("key", sha("other")), tenant=BOB)
    assert not theirs.replayed
    assert set(theirs.jobs.values()).isdisjoint(mine.jobs.values())
    with pytest.raises(NotFound):
        store.submit(planned("c", a), tenant=BOB)
    with pytest.raises(InvalidRequest):
        store.submit(planned("c", Input("DATA", sha256=sha("a"))), tenant=BOB)
