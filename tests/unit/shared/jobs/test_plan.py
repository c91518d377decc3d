"""plan(): audit -> jobs. Pure, identical jobs once, keys that follow everything that matters,
honest blame."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.jobs import plan as planning
from shared.jobs.plan import plan, plan_job
from shared.jobs.records import Input, PlannedJob
from shared.jobs.spec import AuditSpec
from tests.support.planned_audits import collect_plan_keys, list_roles, plan_audit
from tests.support.plugins import MINIMAL_AUDIT, make_catalog
from tests.support.source_tree import ROOT

ELSEWHERE = """
import json, sys
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from tests.support.plugins import make_catalog

print(json.dumps([job.request_key for job in plan(AuditSpec.model_validate_json(sys.argv[1]), make_catalog())]))
"""
STAGES = ["pretrain", "train", "unlearn", "defend", "attack", "evaluate"]


def keys(*args: Any) -> dict[str, str]:
    """Stage -> request key, for an audit of one job a stage; of the two evaluations the
    attack's."""
    return {
        j.stage: j.request_key
        for j in plan_audit(*args)
        if j.stage != "evaluate" or "RECONSTRUCTION" in list_roles(j)
    }


def changed(*args: Any) -> list[str]:
    """Stages whose key is another than that of the least audit."""
    before, after = keys(), keys(*args)
    return [s for s in STAGES if before[s] != after[s]]


def test_the_least_audit_is_one_job_a_stage_parents_first() -> None:
    jobs = plan_audit()
    assert [j.stage for j in jobs] == [*STAGES[:4], "evaluate", *STAGES[4:], "selftest", "report"]
    seen: set[str] = set()
    for job in jobs:
        assert {i.parent for i in job.inputs} <= seen
        seen.add(job.request_key)


def test_a_plan_is_the_same_every_time_and_in_every_process() -> None:
    change = {
        "seeds": [0, 1, 2],
        "attacks": ["matching", "counting"],
        "unlearning": ["retrain", "ascent"],
    }
    assert plan_audit(change) == plan_audit(change)
    for seed in ("1", "2"):  # sets come in another order
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", ELSEWHERE, json.dumps({**MINIMAL_AUDIT, **change})]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [j.request_key for j in plan_audit(change)]


def test_identical_jobs_are_made_once() -> None:
    jobs = plan_audit(
        {
            "seeds": [0, 1, 2, 1],
            "unlearning": ["ascent", "retrain", "ascent"],
            "attacks": ["matching"] * 2,
        }
    )
    assert Counter(j.stage for j in jobs) == {
        "pretrain": 1, "train": 3, "unlearn": 6, "defend": 6, "attack": 6, "evaluate": 12, "selftest": 1, "report": 1,
    }  # fmt: skip
    assert len({j.request_key for j in jobs}) == len(jobs)


def test_all_seeds_share_the_base_model() -> None:
    jobs = plan_audit({"seeds": [3, 4], "pretrain_seed": 9})
    base, *rest = jobs
    assert (base.stage, base.seed) == ("pretrain", 9)
    trained = [j for j in rest if j.stage == "train"]
    assert [j.inputs for j in trained] == [(Input("BASE", parent=base.request_key),)] * 2
    assert {j.seed for j in rest if j.stage not in ("selftest", "report")} == {3, 4}


@given(
    st.permutations([0, 1, 2, 3]),
    st.permutations(["ascent", "retrain"]),
    st.permutations(["matching", "counting"]),
)
@settings(max_examples=10, deadline=None)
def test_the_order_of_a_grid_does_not_change_its_jobs(
    seeds: list[int], unlearning: list[str], attacks: list[str]
) -> None:
    whole = {
        "seeds": [0, 1, 2, 3],
        "unlearning": ["ascent", "retrain"],
        "attacks": ["matching", "counting"],
    }
    found = plan_audit({"seeds": seeds, "unlearning": unlearning, "attacks": attacks})
    assert collect_plan_keys(found) == collect_plan_keys(plan_audit(whole))


