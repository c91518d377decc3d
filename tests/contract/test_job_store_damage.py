"""What the job store does when an artifact is found damaged: its job makes it again, who needs it waits."""

from __future__ import annotations

import pytest

from shared.errors import Conflict, FencedOut
from shared.jobs import claims, completion, control
from shared.jobs.damage import OFTEN, Lost, Maker, make_again, maker_of, wait_for_inputs
from shared.jobs.moves import held
from shared.jobs.records import Artifact, Claim, Input
from tests.support.jobs import ALICE, BOB, STAGE, Store, made, overlapping, planned, sha, together


def finish(store: Store, claim: Claim) -> set[str]:
    """The same bytes for the same job, every time."""
    out = made(claim.job.params["tag"])
    return completion.finish(
        store.db, claim.job.id, claim.fence, [out], content_key=sha(claim.job.id), code=claim.job.code
    )


def succeed(store: Store, job_id: str) -> None:
    claim = store.take()
    assert claim.job.id == job_id
    finish(store, claim)


def lost(store: Store, tag: str, role: str = "IN0", parent: str | None = None) -> Lost:
    return Lost(role, sha(tag), maker_of(store.db, ALICE, sha(tag), parent))


@pytest.fixture
def chain(store: Store) -> tuple[str, str, str]:
    """root -> middle -> (two children of it, queued, in this order); root and middle have succeeded."""
    root, middle = planned("root"), planned("middle", planned("root"))
    ids = store.submit(root, middle).jobs
    succeed(store, ids[sha("root")])
    succeed(store, ids[sha("middle")])
    one, two = (store.post(planned(tag, ids[sha("middle")]), priority=p) for tag, p in (("one", 2), ("two", 1)))
    return ids[sha("middle")], one, two


def test_the_maker_runs_again_and_its_children_wait_free_of_charge(store: Store, chain: tuple[str, str, str]) -> None:
    middle, one, two = chain
    claim = store.take()
    assert claim.job.id == one
    assert wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")]) == {STAGE}
    assert store.states(middle, one, two) == ["queued", "waiting", "waiting"]
    assert store.events(middle)[-1].data["because"] == f"its artifact {sha('middle')} is damaged"
    assert store.job(middle).finished_at is None
    with pytest.raises(FencedOut):
        claims.save_checkpoint(store.db, one, claim.fence, sha("late"), "key")
    again = store.take()
    assert again.job.id == middle
    assert again.inputs == {"IN0": sha("root")}
    assert finish(store, again) == {STAGE}
    assert store.states(middle, one, two) == ["succeeded", "queued", "queued"]
    assert [a.sha256 for a in store.job(middle).artifacts] == [sha("middle")]
    assert [store.job(j).lost_count for j in chain] == [0, 0, 0]
    succeed(store, one)
    succeed(store, two)


def test_other_bytes_take_the_place_of_those_that_were_lost(store: Store, chain: tuple[str, str, str]) -> None:
    """Other code makes them: the children get what is there now."""
    middle, _, _ = chain
    maker = maker_of(store.db, ALICE, sha("middle"))
    assert maker is not None
    make_again(store.db, sha("middle"), maker)
    claim = store.take()
    other = Artifact("OUT", sha("other"), 3, "text/html")
    completion.finish(store.db, middle, claim.fence, [other], content_key="k", code="other code")
    assert store.job(middle).artifacts == (other,)
    assert store.take().inputs == {"IN0": sha("other")}
    assert maker_of(store.db, ALICE, sha("middle")) is None


def test_what_the_maker_is_made_from_may_be_damaged_too(store: Store, chain: tuple[str, str, str]) -> None:
    middle, one, two = chain
    claim = store.take()
    wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")])
    again = store.take()
    assert again.job.id == middle
    root = maker_of(store.db, ALICE, sha("root"))
    assert root is not None
    assert wait_for_inputs(store.db, middle, again.fence, [lost(store, "root")]) == {STAGE}
    assert store.states(root.job, middle, one, two) == ["queued", "waiting", "waiting", "waiting"]
    for job in (root.job, middle, one, two):
        succeed(store, job)


def test_a_maker_whose_own_input_is_being_made_waits_for_it(store: Store, chain: tuple[str, str, str]) -> None:
    middle, one, _ = chain
    root, maker = maker_of(store.db, ALICE, sha("root")), maker_of(store.db, ALICE, sha("middle"))
    assert root is not None
    assert maker is not None
    make_again(store.db, sha("root"), root)
    assert make_again(store.db, sha("middle"), maker) == set()
    assert store.states(root.job, middle, one) == ["queued", "waiting", "waiting"]
    succeed(store, root.job)
    succeed(store, middle)


def test_two_who_notice_at_once_send_it_back_once(store: Store, chain: tuple[str, str, str]) -> None:
    middle, one, two = chain
    first, second = store.take("w1"), store.take("w2")
    found = lost(store, "middle")

    def notice(claim: Claim) -> set[str]:
        return wait_for_inputs(store.db, claim.job.id, claim.fence, [found])

    answers = together(lambda: notice(first), lambda: notice(second))
    assert sorted(map(len, answers)) == [0, 1]  # type: ignore[arg-type]
    assert store.states(middle, one, two) == ["queued", "waiting", "waiting"]
    assert store.path(middle).count("queued") == 2  # when it came, and once again


