"""What the pages of audits and jobs ask the job store: groups, failures, relatives, deletions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import NotFound
from shared.jobs import attempts, audit_deletion, audit_graph, progress_curve, queries, relatives
from shared.jobs.records import Input, PlannedJob
from shared.jobs.states import Failure
from tests.support.job_store import ALICE, BOB, JobStore, make_artifact, make_planned_job


def plan(tag: str, method: str | None, *parents: PlannedJob | str | Input) -> PlannedJob:
    return replace(make_planned_job(tag, *parents), method=method)


def test_the_groups_of_an_audit_and_what_goes_between_them(store: JobStore) -> None:
    base = plan("base", None)
    made = [plan(f"a{n}", "a", base) for n in range(3)]
    ends = [plan(f"b{n}", "b", one, base) for n, one in enumerate(made)]
    audit, _ = store.submit_audit(base, *made, *ends)
    store.finish(store.claim_one())
    store.finish(store.claim_one())
    store.submit_audit(plan("other", "c"))
    graph = audit_graph.read_audit_graph(store.db, ALICE, audit)
    assert {group.key: group.counts for group in graph.groups} == {
        ("train", None): {"succeeded": 1},
        ("train", "a"): {"succeeded": 1, "queued": 2},
        ("train", "b"): {"queued": 1, "waiting": 2},
    }
    none, a, b = ("train", None), ("train", "a"), ("train", "b")
    assert graph.edges == {(none, a), (none, b), (a, b)}
    assert audit_graph.read_audit_graph(store.db, BOB, audit).groups == ()


def test_causes_of_failures_come_with_their_number_and_no_consequences(store: JobStore) -> None:
    bases = [plan(f"base {n}", "a") for n in range(3)]
    users = [plan(f"user {n}", "b", one) for n, one in enumerate(bases)]
    audit, ids = store.submit_audit(*bases, *users)
    claims = [store.claim_one() for _ in bases]
    store.fail(claims[0], Failure.OUT_OF_MEMORY)
    for claim in claims[1:]:
        store.fail(claim)
    failures = audit_graph.read_audit_failures(store.db, ALICE, audit, 5)
    assert [(one.failure, one.jobs, one.message) for one in failures.causes] == [
        ("error", 2, "it broke"),
        ("out_of_memory", 1, "it broke"),
    ]
    assert failures.consequences == 3
    assert {one.job for one in failures.causes} < set(ids[:3])
    assert len(audit_graph.read_audit_failures(store.db, ALICE, audit, 1).causes) == 1
    nothing = audit_graph.AuditFailures((), 0)
    assert audit_graph.read_audit_failures(store.db, BOB, audit, 5) == nothing


def test_relatives_are_sources_users_and_those_who_name_the_bytes(store: JobStore) -> None:
    base = store.run_job("base")
    user = store.post(make_planned_job("user", base))
    named = store.post(make_planned_job("named", Input("IN", sha256=make_artifact("base").sha256)))
    around = relatives.read_relatives(store.db, ALICE, store.get_job(base), 10)
    assert [one.id for one in around.users] == [user, named]
    assert (around.user_count, around.sources, around.reusers) == (2, {}, ())
    of_user = relatives.read_relatives(store.db, ALICE, store.get_job(user), 10)
    assert of_user.sources[base].state == "succeeded"
    few = relatives.read_relatives(store.db, ALICE, store.get_job(base), 1)
    assert ([one.id for one in few.users], few.user_count) == ([user], 2)
    assert relatives.read_relatives(store.db, BOB, store.get_job(base), 10).user_count == 0


def test_methods_behind_a_job_are_those_that_tell_it_from_others(store: JobStore) -> None:
    first = plan("first", "a")
    second = replace(plan("second", "b", first), stage="unlearn")
    third = replace(plan("third", None, second), stage="evaluate")
    both = replace(plan("both", None, first, plan("other", "c")), stage="report")
    ids = store.submit(first, second, third, plan("other", "c"), both).jobs
    third_id, both_id = ids[third.request_key], ids[both.request_key]
    behind = relatives.find_methods_behind(store.db, ALICE, [third_id, both_id])
    assert behind == {third_id: (("train", "a"), ("unlearn", "b")), both_id: ()}
    assert relatives.find_methods_behind(store.db, BOB, [third_id]) == {third_id: ()}


def test_the_last_events_of_a_job(store: JobStore) -> None:
    job = store.run_job("one")
    _, events = queries.list_last_events(store.db, ALICE, job, 2)
    assert [one.data["to"] for one in events] == ["running", "succeeded"]
    with pytest.raises(NotFound):
        queries.list_last_events(store.db, BOB, job, 2)


def test_a_deletion_is_estimated_without_what_others_have(store: JobStore) -> None:
    shared, own = make_planned_job("shared"), make_planned_job("own")
    waiting = make_planned_job("waiting", own)
    audit, _ = store.submit_audit(shared, own, waiting)
    store.submit_audit(shared)
    for _ in range(2):
        store.finish(store.claim_one())
    estimate = audit_deletion.estimate_deletion(store.db, ALICE, audit)
    assert estimate == audit_deletion.DeletionEstimate(
        jobs=3, live=1, shared=1, artifacts=1, size=len("own")
    )
    with pytest.raises(NotFound):
        audit_deletion.estimate_deletion(store.db, BOB, audit)


def test_the_curves_of_several_jobs_are_kept_apart(store: JobStore) -> None:
    first, second = (store.post(make_planned_job(tag)) for tag in ("first", "second"))
    claims = {claim.job.id: claim for claim in (store.claim_one(), store.claim_one())}
    for done, loss in ((1, 0.5), (2, 0.25)):
        for job, factor in ((first, 1.0), (second, 10.0)):
            progress = {"done": done, "matching_loss": loss * factor}
            attempts.renew_lease(store.db, job, claims[job].fence, 60, progress)
    curves = progress_curve.list_curves(store.db, ALICE, [first, second])
    assert curves == {first: [(1, 0.5), (2, 0.25)], second: [(1, 5.0), (2, 2.5)]}
    assert progress_curve.list_curves(store.db, BOB, [first]) == {first: []}
