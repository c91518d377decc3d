"""What the job store does when an artifact is found damaged: its job makes it again, who needs it
waits."""

from __future__ import annotations

import pytest

from shared.errors import Conflict, FencedOut
from shared.jobs import attempts, completion, control
from shared.jobs.records import Artifact, Claim, Input
from shared.jobs.repair import (
    MAX_REBUILDS_PER_HOUR,
    Producer,
    UnreadableInput,
    find_producer,
    rebuild_artifact,
    wait_for_inputs,
)
from shared.jobs.transitions import lock_with_fence
from tests.support.job_store import (
    ALICE,
    BOB,
    STAGE,
    JobStore,
    compute_sha256,
    make_artifact,
    make_planned_job,
    run_overlapping,
    run_together,
)


def finish(store: JobStore, claim: Claim) -> set[str]:
    """The same bytes for the same job, every time."""
    out = make_artifact(claim.job.params["tag"])
    return completion.finish_job(
        store.db,
        claim.job.id,
        claim.fence,
        [out],
        cache_key=compute_sha256(claim.job.id),
        code=claim.job.code,
    )


def succeed(store: JobStore, job_id: str) -> None:
    claim = store.claim_one()
    assert claim.job.id == job_id
    finish(store, claim)


def lost(
    store: JobStore, tag: str, role: str = "IN0", parent: str | None = None
) -> UnreadableInput:
    return UnreadableInput(
        role, compute_sha256(tag), find_producer(store.db, ALICE, compute_sha256(tag), parent)
    )


@pytest.fixture
def chain(store: JobStore) -> tuple[str, str, str]:
    """root -> middle -> (two children of it, queued, in this order); root and middle have
    succeeded."""
    root, middle = make_planned_job("root"), make_planned_job("middle", make_planned_job("root"))
    ids = store.submit(root, middle).jobs
    succeed(store, ids[compute_sha256("root")])
    succeed(store, ids[compute_sha256("middle")])
    one, two = (
        store.post(make_planned_job(tag, ids[compute_sha256("middle")]), priority=p)
        for tag, p in (("one", 2), ("two", 1))
    )
    return ids[compute_sha256("middle")], one, two