def test_who_notices_late_changes_nothing_for_the_maker(store: Store, chain: tuple[str, str, str]) -> None:
    """It looked at the bytes before they were made again."""
    middle, one, two = chain
    first, second = store.take("w1"), store.take("w2")
    found = lost(store, "middle")
    wait_for_inputs(store.db, one, first.fence, [found])
    again = store.take("w1")
    finish(store, again)
    version = store.job(middle).version
    assert wait_for_inputs(store.db, two, second.fence, [found]) == {STAGE}
    assert make_again(store.db, sha("middle"), Maker(middle, 1)) == set()
    assert (store.job(middle).version, store.states(middle, one, two)) == (version, ["succeeded", "queued", "queued"])


def test_a_maker_that_ends_while_a_child_goes_to_wait_lets_it_go(store: Store, chain: tuple[str, str, str]) -> None:
    middle, one, _ = chain
    first = store.take("w1")
    found = lost(store, "middle")
    assert found.maker is not None
    make_again(store.db, sha("middle"), found.maker)
    again = store.take("w2")
    if store.db.dialect == "postgresql":  # the others have one writer at a time
        overlapping(
            store.db,
            lambda c: held(c, middle, again.fence),
            lambda: wait_for_inputs(store.db, one, first.fence, [found]),
        )
        finish(store, again)
    else:
        together(lambda: wait_for_inputs(store.db, one, first.fence, [found]), lambda: finish(store, again))
    assert store.states(middle, one) == ["succeeded", "queued"]


def test_a_maker_that_fails_this_time_fails_its_children_and_has_no_artifact(
    store: Store, chain: tuple[str, str, str]
) -> None:
    middle, one, two = chain
    claim = store.take()
    wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")])
    store.fail(store.take())
    assert store.states(middle, one, two) == ["failed", "failed", "failed"]
    assert store.job(one).failure == "input_failed"
    assert store.job(middle).artifacts == ()
    assert maker_of(store.db, ALICE, sha("middle")) is None
    control.retry_job(store.db, ALICE, middle)
    succeed(store, middle)


def test_a_maker_whose_input_has_failed_meanwhile_fails(store: Store, chain: tuple[str, str, str]) -> None:
    middle, one, two = chain
    root, maker = maker_of(store.db, ALICE, sha("root")), maker_of(store.db, ALICE, sha("middle"))
    assert root is not None
    assert maker is not None
    make_again(store.db, sha("root"), root)
    control.cancel_job(store.db, ALICE, root.job)
    make_again(store.db, sha("middle"), maker)
    assert store.states(root.job, middle, one, two) == ["cancelled", "failed", "failed", "failed"]


def test_an_input_that_was_named_by_its_digest_is_waited_for_too(store: Store) -> None:
    root = store.run("root")
    child = store.post(planned("child", Input("IN0", sha256=sha("root"))))
    claim = store.take()
    wait_for_inputs(store.db, child, claim.fence, [lost(store, "root")])
    assert store.states(root, child) == ["queued", "waiting"]
    succeed(store, root)
    claim = store.take()
    assert (claim.job.id, claim.inputs) == (child, {"IN0": sha("root")})


def test_what_nobody_makes_any_more_fails_with_what_to_do(store: Store) -> None:
    store.run("root")
    child = store.post(planned("child", Input("IN0", sha256=sha("root"))))
    claim = store.take()
    wait_for_inputs(store.db, child, claim.fence, [Lost("IN0", sha("root"), None)])
    job = store.job(child)
    assert (job.state, job.failure) == ("failed", "input_failed")
    assert "post the job again" in str(job.message)


def test_a_cancel_that_came_meanwhile_is_obeyed(store: Store, chain: tuple[str, str, str]) -> None:
    middle, one, two = chain
    claim = store.take()
    control.cancel_job(store.db, ALICE, one)
    wait_for_inputs(store.db, one, claim.fence, [lost(store, "middle")])
    assert store.states(middle, one, two) == ["queued", "cancelled", "waiting"]


def test_who_has_lost_its_lease_changes_nothing(store: Store, chain: tuple[str, str, str]) -> None:
    claim = store.take()
    store.lose(claim)
    before = store.dump()
    with pytest.raises(FencedOut):
        wait_for_inputs(store.db, claim.job.id, claim.fence, [lost(store, "middle")])
    assert store.dump() == before


def test_an_equal_submission_is_answered_with_the_job_that_runs_again(store: Store) -> None:
    root = store.run("root")
    maker = maker_of(store.db, ALICE, sha("root"))
    assert maker is not None
    make_again(store.db, sha("root"), maker)
    assert store.post(planned("root")) == root
    assert store.job(root).state == "queued"
    assert completion.equal_work(store.db, ALICE, sha("root")) is None


def test_a_tenant_reaches_only_its_own_makers(store: Store) -> None:
    root = store.run("root")
    assert maker_of(store.db, BOB, sha("root")) is None
    assert maker_of(store.db, ALICE, sha("root"), "job_other") is None
    assert maker_of(store.db, ALICE, sha("root"), root) == Maker(root, 1)


def test_a_store_that_damages_everything_is_not_fed_for_ever(store: Store) -> None:
    root = store.run("root")
    for _ in range(OFTEN):
        maker = maker_of(store.db, ALICE, sha("root"))
        assert maker is not None
        make_again(store.db, sha("root"), maker)
        succeed(store, root)
    with pytest.raises(Conflict, match="look at the artifact store"):
        make_again(store.db, sha("root"), Maker(root, OFTEN + 1))
    assert store.job(root).state == "succeeded"
