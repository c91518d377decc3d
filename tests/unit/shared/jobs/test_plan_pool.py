"""Audits that train from scratch, on a pool of a size that is given, with the stages of this
tree."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.jobs.records import PlannedJob
from tests.golden.planned_jobs import plan_audit

AUDIT: dict[str, Any] = {
    "dataset": "mnist_5k",
    "model": "mlp",
    "pool": 4000,
    "pretrain": {"epochs": 0},
    "train": {"size": 3500},
    "unlearning": ["retrain"],
    "attacks": ["label_inference"],
}


def find(jobs: list[PlannedJob], stage: str) -> PlannedJob:
    (job,) = (job for job in jobs if job.stage == stage)
    return job


def test_the_pool_is_a_parameter_of_both_trainings() -> None:
    jobs = plan_audit(AUDIT)
    assert find(jobs, "pretrain").params["pool"] == find(jobs, "train").params["pool"] == 4000
    without = plan_audit({**AUDIT, "pool": None, "train": {"size": 32}})
    assert find(without, "pretrain").params["pool"] is find(without, "train").params["pool"] is None
    assert find(jobs, "pretrain").request_key != find(without, "pretrain").request_key


def test_a_recipe_reaches_the_training_and_the_deletions() -> None:
    recipe = {
        "epochs": 10,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "one_cycle",
        "batch_size": 32,
        "batch_norm": "trained",
    }
    jobs = plan_audit({**AUDIT, "train": {"size": 3500, **recipe}})
    train, unlearn = find(jobs, "train"), find(jobs, "unlearn")
    assert {name: train.params[name] for name in recipe} == recipe
    assert {i.role: i.parent for i in unlearn.inputs}["RECIPE"] == train.request_key
    assert find(jobs, "pretrain").params["epochs"] == 0


@pytest.mark.parametrize(
    "forget",
    [
        {"deletions": 8, "size": 350},
        {"deletions": 10, "forget": "class"},
        {"deletions": 1, "size": 2000},
        {"indices": [[3499]]},
    ],
)
def test_large_training_sets_can_forget_many(forget: dict[str, Any]) -> None:
    jobs = plan_audit({**AUDIT, "train": {"size": 3500, "balanced": True}, "forget": forget})
    assert find(jobs, "unlearn").params.items() >= forget.items()


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"train": {"size": 4001}}, "train.size", "does not fit into a pool of 4000"),
        ({"train": {"pool": 5}}, "train.pool", "already has a field pool"),
        ({"pool": 0}, "pool", "greater than or equal to 1"),
        ({"pool": 1_000_001}, "pool", "less than or equal to 1000000"),
        (
            {"evaluate": {"feature_network": True}},
            "evaluate.feature_network",
            "base models have learned nothing",
        ),
        ({"forget": {"indices": [[3500]]}}, "forget.indices", "no sample 3500"),
    ],
)
def test_what_cannot_be_is_refused_at_planning(
    changed: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises((InvalidRequest, ValueError), match=words) as refused:
        plan_audit({**AUDIT, **changed})
    if isinstance(refused.value, InvalidRequest):
        assert refused.value.field == field
