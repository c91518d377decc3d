"""Lookups, pages and events."""

from __future__ import annotations

import base64
import json

import pytest

from shared.errors import InvalidRequest, NotFound
from shared.jobs import claims, control, reads, reconcile
from tests.support.jobs import ALICE, BOB, PLUGIN, STAGE, Store, made, planned, sha, together


def _pages(store: Store, limit: int, between: bool = False) -> list[list[str]]:
    pages, token = [], None
    while True:
        page = reads.list_jobs(store.db, ALICE, limit=limit, page=token)
        pages.append([j.id for j in page.items])
        if between:
            store.post(planned(f"late {len(pages)}"))
        if page.next is None:
            return pages
        token = page.next


def test_pages_hold_every_job_once_newest_first(store: Store) -> None:
    ids = [store.post(planned(f"{n}")) for n in range(7)]
    pages = _pages(store, 3)
    assert [len(p) for p in pages] == [3, 3, 1]
    listed = [store.job(i) for p in pages for i in p]
    assert sorted(j.id for j in listed) == sorted(ids)
    assert listed == sorted(listed, key=lambda j: (j.created_at, j.id), reverse=True)


def test_pages_stay_true_while_jobs_come_in(store: Store) -> None:
    ids = [store.post(planned(f"{n}")) for n in range(7)]
    seen = [i for page in _pages(store, 2, between=True) for i in page]
    assert len(seen) == len(set(seen))
    assert set(ids) <= set(seen)


def test_jobs_of_one_moment_are_paged_without_loss(store: Store) -> None:
    """One transaction, one millisecond: only the id tells them apart."""
    ids = store.submit(*[planned(f"{n}") for n in range(9)]).jobs.values()
    assert sorted(i for p in _pages(store, 1) for i in p) == sorted(ids)


def test_a_page_that_is_just_full_is_the_last(store: Store) -> None:
    store.submit(planned("a"), planned("b"))
    assert reads.list_jobs(store.db, ALICE, limit=2).next is None
    assert reads.list_jobs(store.db, BOB, limit=2) == reads.Page([], None)


