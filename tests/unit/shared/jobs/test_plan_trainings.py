"""plan(): what a method wants trained otherwise, and what is forgotten of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.jobs.records import PlannedJob
from tests.support.planned_audits import plan_audit


def trained(jobs: list[PlannedJob]) -> list[dict[str, Any]]:
    return [
        {name: j.params[name] for name in ("shards", "noise")} for j in jobs if j.stage == "train"
    ]


def test_methods_that_need_another_training_have_their_own_and_the_others_share_one() -> None:
    jobs = plan_audit(
        {"unlearning": ["retrain", "ascent", "sharded"], "defenses": ["none", "veil", "private"]}
    )
    assert sorted(trained(jobs), key=str) == [
        {"shards": 1, "noise": 0.0}, {"shards": 1, "noise": 1.0},
        {"shards": 5, "noise": 0.0}, {"shards": 5, "noise": 1.0},
    ]  # fmt: skip
    # 3 methods under each of the 2 trainings that defenses ask for; 9 pairs are released
    assert Counter(j.stage for j in jobs)["unlearn"] == 6
    assert Counter(j.stage for j in jobs)["defend"] == 9


def test_each_job_descends_from_the_training_that_its_methods_asked_for() -> None:
    by_key = {
        j.request_key: j for j in plan_audit({"unlearning": ["sharded"], "defenses": ["private"]})
    }

    def ancestors(job: PlannedJob) -> set[str]:
        parents = [by_key[i.parent] for i in job.inputs if i.parent]
        return {p.request_key for p in parents}.union(*(ancestors(p) for p in parents))

    (train,) = (j for j in by_key.values() if j.stage == "train")
    assert train.params["shards"] == 5
    for job in by_key.values():
        if job.stage not in ("pretrain", "train", "selftest"):
            assert train.request_key in ancestors(job)


def test_a_value_of_a_method_goes_to_train() -> None:
    assert (
        trained(plan_audit({"unlearning": [{"name": "sharded", "params": {"shards": 7}}]}))[0][
            "shards"
        ]
        == 7
    )


def test_train_and_a_method_that_disagree_are_refused() -> None:
    with pytest.raises(
        InvalidRequest, match=r"train\.shards is 3, but a method of this audit needs 5"
    ) as refused:
        plan_audit({"unlearning": ["sharded"], "train": {"shards": 3}})
    assert refused.value.field == "train.shards"
    assert (
        trained(plan_audit({"unlearning": ["sharded"], "train": {"shards": 5}}))[0]["shards"] == 5
    )


def test_successive_deletions_have_the_models_they_started_from_from_unlearn() -> None:
    def origin(change: dict[str, Any]) -> str:
        jobs = plan_audit({"forget": change})
        by_key = {j.request_key: j for j in jobs}
        (attack,) = (j for j in jobs if j.stage == "attack")
        (source,) = (i.parent for i in attack.inputs if i.role == "ORIGINAL")
        return by_key[source or ""].stage

    assert origin({}) == "train"
    assert origin({"successive": True}) == "unlearn"


def test_a_forget_index_beyond_the_training_set_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="no sample 50 in a training set of 50") as refused:
        plan_audit({"forget": {"indices": [[3], [50]]}})
    assert refused.value.field == "forget.indices"
    assert plan_audit({"forget": {"indices": [[3], [49]]}})


@pytest.mark.parametrize("forget", [{"deletions": 1, "size": 50}, {"indices": [list(range(50))]}])
def test_only_methods_that_need_nothing_to_keep_forget_everything(forget: dict[str, Any]) -> None:
    assert plan_audit({"unlearning": ["retrain"], "forget": forget})
    with pytest.raises(InvalidRequest, match="ascent needs retained samples") as refused:
        plan_audit({"unlearning": ["retrain", "ascent"], "forget": forget})
    assert refused.value.field == "unlearning.1"