def test_a_smaller_grid_is_part_of_the_larger_one() -> None:
    larger = plan_audit(
        {"seeds": [0, 1], "unlearning": ["ascent", "retrain"], "attacks": ["matching", "counting"]}
    )
    assert collect_plan_keys(plan_audit()) < collect_plan_keys(larger)


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"name": "another name", "priority": 5, "time_limit": 60, "no_cache": True}, []),
        ({"pretrain": {"epochs": 1}, "train": {"lr": 0.1, "size": 50.0}}, []),  # the defaults
        ({"dataset": {"name": "digits", "params": {}}}, []),
        ({"dataset": "noisy"}, STAGES),
        ({"model": {"name": "mlp", "params": {"width": 65}}}, STAGES),
        ({"pretrain": {"epochs": 2}}, STAGES),
        ({"pretrain_seed": 1}, STAGES),
        ({"seeds": [1]}, STAGES[1:]),
        ({"train": {"lr": 0.2}}, STAGES[1:]),
        ({"forget": {"deletions": 9}}, STAGES[2:]),
        ({"unlearning": [{"name": "ascent", "params": {"lr": 0.02}}]}, STAGES[2:]),
        ({"defenses": ["veil"]}, STAGES[3:]),
        ({"defend": {"budget": 0.1}}, STAGES[3:]),
        ({"attacks": [{"name": "matching", "params": {"steps": 101}}]}, STAGES[4:]),
        ({"probe": {"queries": 5}}, []),  # nothing here needs probes
        ({"evaluate": {"resamples": 101}}, STAGES[5:]),
    ],
)
def test_a_key_changes_with_what_its_job_depends_on(
    change: dict[str, Any], stages: list[str]
) -> None:
    assert changed(change) == stages


@pytest.mark.parametrize(
    ("plugin", "stages"),
    [
        ("stage:pretrain", STAGES),
        ("model:mlp", STAGES),
        ("dataset:digits", STAGES),
        ("stage:train", STAGES[1:]),
        ("unlearning:ascent", STAGES[2:]),
        ("defense:none", STAGES[3:]),
        ("attack:matching", STAGES[4:]),
        ("stage:evaluate", STAGES[5:]),
        ("attack:counting", []),
        ("dataset:noisy", []),
    ],
)
def test_a_key_changes_with_the_code_that_its_job_runs_on(plugin: str, stages: list[str]) -> None:
    assert changed(None, {plugin: "changed"}) == stages


def test_no_cache_marks_every_job() -> None:
    assert {j.no_cache for j in plan_audit({"no_cache": True})} == {True}
    assert {j.no_cache for j in plan_audit()} == {False}


def test_an_unlearning_method_is_supplied_with_what_it_needs_and_nothing_more() -> None:
    found = {
        j.method: list_roles(j)
        for j in plan_audit({"unlearning": ["ascent", "retrain"]})
        if j.stage == "unlearn"
    }
    assert found == {
        "ascent": ["ORIGINAL", "TRAINING_SET"],
        "retrain": ["BASE", "ORIGINAL", "TRAINING_SET"],
    }


def test_a_stage_is_supplied_with_what_it_uses_if_it_is_there() -> None:
    found = [list_roles(j) for j in plan_audit() if j.stage == "evaluate"]
    assert found[0] == ["DEFENSE", "FORGET_SETS", "ORIGINAL", "PUBLIC", "TRAINING_SET", "UNLEARNED"]
    assert found[1] == [
        "DEFENSE",
        "FORGET_SETS",
        "ORIGINAL",
        "PUBLIC",
        "RECONSTRUCTION",
        "UNLEARNED",
    ]


def test_inputs_come_from_the_jobs_own_branch() -> None:
    jobs = plan_audit(
        {"seeds": [0, 1], "unlearning": ["ascent", "retrain"], "attacks": ["matching", "counting"]}
    )
    by_key = {j.request_key: j for j in jobs}

    def ancestors(job: PlannedJob) -> list[PlannedJob]:
        parents = [by_key[i.parent] for i in job.inputs if i.parent]
        return parents + [a for p in parents for a in ancestors(p)]

    for job in jobs:
        if job.stage == "report":
            continue  # it is about all branches
        assert {a.seed for a in ancestors(job) if a.stage != "pretrain"} <= {job.seed}
        for stage in STAGES:
            assert len({a.request_key for a in ancestors(job) if a.stage == stage}) <= 1


