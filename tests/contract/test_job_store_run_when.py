"""A job that runs when all its inputs have finished runs when its inputs have ended, with those
that succeeded: a report tells of what there is."""

from __future__ import annotations

import pytest

from shared.errors import Conflict
from shared.jobs import attempts, audit_retry, control
from shared.jobs.states import Failure
from shared.wiring import RunWhen
from tests.support.job_store import ALICE, JobStore, PlannedJob, compute_sha256, make_planned_job

A, B = make_planned_job("a"), make_planned_job("b")
REPORT = make_planned_job("report", A, B, run_when=RunWhen.ALL_FINISHED)


def posted(store: JobStore, *what: PlannedJob) -> list[str]:
    """Submit; the ids in the order of `what`."""
    done = store.submit(*what)
    return [done.jobs[p.request_key] for p in what]


def end(store: JobStore, job_id: str, *, well: bool) -> None:
    """The oldest queued job, which must be this one, ends."""
    claim = store.claim_one()
    assert claim.job.id == job_id
    if well:
        store.finish(claim)
    else:
        store.fail(claim)


def test_it_waits_for_the_last_input_however_the_others_ended(store: JobStore) -> None:
    a, b, report = posted(store, A, B, REPORT)
    end(store, a, well=False)
    assert store.list_states(b, report) == ["queued", "waiting"]
    end(store, b, well=True)
    assert store.get_job(report).state == "queued"
    claim = store.claim_one()
    assert claim.inputs == {"IN1": compute_sha256("b")}  # what failed is simply not there
    store.finish(claim)
    assert store.get_job(report).state == "succeeded"


def test_an_input_that_fails_last_releases_it_too(store: JobStore) -> None:
    a, b, report = posted(store, A, B, REPORT)
    end(store, a, well=True)
    end(store, b, well=False)
    assert store.get_job(report).state == "queued"


def test_an_input_that_is_cancelled_releases_it_too(store: JobStore) -> None:
    a, b, report = posted(store, A, B, REPORT)
    end(store, a, well=True)
    control.cancel_job(store.db, ALICE, b)
    assert store.get_job(report).state == "queued"


def test_an_input_that_fails_because_of_its_own_input_counts_as_ended(store: JobStore) -> None:
    root = make_planned_job("root")
    child, other = make_planned_job("child", root), make_planned_job("other")
    r, c, o, report = posted(
        store,
        root,
        child,
        other,
        make_planned_job("report", child, other, run_when=RunWhen.ALL_FINISHED),
    )
    end(store, r, well=False)
    assert store.list_states(c, report) == ["failed", "waiting"]
    end(store, o, well=True)
    assert store.get_job(report).state == "queued"


def test_without_any_input_it_fails_and_says_so(store: JobStore) -> None:
    a, b, report = posted(store, A, B, REPORT)
    end(store, a, well=False)
    end(store, b, well=False)
    job = store.get_job(report)
    assert (job.state, job.failure) == ("failed", "input_failed")
    assert "none of its inputs succeeded" in (job.message or "")
    with pytest.raises(Conflict, match="none of its inputs succeeded"):
        control.retry_job(store.db, ALICE, report)
    control.retry_job(store.db, ALICE, a)
    control.retry_job(store.db, ALICE, report)
    assert store.list_states(a, report) == ["queued", "waiting"]


def test_what_depends_on_one_that_failed_fails(store: JobStore) -> None:
    a, b, report, reader = posted(store, A, B, REPORT, make_planned_job("reader", REPORT))
    end(store, a, well=False)
    end(store, b, well=False)
    assert store.list_states(report, reader) == ["failed", "failed"]


def test_made_of_a_part_it_does_not_pass_for_the_whole(store: JobStore) -> None:
    a, b, report = posted(store, A, B, REPORT)
    end(store, a, well=False)
    end(store, b, well=True)
    claim = store.claim_one()
    # while it runs, and what failed is retried
    again_a, again_b, again = posted(store, A, B, REPORT)
    assert (again_b, again_a != a, again != report) == (b, True, True)
    store.finish(claim)
    end(store, again_a, well=True)
    claim = store.claim_one()
    assert (claim.job.id, set(claim.inputs)) == (again, {"IN0", "IN1"})
    store.finish(claim)
    assert posted(store, A, B, REPORT) == [again_a, b, again]


