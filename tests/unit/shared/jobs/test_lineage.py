"""shared.jobs.lineage: where a new job's inputs come from."""

from __future__ import annotations

import pytest

from shared.errors import InvalidRequest
from shared.jobs.lineage import Lineage, Relations
from shared.jobs.records import Artifact, Input, Job
from shared.jobs.states import State
from tests.support.plugins import make_catalog


def job(
    name: str, produces: str = "", state: State = State.RUNNING, made: str = "", **inputs: Input
) -> Job:
    return Job(
        id=name,
        tenant="t",
        stage="stage",
        method=None,
        params={},
        data_digests={},
        seed=0,
        inputs=tuple(inputs.values()),
        produces=tuple(produces.split()),
        state=state,
        priority=0,
        request_key="",
        cache_key=None,
        code="",
        no_cache=False,
        fence=0,
        attempt=0,
        lost_count=0,
        lease_until=None,
        worker=None,
        stop=None,
        checkpoint=None,
        progress={},
        failure=None,
        message=None,
        reused_from=None,
        time_limit=None,
        created_at=0,
        queued_at=None,
        started_at=None,
        finished_at=None,
        version=1,
        artifacts=tuple(Artifact(role, "0" * 64, 1, "x") for role in made.split()),
    )


def of(name: str, made: str, role: str | None = None) -> Input:
    return Input(role or made, parent=name, parent_role=made)


BYTES = Input("BASE", parent_role="BASE", sha256="0" * 64)
TREE = {
    j.id: j
    for j in (
        job("pretrain", "BASE METRICS"),
        job("train", "ORIGINAL TRAINING_SET METRICS", BASE=of("pretrain", "BASE")),
        job("unlearn", "UNLEARNED LABELS", ORIGINAL=of("train", "ORIGINAL"), BASE=BYTES),
        job("defend", "RELEASED", A=of("unlearn", "UNLEARNED"), B=of("train", "TRAINING_SET")),
        job(
            "stacked",
            "RELEASED",
            A=of("defend", "RELEASED", "UNLEARNED"),
            B=of("train", "TRAINING_SET"),
        ),
        job(
            "attack", "ANSWERS", A=of("train", "ORIGINAL"), B=of("defend", "RELEASED", "UNLEARNED")
        ),
        job("two", "X", A=of("train", "ORIGINAL", "A"), B=of("other", "ORIGINAL", "B")),
        job("other", "ORIGINAL", BASE=of("pretrain", "BASE")),
        job("failed", "ORIGINAL", State.SUCCEEDED),
        job("another", "BASE METRICS"),
        job(
            "evaluate",
            "EVALUATION",
            A=of("attack", "ANSWERS"),
            B=of("another", "BASE", "FEATURE_NETWORK"),
        ),
    )
}


def found(start: str, *roles: str, stage: str = "attack") -> dict[str, Input]:
    walk, rounds = Lineage(start, roles, Relations.from_catalog(make_catalog(), stage)), 0
    while walk.pending_ids:
        walk.add_level([TREE[name] for name in walk.pending_ids])
        rounds += 1
        assert rounds < 10
    return walk.inputs


def test_the_nearest_source_counts() -> None:
    assert found("unlearn", "UNLEARNED", "ORIGINAL", "LABELS", "TRAINING_SET") == {
        "UNLEARNED": of("unlearn", "UNLEARNED"),
        "ORIGINAL": of("train", "ORIGINAL"),
        "LABELS": of("unlearn", "LABELS"),
        "TRAINING_SET": of("train", "TRAINING_SET"),
    }
    assert found("unlearn", "BASE") == {"BASE": BYTES}
    assert found("unlearn", "METRICS") == {"METRICS": of("train", "METRICS")}
    assert found("unlearn", "NOTHING") == {}


def test_what_was_released_is_what_an_attacker_sees() -> None:
    assert found("defend", "UNLEARNED", "LABELS") == {
        "UNLEARNED": of("defend", "RELEASED", "UNLEARNED"),
        "LABELS": of("unlearn", "LABELS"),
    }
    assert found("attack", "UNLEARNED") == {"UNLEARNED": of("defend", "RELEASED", "UNLEARNED")}


@pytest.mark.parametrize("start", ["unlearn", "defend", "attack", "stacked"])
def test_a_defense_starts_from_what_no_other_defense_has_changed(start: str) -> None:
    assert found(start, "UNLEARNED", "TRAINING_SET", stage="defend") == {
        "UNLEARNED": of("unlearn", "UNLEARNED"),
        "TRAINING_SET": of("train", "TRAINING_SET"),
    }


def test_of_two_that_are_as_near_none_is_taken_silently() -> None:
    with pytest.raises(
        InvalidRequest, match="ORIGINAL could come from other and train: name the one to use"
    ):
        found("two", "ORIGINAL")
    assert found("two", "BASE") == {"BASE": of("pretrain", "BASE")}


def test_a_judge_is_handed_on_and_what_it_came_from_is_nobodys_base() -> None:
    assert found("evaluate", "FEATURE_NETWORK", "BASE") == {
        "FEATURE_NETWORK": of("another", "BASE", "FEATURE_NETWORK"),
        "BASE": of("pretrain", "BASE"),
    }


def test_a_job_that_has_succeeded_offers_what_it_has_made() -> None:
    assert found("failed", "ORIGINAL") == {}


def test_of_many_that_are_as_near_the_first_are_named() -> None:
    walk = Lineage("report", ["ORIGINAL"], Relations.from_catalog(make_catalog(), "attack"))
    walk.add_level([job("report", **{f"R{n}": of(f"job{n}", "X", f"R{n}") for n in range(5000)})])
    with pytest.raises(
        InvalidRequest,
        match="could come from job0 and job1 and job10 and 4,997 others: name the one to use",
    ):
        walk.add_level(job(name, "ORIGINAL") for name in walk.pending_ids)