def test_a_job_records_the_plugins_that_its_worker_must_have() -> None:
    found = {j.stage: j.plugins for j in plan_audit({"dataset": "noisy"})}
    assert found["pretrain"] == ("dataset:noisy", "model:mlp", "stage:pretrain")
    assert found["unlearn"] == ("stage:unlearn", "unlearning:ascent")
    assert found["attack"] == ("attack:matching", "stage:attack")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dataset": "digit"}, "dataset.name"),
        ({"dataset": {"name": "noisy", "params": {"sigma": 7}}}, "dataset.params.sigma"),
        ({"model": "mpl"}, "model.name"),
        ({"model": {"name": "mlp", "params": {"width": 0}}}, "model.params.width"),
        ({"model": "needy"}, "model.params.needed"),
        ({"pretrain": {"epochs": -1}}, "pretrain.epochs"),
        ({"pretrain": {"epoch": 1}}, "pretrain.epoch"),
        ({"pretrain": {"dataset": "digits"}}, "pretrain.dataset"),  # said once, in the audit
        ({"pretrain": {"model": "mlp"}}, "pretrain.model"),
        ({"train": {"dataset": "noisy"}}, "train.dataset"),
        ({"train": {"size": 0}}, "train.size"),
        ({"train": {"sise": 1}}, "train.sise"),
        ({"forget": {"deletions": 0}}, "forget.deletions"),
        ({"forget": {"deletion": 1}}, "forget.deletion"),
        ({"train": {"size": 7}}, "forget.deletions"),  # 8 deletions of 1
        ({"forget": {"deletions": 1, "size": 51}}, "forget.size"),
        ({"unlearning": ["ascent", "ascend"]}, "unlearning.1.name"),
        ({"unlearning": [{"name": "ascent", "params": {"lr": 0}}]}, "unlearning.0.params.lr"),
        (
            {"unlearning": ["retrain", {"name": "ascent", "params": {"rate": 1}}]},
            "unlearning.1.params.rate",
        ),
        (
            {"unlearning": [{"name": "ascent", "params": {"deletions": 3}}]},
            "unlearning.0.params.deletions",
        ),
        (
            {"unlearning": ["ascent", {"name": "sharded", "params": {"shards": 1}}]},
            "unlearning.1.params.shards",
        ),
        ({"defenses": [{"name": "private", "params": {"noise": 0}}]}, "defenses.0.params.noise"),
        ({"defenses": ["veill"]}, "defenses.0.name"),
        (
            {"defenses": ["none", {"name": "veil", "params": {"depth": 0}}]},
            "defenses.1.params.depth",
        ),
        ({"defenses": [{"name": "veil", "params": {"budget": 0.1}}]}, "defenses.0.params.budget"),
        ({"defend": {"budget": 2}}, "defend.budget"),
        ({"attacks": ["asking"], "probe": {"queries": 0}}, "probe.queries"),
        ({"attacks": ["suspecting"], "candidates": {"non_members": 0}}, "candidates.non_members"),
        ({"attacks": ["matchin"]}, "attacks.0.name"),
        (
            {"attacks": ["counting", {"name": "matching", "params": {"steps": 0}}]},
            "attacks.1.params.steps",
        ),
        ({"evaluate": {"resamples": 0}}, "evaluate.resamples"),
        ({"evaluate": {"feature_network": "another"}}, "evaluate.feature_network"),
    ],
)
def test_an_error_is_blamed_on_its_place_in_the_audit(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        plan_audit(change)
    assert refused.value.field == field
    assert "params." not in refused.value.message or "params." in field


def test_a_grid_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_JOBS", 27)
    plan_audit({"seeds": [0, 1, 2, 3]})  # 1 + 4 * 6 + 2
    with pytest.raises(InvalidRequest, match="at most 27: split it"):
        plan_audit({"seeds": [0, 1, 2, 3, 4]})


def test_planning_leaves_its_arguments_and_the_random_generators_alone() -> None:
    spec, given_catalog, state = (
        AuditSpec.model_validate(MINIMAL_AUDIT),
        make_catalog(),
        random.getstate(),
    )
    before = (spec.model_dump_json(), given_catalog.digest)
    plan(spec, given_catalog)
    assert (spec.model_dump_json(), given_catalog.digest) == before
    assert random.getstate() == state


def one(*inputs: Input, parent_request_keys: dict[str, str] | None = None) -> str:
    return plan_job(
        make_catalog(), "train", None, {}, 0, inputs, parent_request_keys=parent_request_keys
    ).request_key


def test_a_job_by_hand_has_the_key_that_the_grid_gives_it() -> None:
    base, trained, *_ = plan_audit()
    by_hand = one(
        Input("BASE", parent="job_1", parent_role="BASE"),
        parent_request_keys={"job_1": base.request_key},
    )
    assert by_hand == one(Input("BASE", parent=base.request_key))
    assert (
        by_hand
        == plan_job(
            make_catalog(), "train", None, {"dataset": "digits"}, 0, trained.inputs
        ).request_key
        == trained.request_key
    )


def test_where_an_input_comes_from_is_part_of_the_key() -> None:
    sources = [
        Input("BASE", parent="x"),
        Input("BASE", parent="y"),
        Input("BASE", parent="x", parent_role="OTHER"),
        Input("BASE", sha256="x"),
        Input("BASE", sha256="y"),
    ]
    assert len({one(s) for s in sources}) == len(sources)
    assert one(Input("BASE", parent="x", parent_role="BASE")) == one(Input("BASE", parent="x"))