def test_made_of_all_it_is_shared_as_any_other(store: JobStore) -> None:
    first = posted(store, A, B, REPORT)
    for job_id in first:
        end(store, job_id, well=True)
    assert posted(store, A, B, REPORT) == first


def test_cancelling_an_audit_ends_it_with_the_rest(store: JobStore) -> None:
    audit, ids = store.submit_audit(A, B, REPORT)
    control.cancel_audit(store.db, ALICE, audit)
    assert set(store.list_states(*ids)) == {"cancelled"}


def test_posting_again_while_it_waits_for_the_rest_makes_one_that_has_all(store: JobStore) -> None:
    a, b, report = posted(store, A, B, REPORT)
    end(store, a, well=False)
    again_a, same_b, again = posted(store, A, B, REPORT)
    assert (same_b, again != report) == (b, True)
    end(store, b, well=True)
    taken: dict[str, set[str]] = {}
    while claim := store.claim():
        taken[claim.job.id] = set(claim.inputs)
        store.finish(claim)
    assert taken == {again_a: set(), report: {"IN1"}, again: {"IN0", "IN1"}}


def test_the_end_of_the_last_input_wakes_its_stage(store: JobStore) -> None:
    a, b, report = posted(
        store, A, B, make_planned_job("report", A, B, run_when=RunWhen.ALL_FINISHED, stage="report")
    )
    end(store, a, well=True)
    claim = store.claim_one()
    assert attempts.fail_attempt(store.db, b, claim.fence, Failure.ERROR, "it broke") == {"report"}
    assert store.get_job(report).state == "queued"


def test_so_is_whoever_fails_an_input_of_an_input(store: JobStore) -> None:
    root = make_planned_job("root")
    child = make_planned_job("child", root)
    r, o, _, _ = posted(
        store,
        root,
        make_planned_job("other"),
        child,
        make_planned_job(
            "report",
            make_planned_job("other"),
            child,
            run_when=RunWhen.ALL_FINISHED,
            stage="report",
        ),
    )
    claim = store.claim_one()
    end(store, o, well=True)
    assert attempts.fail_attempt(store.db, r, claim.fence, Failure.ERROR, "it broke") == {"report"}


def test_so_is_whoever_cancels_it(store: JobStore) -> None:
    a, b, _ = posted(
        store, A, B, make_planned_job("report", A, B, run_when=RunWhen.ALL_FINISHED, stage="report")
    )
    end(store, a, well=True)
    assert control.cancel_job(store.db, ALICE, b) == {"report"}


def test_a_child_of_two_that_fail_at_once_fails_once(store: JobStore) -> None:
    root = make_planned_job("root")
    left, right = make_planned_job("left", root), make_planned_job("right", root)
    for n in range(6):  # ids, and so the order, are random
        r, *_, leaf = posted(
            store, root, left, right, make_planned_job(f"leaf {n}", root, left, right)
        )
        end(store, r, well=False)
        assert store.list_transitions(leaf) == ["waiting", "failed"]
        store.clear()


def test_a_retry_by_itself_counts_inputs_as_one_of_its_audit_does(store: JobStore) -> None:
    """An input that is being cancelled will never be there."""
    report = make_planned_job("report", a := make_planned_job("a"), run_when=RunWhen.ALL_FINISHED)
    audit, (a_id, report_id) = store.submit_audit(a, report)
    control.cancel_job(store.db, ALICE, report_id)
    store.claim_one()
    control.cancel_job(store.db, ALICE, a_id)
    with pytest.raises(Conflict, match="none of its inputs succeeded"):
        control.retry_job(store.db, ALICE, report_id)
    with pytest.raises(Conflict, match="is being cancelled"):
        audit_retry.retry_audit(store.db, ALICE, audit)
    assert store.list_states(report_id) == ["cancelled"]