@pytest.mark.parametrize(
    "token",
    ["", "x", "!!", "e30", *(base64.urlsafe_b64encode(json.dumps(v).encode()).decode().rstrip("=") for v in (
        [1.0], [1, "job_a"], ["1", "job_a"], [1.0, 2], {"a": 1}, [float("nan"), "job_a"], [1.0, "\0"],
    ))],
)  # fmt: skip
def test_a_token_that_no_page_gave_is_refused(store: Store, token: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        reads.list_jobs(store.db, ALICE, page=token)
    assert refused.value.field == "page"


def test_filters_narrow_and_combine(store: Store) -> None:
    audit, (a, _) = store.audit(planned("a"), planned("b", stage="attack"))
    c = store.post(planned("c"))
    control.hold_job(store.db, ALICE, c)

    def found(**options: object) -> set[str]:
        return {j.params["tag"] for j in reads.list_jobs(store.db, ALICE, **options).items}

    assert found(filters={"stage": "attack"}) == {"b"}
    assert found(filters={"state": "queued"}) == {"a", "b"}
    assert found(filters={"state": "queued", "stage": STAGE}) == {"a"}
    assert found(filters={"method": "none"}) == set()
    assert found(audit=audit) == {"a", "b"}
    assert found(audit=audit, filters={"stage": STAGE}) == {"a"}
    assert store.job(a).audits == (audit,)


def test_audits_are_paged_with_the_counts_of_their_jobs(store: Store) -> None:
    ids = [store.audit(planned(f"{n}"), planned("shared"))[0] for n in range(3)]
    first = reads.list_audits(store.db, ALICE, limit=2)
    rest = reads.list_audits(store.db, ALICE, limit=2, page=first.next)
    assert sorted(a.id for a in first.items + rest.items) == sorted(ids)
    assert rest.next is None
    assert all(a.counts == {"queued": 2} and a.state == "queued" for a in first.items)
    assert first.items[0].spec == {"any": "thing"}
    assert reads.audit_stages(store.db, ids[0]) == {STAGE: {"queued": 2}}
    assert reads.list_audits(store.db, BOB).items == []


def test_an_audit_says_in_a_word_how_it_stands(store: Store) -> None:
    root = planned("root")
    audit, _ = store.audit(root, planned("a", root))
    said = [reads.get_audit(store.db, ALICE, audit).state]
    for _ in range(2):
        claim = store.take()
        said.append(reads.get_audit(store.db, ALICE, audit).state)
        store.finish(claim)
    said.append(reads.get_audit(store.db, ALICE, audit).state)
    assert said == ["queued", "running", "running", "succeeded"]


def test_events_are_numbered_without_gaps(store: Store) -> None:
    root = planned("root")
    child = store.post(root, planned("child", root))
    root_claim = store.take()
    job_id = root_claim.job.id
    for n in range(3):
        claims.renew(store.db, job_id, root_claim.fence, 60, {"done": n})
    claims.save_checkpoint(store.db, job_id, root_claim.fence, sha("half"), sha("key"))
    store.lapse(job_id)
    store.expire()
    store.finish(store.take())
    assert [e.seq for e in store.events(job_id)] == list(range(1, 10))
    assert [e.kind for e in store.events(job_id)] == [
        "state", "state", "progress", "progress", "progress", "checkpoint", "state", "state", "state"
    ]  # fmt: skip
    assert store.path(job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert store.path(child) == ["waiting", "queued"]
    times = [e.at for e in store.events(job_id)]
    assert times == sorted(times)


def test_events_written_at_the_same_moment_are_numbered_without_gaps(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()

    def progress(n: int) -> None:
        for step in range(4):
            claims.renew(store.db, job_id, claim.fence, 60, {"done": 10 * n + step})

    together(*[lambda n=n: progress(n) for n in range(3)], lambda: control.cancel_job(store.db, ALICE, job_id))
    assert [e.seq for e in store.events(job_id)] == list(range(1, 16))


def test_events_are_read_from_where_a_reader_stopped(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    store.finish(claim)
    job, later = reads.events_after(store.db, ALICE, job_id, 2)
    assert (job.state, [e.seq for e in later]) == ("succeeded", [3])
    assert [e.seq for e in reads.events_after(store.db, ALICE, job_id, 0, limit=2)[1]] == [1, 2]
    assert reads.events_after(store.db, ALICE, job_id, 3)[1] == []


def test_every_change_that_a_reader_can_see_gives_a_new_version(store: Store) -> None:
    job_id = store.post(planned("a"))
    versions = [store.job(job_id).version]
    claim = store.take()
    versions.append(store.job(job_id).version)
    claims.renew(store.db, job_id, claim.fence, 60, {"done": 1})
    versions.append(store.job(job_id).version)
    control.cancel_job(store.db, ALICE, job_id)
    versions.append(store.job(job_id).version)
    claims.cancelled(store.db, job_id, claim.fence)
    versions.append(store.job(job_id).version)
    assert versions == sorted(set(versions))


def test_an_artifact_is_found_by_the_tenant_whose_job_made_it(store: Store) -> None:
    store.run("a")
    assert reads.get_artifact(store.db, ALICE, sha("a")) == made("a")
    for tenant, wanted in ((BOB, sha("a")), (ALICE, sha("b"))):
        with pytest.raises(NotFound, match=f"^there is no artifact {wanted}$"):
            reads.get_artifact(store.db, tenant, wanted)


def test_another_tenant_lists_nothing(store: Store) -> None:
    audit, _ = store.audit(planned("a"))
    assert reads.list_jobs(store.db, BOB).items == []
    assert reads.list_jobs(store.db, BOB, audit=audit).items == []
    assert reads.live_equals(store.db, BOB, [sha("a")]) == {}


def test_a_dry_run_sees_what_would_be_shared(store: Store) -> None:
    a = store.run("a")
    b = store.post(planned("b"))
    store.post(planned("c", fresh=True))
    found = reads.live_equals(store.db, ALICE, [sha("a"), sha("b"), sha("c"), *(sha(f"{n}") for n in range(600))])
    assert found == {sha("a"): (a, "succeeded"), sha("b"): (b, "queued")}
    assert reads.live_equals(store.db, ALICE, []) == {}


def test_jobs_that_could_be_claimed_are_counted_up_to_what_is_enough(store: Store) -> None:
    store.submit(planned("a"), planned("b"), planned("c", stage="attack"), planned("d", planned("a")))
    enough = {STAGE: 8, "attack": 8, "other": 8}
    assert reconcile.count_claimable(store.db, enough) == {STAGE: 2, "attack": 1, "other": 0}
    assert reconcile.count_claimable(store.db, {STAGE: 1}) == {STAGE: 1}
    claim = store.claim(plugins=(PLUGIN,))
    assert claim is not None
    assert reconcile.count_claimable(store.db, enough)[STAGE] == 1
    claims.give_back(store.db, claim.job.id, claim.fence, "in a minute", pause=60)
    assert reconcile.count_claimable(store.db, enough)[STAGE] == 1
