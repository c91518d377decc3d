"""services.client.lineage: where a new job's inputs come from."""

from __future__ import annotations

from typing import Any

import pytest

from services.client import ClientError, Job
from services.client.lineage import Lineage, wanted

CATALOG = {
    "kinds": {
        "stage": [
            {"name": "train", "needs": ["BASE"], "uses": [], "methods": None, "params_schema": {}},
            {"name": "attack", "needs": [], "uses": ["EXTRA"], "methods": "attack", "params_schema": {}},
        ],
        "attack": [
            {
                "name": "invert",
                "needs": ["ORIGINAL", "UNLEARNED"],
                "needs_when": {"labels": {"given": ["LABELS"]}, "from": {"base": ["BASE"]}},
                "uses": ["COUNTS"],
                "params_schema": {"properties": {"labels": {"default": "given"}, "from": {"default": "pair"}}},
            }
        ],
    }
}


@pytest.mark.parametrize(
    ("stage", "method", "params", "roles"),
    [
        ("train", None, {}, ["BASE"]),
        ("attack", "invert", {}, ["ORIGINAL", "UNLEARNED", "LABELS", "EXTRA"]),
        ("attack", "invert", {"labels": "no", "from": "base"}, ["ORIGINAL", "UNLEARNED", "BASE", "EXTRA"]),
        ("attack", "none", {}, ["EXTRA"]),
        ("dance", None, {}, []),
    ],
)
def test_what_a_job_wants(stage, method, params, roles):
    assert wanted(CATALOG, stage, method, params) == roles


def job(name: str, produces: str = "", state: str = "running", **inputs: Any) -> Job:
    return Job(name, "stage", state, produces=tuple(produces.split()), inputs=inputs)


def of(name: str, role: str) -> dict[str, str]:
    return {"job": name, "role": role}


TREE = {
    j.id: j
    for j in (
        job("pretrain", "BASE METRICS"),
        job("train", "ORIGINAL TRAINING_SET METRICS", BASE=of("pretrain", "BASE")),
        job("unlearn", "UNLEARNED LABELS", ORIGINAL=of("train", "ORIGINAL"), BASE={"sha256": "0" * 64}),
        job("defend", "RELEASED", UNLEARNED=of("unlearn", "UNLEARNED"), TRAINING_SET=of("train", "TRAINING_SET")),
        job("stacked", "RELEASED", UNLEARNED=of("defend", "RELEASED"), TRAINING_SET=of("train", "TRAINING_SET")),
        job("attack", "ANSWERS", ORIGINAL=of("train", "ORIGINAL"), UNLEARNED=of("defend", "RELEASED")),
        job("two", "X", A=of("train", "ORIGINAL"), B=of("other", "ORIGINAL")),
        job("other", "ORIGINAL", BASE=of("pretrain", "BASE")),
        job("failed", "ORIGINAL", state="succeeded"),
        job("another", "BASE METRICS"),
        job("evaluate", "EVALUATION", ANSWERS=of("attack", "ANSWERS"), JUDGE=of("another", "BASE")),
    )
}


def found(start: str, *roles: str, stage: str = "attack") -> dict[str, Any]:
    walk, rounds = Lineage(start, roles, stage), 0
    while walk.ask:
        walk.take([TREE[name] for name in walk.ask])
        rounds += 1
        assert rounds < 10
    return walk.found


def test_the_nearest_source_counts():
    assert found("unlearn", "UNLEARNED", "ORIGINAL", "LABELS", "TRAINING_SET") == {
        "UNLEARNED": of("unlearn", "UNLEARNED"),
        "ORIGINAL": of("train", "ORIGINAL"),
        "LABELS": of("unlearn", "LABELS"),
        "TRAINING_SET": of("train", "TRAINING_SET"),
    }
    assert found("unlearn", "BASE") == {"BASE": {"sha256": "0" * 64}}
    assert found("unlearn", "METRICS") == {"METRICS": of("train", "METRICS")}
    assert found("unlearn", "NOTHING") == {}


def test_what_was_released_is_what_an_attacker_sees():
    assert found("defend", "UNLEARNED", "LABELS") == {
        "UNLEARNED": of("defend", "RELEASED"),
        "LABELS": of("unlearn", "LABELS"),
    }
    assert found("attack", "UNLEARNED") == {"UNLEARNED": of("defend", "RELEASED")}


@pytest.mark.parametrize("start", ["unlearn", "defend", "attack", "stacked"])
def test_a_defense_starts_from_what_no_other_defense_has_changed(start):
    assert found(start, "UNLEARNED", "TRAINING_SET", stage="defend") == {
        "UNLEARNED": of("unlearn", "UNLEARNED"),
        "TRAINING_SET": of("train", "TRAINING_SET"),
    }


def test_of_two_that_are_as_near_none_is_taken_silently():
    with pytest.raises(ClientError, match="ORIGINAL could come from other and train"):
        found("two", "ORIGINAL")
    assert found("two", "BASE") == {"BASE": of("pretrain", "BASE")}


def test_a_judge_is_handed_on_and_what_it_came_from_is_nobodys_base():
    assert found("evaluate", "JUDGE", "BASE") == {"JUDGE": of("another", "BASE"), "BASE": of("pretrain", "BASE")}


def test_a_job_that_has_succeeded_offers_what_it_has_made():
    assert found("failed", "ORIGINAL") == {}
