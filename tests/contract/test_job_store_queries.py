"""Lookups, pages and events."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from sqlalchemy import event

from shared.errors import InvalidRequest, NotFound
from shared.jobs import attempts, audit_deletion, control, paging, queries, reconcile
from shared.jobs.filters import JobFilter
from shared.jobs.states import State
from tests.support.job_store import (
    ALICE,
    BOB,
    PLUGIN,
    STAGE,
    JobStore,
    compute_sha256,
    make_artifact,
    make_planned_job,
    run_together,
)


def _pages(store: JobStore, limit: int, between: bool = False) -> list[list[str]]:
    pages, token = [], None
    while True:
        page = queries.list_jobs(store.db, ALICE, limit=limit, page=token)
        pages.append([j.id for j in page.items])
        if between:
            store.post(make_planned_job(f"late {len(pages)}"))
        if page.next is None:
            return pages
        token = page.next


def test_pages_hold_every_job_once_newest_first(store: JobStore) -> None:
    ids = [store.post(make_planned_job(f"{n}")) for n in range(7)]
    pages = _pages(store, 3)
    assert [len(p) for p in pages] == [3, 3, 1]
    listed = [store.get_job(i) for p in pages for i in p]
    assert sorted(j.id for j in listed) == sorted(ids)
    assert listed == sorted(listed, key=lambda j: (j.created_at, j.id), reverse=True)


def test_pages_stay_true_while_jobs_come_in(store: JobStore) -> None:
    ids = [store.post(make_planned_job(f"{n}")) for n in range(7)]
    seen = [i for page in _pages(store, 2, between=True) for i in page]
    assert len(seen) == len(set(seen))
    assert set(ids) <= set(seen)


def test_jobs_of_one_moment_are_paged_without_loss(store: JobStore) -> None:
    """One transaction, one millisecond: only the id tells them apart."""
    ids = store.submit(*[make_planned_job(f"{n}") for n in range(9)]).jobs.values()
    assert sorted(i for p in _pages(store, 1) for i in p) == sorted(ids)


def test_a_page_that_is_just_full_is_the_last(store: JobStore) -> None:
    store.submit(make_planned_job("a"), make_planned_job("b"))
    assert queries.list_jobs(store.db, ALICE, limit=2).next is None
    assert queries.list_jobs(store.db, BOB, limit=2) == queries.Page([], None)


def test_a_page_of_large_jobs_ends_early_and_loses_none(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MAX_PAGE_CHARS", 1)  # the first job of a page is always there
    ids = [store.post(make_planned_job(f"{n}")) for n in range(3)]
    pages = _pages(store, 200)
    assert [len(page) for page in pages] == [1, 1, 1]
    assert sorted(i for page in pages for i in page) == sorted(ids)
    monkeypatch.setattr(paging, "MAX_PAGE_CHARS", 1 << 20)
    assert [len(page) for page in _pages(store, 200)] == [3]


@pytest.mark.parametrize(
    "token",
    ["", "x", "!!", "e30", *(base64.urlsafe_b64encode(json.dumps(v).encode()).decode().rstrip("=") for v in (
        [1.0], [1, "job_a"], ["1", "job_a"], [1.0, 2], {"a": 1}, [float("nan"), "job_a"], [1.0, "\0"],
    ))],
)  # fmt: skip
def test_a_token_that_no_page_gave_is_refused(store: JobStore, token: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        queries.list_jobs(store.db, ALICE, page=token)
    assert refused.value.field == "page"


def test_filters_narrow_and_combine(store: JobStore) -> None:
    audit, (a, _) = store.submit_audit(make_planned_job("a"), make_planned_job("b", stage="attack"))
    c = store.post(make_planned_job("c"))
    control.pause_job(store.db, ALICE, c)

    def found(**options: Any) -> set[str]:
        filters = JobFilter(**options)
        return {j.params["tag"] for j in queries.list_jobs(store.db, ALICE, filters=filters).items}

    assert found(stage="attack") == {"b"}
    assert found(state=State.QUEUED) == {"a", "b"}
    assert found(state=State.QUEUED, stage=STAGE) == {"a"}
    assert found(method="none") == set()
    assert found(audit=audit) == {"a", "b"}
    assert found(audit=audit, stage=STAGE) == {"a"}
    assert store.get_job(a).audits == (audit,)


def test_audits_are_paged_with_the_counts_of_their_jobs(store: JobStore) -> None:
    ids = [
        store.submit_audit(make_planned_job(f"{n}"), make_planned_job("shared"))[0]
        for n in range(3)
    ]
    first = queries.list_audits(store.db, ALICE, limit=2)
    rest = queries.list_audits(store.db, ALICE, limit=2, page=first.next)
    assert sorted(a.id for a in first.items + rest.items) == sorted(ids)
    assert rest.next is None
    assert all(a.counts == {"queued": 2} and a.state == "queued" for a in first.items)
    assert first.items[0].spec == {"any": "thing"}
    assert queries.count_audit_jobs_by_stage(store.db, ALICE, ids[0]) == {STAGE: {"queued": 2}}
    assert queries.list_audits(store.db, BOB).items == []


def test_an_audit_says_in_a_word_how_it_stands(store: JobStore) -> None:
    root = make_planned_job("root")
    audit, _ = store.submit_audit(root, make_planned_job("a", root))
    said = [queries.get_audit(store.db, ALICE, audit).state]
    for _ in range(2):
        claim = store.claim_one()
        said.append(queries.get_audit(store.db, ALICE, audit).state)
        store.finish(claim)
    said.append(queries.get_audit(store.db, ALICE, audit).state)
    assert said == ["queued", "running", "running", "succeeded"]


def test_events_are_numbered_without_gaps(store: JobStore) -> None:
    root = make_planned_job("root")
    child = store.post(root, make_planned_job("child", root))
    root_claim = store.claim_one()
    job_id = root_claim.job.id
    for n in range(3):
        attempts.renew_lease(store.db, job_id, root_claim.fence, 60, {"done": n})
    attempts.save_checkpoint(
        store.db, job_id, root_claim.fence, compute_sha256("half"), compute_sha256("key")
    )
    store.end_lease(job_id)
    store.expire_leases()
    store.finish(store.claim_one())
    assert [e.seq for e in store.list_events(job_id)] == list(range(1, 10))
    assert [e.kind for e in store.list_events(job_id)] == [
        "state", "state", "progress", "progress", "progress", "checkpoint", "state", "state", "state"
    ]  # fmt: skip
    assert store.list_transitions(job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert store.list_transitions(child) == ["waiting", "queued"]
    times = [e.at for e in store.list_events(job_id)]
    assert times == sorted(times)


def test_events_written_at_the_same_moment_are_numbered_without_gaps(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()

    def progress(n: int) -> None:
        for step in range(4):
            attempts.renew_lease(store.db, job_id, claim.fence, 60, {"done": 10 * n + step})

    run_together(
        *[lambda n=n: progress(n) for n in range(3)],
        lambda: control.cancel_job(store.db, ALICE, job_id),
    )
    assert [e.seq for e in store.list_events(job_id)] == list(range(1, 16))


def test_events_are_read_from_where_a_reader_stopped(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    store.finish(claim)
    job, later = queries.list_events(store.db, ALICE, job_id, 2)
    assert (job.state, [e.seq for e in later]) == ("succeeded", [3])
    assert [e.seq for e in queries.list_events(store.db, ALICE, job_id, 0, limit=2)[1]] == [1, 2]
    assert queries.list_events(store.db, ALICE, job_id, 3)[1] == []


def test_every_change_that_a_reader_can_see_gives_a_new_version(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    versions = [store.get_job(job_id).version]
    claim = store.claim_one()
    versions.append(store.get_job(job_id).version)
    attempts.renew_lease(store.db, job_id, claim.fence, 60, {"done": 1})
    versions.append(store.get_job(job_id).version)
    control.cancel_job(store.db, ALICE, job_id)
    versions.append(store.get_job(job_id).version)
    attempts.cancel_attempt(store.db, job_id, claim.fence)
    versions.append(store.get_job(job_id).version)
    assert versions == sorted(set(versions))


def test_an_artifact_is_found_by_the_tenant_whose_job_made_it(store: JobStore) -> None:
    store.run_job("a")
    assert queries.get_artifact(store.db, ALICE, compute_sha256("a")) == make_artifact("a")
    for tenant, wanted in ((BOB, compute_sha256("a")), (ALICE, compute_sha256("b"))):
        with pytest.raises(NotFound, match=f"^there is no artifact {wanted}$"):
            queries.get_artifact(store.db, tenant, wanted)


def test_another_tenant_lists_nothing(store: JobStore) -> None:
    audit, _ = store.submit_audit(make_planned_job("a"))
    assert queries.list_jobs(store.db, BOB).items == []
    assert queries.list_jobs(store.db, BOB, filters=JobFilter(audit=audit)).items == []
    assert queries.find_live_duplicates(store.db, BOB, [compute_sha256("a")]) == {}


def test_a_dry_run_sees_what_would_be_shared(store: JobStore) -> None:
    a = store.run_job("a")
    b = store.post(make_planned_job("b"))
    store.post(make_planned_job("c", no_cache=True))
    found = queries.find_live_duplicates(
        store.db,
        ALICE,
        [
            compute_sha256("a"),
            compute_sha256("b"),
            compute_sha256("c"),
            *(compute_sha256(f"{n}") for n in range(600)),
        ],
    )
    assert found == {compute_sha256("a"): (a, "succeeded"), compute_sha256("b"): (b, "queued")}
    assert queries.find_live_duplicates(store.db, ALICE, []) == {}


def test_jobs_that_could_be_claimed_are_counted_up_to_what_is_enough(store: JobStore) -> None:
    store.submit(
        make_planned_job("a"),
        make_planned_job("b"),
        make_planned_job("c", stage="attack"),
        make_planned_job("d", make_planned_job("a")),
    )
    enough = {STAGE: 8, "attack": 8, "other": 8}
    assert reconcile.count_claimable(store.db, enough) == {STAGE: 2, "attack": 1, "other": 0}
    assert reconcile.count_claimable(store.db, {STAGE: 1}) == {STAGE: 1}
    claim = store.claim(plugins=(PLUGIN,))
    assert claim is not None
    assert reconcile.count_claimable(store.db, enough)[STAGE] == 1
    attempts.requeue_attempt(store.db, claim.job.id, claim.fence, "in a minute", pause_s=60)
    assert reconcile.count_claimable(store.db, enough)[STAGE] == 1


def test_the_first_audit_of_a_job_stays_the_first(store: JobStore) -> None:
    shared, own = make_planned_job("shared"), make_planned_job("own")
    first, (job, _) = store.submit_audit(shared, own)
    assert queries.find_first_audit(store.db, job) == first
    moment = store.get_job(job).created_at
    while True:  # until the clock of the job store shows another millisecond
        later, (again,) = store.submit_audit(shared)
        created_at = queries.get_audit(store.db, ALICE, later).created_at
        assert again == job
        if created_at > moment:
            break
    assert queries.find_first_audit(store.db, job) == first
    control.cancel_audit(store.db, ALICE, first)
    assert queries.find_first_audit(store.db, job) == first
    by_hand = store.post(make_planned_job("by hand"))
    assert queries.find_first_audit(store.db, by_hand) is None


def test_no_list_and_no_round_reads_all_audits_for_those_that_go(store: JobStore) -> None:
    if store.db.dialect != "sqlite":
        return  # its planner sees that `deleting = true` and `deleting` are one
    audit, _ = store.submit_audit(make_planned_job("a"))
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        statements.append((statement, values))

    event.listen(store.db.engine, "before_cursor_execute", note)
    queries.list_jobs(store.db, ALICE, filters=JobFilter(audit=audit))
    reconcile.finish_cancels(store.db)
    audit_deletion.finish_deletions(store.db, math.inf)
    event.remove(store.db.engine, "before_cursor_execute", note)
    with store.db.read() as connection:
        plans = [
            str(row.detail)
            for statement, values in statements
            if statement.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    looks = [plan for plan in plans if plan.startswith(("SCAN audits", "SEARCH audits"))]
    assert len(looks) == 4
    assert all("ix_audits_deleting" in one or "ix_audits_cancelling" in one for one in looks)