def test_the_maker_runs_again_and_its_children_wait_free_of_charge(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, two = chain
    claim = store.claim_one()
    assert claim.job.id == one
    assert wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")]) == {STAGE}
    assert store.list_states(middle, one, two) == ["queued", "waiting", "waiting"]
    assert (
        store.list_events(middle)[-1].data["because"]
        == f"its artifact {compute_sha256('middle')} is damaged"
    )
    assert store.get_job(middle).finished_at is None
    with pytest.raises(FencedOut):
        attempts.save_checkpoint(store.db, one, claim.fence, compute_sha256("late"), "key")
    again = store.claim_one()
    assert again.job.id == middle
    assert again.inputs == {"IN0": compute_sha256("root")}
    assert finish(store, again) == {STAGE}
    assert store.list_states(middle, one, two) == ["succeeded", "queued", "queued"]
    assert [a.sha256 for a in store.get_job(middle).artifacts] == [compute_sha256("middle")]
    assert [store.get_job(j).lost_count for j in chain] == [0, 0, 0]
    succeed(store, one)
    succeed(store, two)


def test_other_bytes_take_the_place_of_those_that_were_lost(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    """Other code makes them: the children get what is there now."""
    middle, _, _ = chain
    maker = find_producer(store.db, ALICE, compute_sha256("middle"))
    assert maker is not None
    rebuild_artifact(store.db, ALICE, compute_sha256("middle"), maker)
    claim = store.claim_one()
    other = Artifact("OUT", compute_sha256("other"), 3, "text/html")
    completion.finish_job(store.db, middle, claim.fence, [other], cache_key="k", code="other code")
    assert store.get_job(middle).artifacts == (other,)
    assert store.claim_one().inputs == {"IN0": compute_sha256("other")}
    assert find_producer(store.db, ALICE, compute_sha256("middle")) is None


def test_what_the_maker_is_made_from_may_be_damaged_too(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, two = chain
    claim = store.claim_one()
    wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")])
    again = store.claim_one()
    assert again.job.id == middle
    root = find_producer(store.db, ALICE, compute_sha256("root"))
    assert root is not None
    assert wait_for_inputs(store.db, middle, again.fence, [lost(store, "root")]) == {STAGE}
    assert store.list_states(root.job, middle, one, two) == [
        "queued",
        "waiting",
        "waiting",
        "waiting",
    ]
    for job in (root.job, middle, one, two):
        succeed(store, job)


def test_a_maker_whose_own_input_is_being_made_waits_for_it(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, _ = chain
    root, maker = (
        find_producer(store.db, ALICE, compute_sha256("root")),
        find_producer(store.db, ALICE, compute_sha256("middle")),
    )
    assert root is not None
    assert maker is not None
    rebuild_artifact(store.db, ALICE, compute_sha256("root"), root)
    assert rebuild_artifact(store.db, ALICE, compute_sha256("middle"), maker) == set()
    assert store.list_states(root.job, middle, one) == ["queued", "waiting", "waiting"]
    succeed(store, root.job)
    succeed(store, middle)


def test_two_who_notice_at_once_send_it_back_once(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, two = chain
    first, second = store.claim_one("w1"), store.claim_one("w2")
    found = lost(store, "middle")

    def notice(claim: Claim) -> set[str]:
        return wait_for_inputs(store.db, claim.job.id, claim.fence, [found])

    answers = run_together(lambda: notice(first), lambda: notice(second))
    assert sorted(map(len, answers)) == [0, 1]  # type: ignore[arg-type]
    assert store.list_states(middle, one, two) == ["queued", "waiting", "waiting"]
    assert store.list_transitions(middle).count("queued") == 2  # when it came, and once again


def test_who_notices_late_changes_nothing_for_the_maker(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    """It looked at the bytes before they were made again."""
    middle, one, two = chain
    first, second = store.claim_one("w1"), store.claim_one("w2")
    found = lost(store, "middle")
    wait_for_inputs(store.db, one, first.fence, [found])
    again = store.claim_one("w1")
    finish(store, again)
    version = store.get_job(middle).version
    assert wait_for_inputs(store.db, two, second.fence, [found]) == {STAGE}
    assert rebuild_artifact(store.db, ALICE, compute_sha256("middle"), Producer(middle, 1)) == set()
    assert (store.get_job(middle).version, store.list_states(middle, one, two)) == (
        version,
        ["succeeded", "queued", "queued"],
    )


def test_a_maker_that_ends_while_a_child_goes_to_wait_lets_it_go(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, _ = chain
    first = store.claim_one("w1")
    found = lost(store, "middle")
    assert found.producer is not None
    rebuild_artifact(store.db, ALICE, compute_sha256("middle"), found.producer)
    again = store.claim_one("w2")
    if store.db.dialect == "postgresql":  # the others have one writer at a time
        run_overlapping(
            store.db,
            lambda c: lock_with_fence(c, middle, again.fence),
            lambda: wait_for_inputs(store.db, one, first.fence, [found]),
        )
        finish(store, again)
    else:
        run_together(
            lambda: wait_for_inputs(store.db, one, first.fence, [found]),
            lambda: finish(store, again),
        )
    assert store.list_states(middle, one) == ["succeeded", "queued"]


def test_a_maker_that_fails_this_time_fails_its_children_and_has_no_artifact(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, two = chain
    claim = store.claim_one()
    wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")])
    store.fail(store.claim_one())
    assert store.list_states(middle, one, two) == ["failed", "failed", "failed"]
    assert store.get_job(one).failure == "input_failed"
    assert store.get_job(middle).artifacts == ()
    assert find_producer(store.db, ALICE, compute_sha256("middle")) is None
    control.retry_job(store.db, ALICE, middle)
    succeed(store, middle)


def test_a_maker_whose_input_has_failed_meanwhile_fails(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, two = chain
    root, maker = (
        find_producer(store.db, ALICE, compute_sha256("root")),
        find_producer(store.db, ALICE, compute_sha256("middle")),
    )
    assert root is not None
    assert maker is not None
    rebuild_artifact(store.db, ALICE, compute_sha256("root"), root)
    control.cancel_job(store.db, ALICE, root.job)
    rebuild_artifact(store.db, ALICE, compute_sha256("middle"), maker)
    assert store.list_states(root.job, middle, one, two) == [
        "cancelled",
        "failed",
        "failed",
        "failed",
    ]


def test_an_input_that_was_named_by_its_digest_is_waited_for_too(store: JobStore) -> None:
    root = store.run_job("root")
    child = store.post(make_planned_job("child", Input("IN0", sha256=compute_sha256("root"))))
    claim = store.claim_one()
    wait_for_inputs(store.db, child, claim.fence, [lost(store, "root")])
    assert store.list_states(root, child) == ["queued", "waiting"]
    succeed(store, root)
    claim = store.claim_one()
    assert (claim.job.id, claim.inputs) == (child, {"IN0": compute_sha256("root")})


def test_what_nobody_makes_any_more_fails_with_what_to_do(store: JobStore) -> None:
    store.run_job("root")
    child = store.post(make_planned_job("child", Input("IN0", sha256=compute_sha256("root"))))
    claim = store.claim_one()
    wait_for_inputs(
        store.db, child, claim.fence, [UnreadableInput("IN0", compute_sha256("root"), None)]
    )
    job = store.get_job(child)
    assert (job.state, job.failure) == ("failed", "input_failed")
    assert "submit the job again" in str(job.message)


def test_a_cancel_that_came_meanwhile_is_obeyed(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    middle, one, two = chain
    claim = store.claim_one()
    control.cancel_job(store.db, ALICE, one)
    wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")])
    assert store.list_states(middle, one, two) == ["queued", "cancelled", "waiting"]


def test_who_has_lost_its_lease_changes_nothing(
    store: JobStore, chain: tuple[str, str, str]
) -> None:
    claim = store.claim_one()
    store.lose_attempt(claim)
    before = store.dump()
    with pytest.raises(FencedOut):
        wait_for_inputs(store.db, claim.job.id, claim.fence, [lost(store, "middle")])
    assert store.dump() == before


def test_an_equal_submission_is_answered_with_the_job_that_runs_again(store: JobStore) -> None:
    root = store.run_job("root")
    maker = find_producer(store.db, ALICE, compute_sha256("root"))
    assert maker is not None
    rebuild_artifact(store.db, ALICE, compute_sha256("root"), maker)
    assert store.post(make_planned_job("root")) == root
    assert store.get_job(root).state == "queued"
    assert completion.find_cached_artifacts(store.db, ALICE, compute_sha256("root")) is None


def test_a_tenant_reaches_only_its_own_makers(store: JobStore) -> None:
    root = store.run_job("root")
    assert find_producer(store.db, BOB, compute_sha256("root")) is None
    assert find_producer(store.db, ALICE, compute_sha256("root"), "job_other") is None
    assert find_producer(store.db, ALICE, compute_sha256("root"), root) == Producer(root, 1)


def test_a_store_that_damages_everything_is_not_fed_for_ever(store: JobStore) -> None:
    root = store.run_job("root")
    for _ in range(MAX_REBUILDS_PER_HOUR):
        maker = find_producer(store.db, ALICE, compute_sha256("root"))
        assert maker is not None
        rebuild_artifact(store.db, ALICE, compute_sha256("root"), maker)
        succeed(store, root)
    with pytest.raises(Conflict, match="check the artifact store"):
        rebuild_artifact(
            store.db, ALICE, compute_sha256("root"), Producer(root, MAX_REBUILDS_PER_HOUR + 1)
        )
    assert store.get_job(root).state == "succeeded"
