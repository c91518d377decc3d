"""plan(): audit -> jobs. Pure, identical jobs once, keys that follow everything that matters, honest blame."""

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

from shared.catalog import Catalog
from shared.errors import InvalidRequest
from shared.jobs import plan as planning
from shared.jobs.plan import plan, plan_job
from shared.jobs.records import Input, PlannedJob
from shared.jobs.spec import AuditSpec
from tests.support.plugins import LEAST, catalog
from tests.support.tree import ROOT

ELSEWHERE = """
import json, sys
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from tests.support.plugins import LEAST, catalog

print(json.dumps([job.plan_key for job in plan(AuditSpec.model_validate_json(sys.argv[1]), catalog())]))
"""
STAGES = ["pretrain", "train", "unlearn", "defend", "attack", "evaluate"]


def planned(change: dict[str, Any] | None = None, code: dict[str, str] | None = None) -> list[PlannedJob]:
    return plan(AuditSpec.model_validate({**LEAST, **(change or {})}), catalog(code))


def keys(*args: Any) -> dict[str, str]:
    """Stage -> plan key, for an audit of one job a stage; of the two evaluations the attack's."""
    return {j.stage: j.plan_key for j in planned(*args) if j.stage != "evaluate" or "RECONSTRUCTION" in roles(j)}


def changed(*args: Any) -> list[str]:
    """Stages whose key is another than that of the least audit."""
    before, after = keys(), keys(*args)
    return [s for s in STAGES if before[s] != after[s]]


def work(jobs: list[PlannedJob]) -> set[str]:
    """Plan keys of all but the report, which is about one very audit."""
    return {j.plan_key for j in jobs if j.stage != "report"}


def roles(job: PlannedJob) -> list[str]:
    return [i.role for i in job.inputs]


def test_the_least_audit_is_one_job_a_stage_parents_first() -> None:
    jobs = planned()
    assert [j.stage for j in jobs] == [*STAGES[:4], "evaluate", *STAGES[4:], "selftest", "report"]
    seen: set[str] = set()
    for job in jobs:
        assert {i.parent for i in job.inputs} <= seen
        seen.add(job.plan_key)


def test_a_plan_is_the_same_every_time_and_in_every_process() -> None:
    change = {"seeds": [0, 1, 2], "attacks": ["matching", "counting"], "unlearning": ["retrain", "ascent"]}
    assert planned(change) == planned(change)
    for seed in ("1", "2"):  # sets come in another order
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", ELSEWHERE, json.dumps({**LEAST, **change})]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [j.plan_key for j in planned(change)]


def test_identical_jobs_are_made_once() -> None:
    jobs = planned({"seeds": [0, 1, 2, 1], "unlearning": ["ascent", "retrain", "ascent"], "attacks": ["matching"] * 2})
    assert Counter(j.stage for j in jobs) == {
        "pretrain": 1, "train": 3, "unlearn": 6, "defend": 6, "attack": 6, "evaluate": 12, "selftest": 1, "report": 1,
    }  # fmt: skip
    assert len({j.plan_key for j in jobs}) == len(jobs)


def test_all_seeds_share_the_base_model() -> None:
    jobs = planned({"seeds": [3, 4], "pretrain_seed": 9})
    base, *rest = jobs
    assert (base.stage, base.seed) == ("pretrain", 9)
    trained = [j for j in rest if j.stage == "train"]
    assert [j.inputs for j in trained] == [(Input("BASE", parent=base.plan_key),)] * 2
    assert {j.seed for j in rest if j.stage not in ("selftest", "report")} == {3, 4}


@given(st.permutations([0, 1, 2, 3]), st.permutations(["ascent", "retrain"]), st.permutations(["matching", "counting"]))
@settings(max_examples=10, deadline=None)
def test_the_order_of_a_grid_does_not_change_its_jobs(
    seeds: list[int], unlearning: list[str], attacks: list[str]
) -> None:
    whole = {"seeds": [0, 1, 2, 3], "unlearning": ["ascent", "retrain"], "attacks": ["matching", "counting"]}
    found = planned({"seeds": seeds, "unlearning": unlearning, "attacks": attacks})
    assert work(found) == work(planned(whole))


def test_a_smaller_grid_is_part_of_the_larger_one() -> None:
    larger = planned({"seeds": [0, 1], "unlearning": ["ascent", "retrain"], "attacks": ["matching", "counting"]})
    assert work(planned()) < work(larger)


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"name": "another name", "priority": 5, "time_limit": 60, "fresh": True}, []),
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
def test_a_key_changes_with_what_its_job_depends_on(change: dict[str, Any], stages: list[str]) -> None:
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


def test_fresh_marks_every_job() -> None:
    assert {j.fresh for j in planned({"fresh": True})} == {True}
    assert {j.fresh for j in planned()} == {False}


def test_an_attack_is_supplied_with_what_it_needs_and_nothing_more() -> None:
    """`matching` would use BASE and, with given labels, needs LABELS; nobody asked for either here."""
    attacks = [
        "matching", "counting", {"name": "matching", "params": {"labels": "given"}},
    ]  # fmt: skip
    found = [roles(j) for j in planned({"attacks": attacks}) if j.stage == "attack"]
    assert found == [["ORIGINAL", "UNLEARNED"], ["COUNTS"], ["LABELS", "ORIGINAL", "UNLEARNED"]]


def test_an_attack_is_told_how_many_were_forgotten_only_if_it_is_several() -> None:
    """Without it, it would take them to be one, and its answer would not fit."""
    found = [
        roles(j) for size in (1, 2) for j in planned({"attacks": ["matching"], "forget": {"size": size}})
        if j.stage == "attack"
    ]  # fmt: skip
    assert found == [["ORIGINAL", "UNLEARNED"], ["COUNTS", "ORIGINAL", "UNLEARNED"]]


def test_an_unlearning_method_is_supplied_with_what_it_needs_and_nothing_more() -> None:
    found = {j.method: roles(j) for j in planned({"unlearning": ["ascent", "retrain"]}) if j.stage == "unlearn"}
    assert found == {"ascent": ["ORIGINAL", "TRAINING_SET"], "retrain": ["BASE", "ORIGINAL", "TRAINING_SET"]}


def test_a_stage_is_supplied_with_what_it_uses_if_it_is_there() -> None:
    found = [roles(j) for j in planned() if j.stage == "evaluate"]
    assert found[0] == ["DEFENSE", "FORGET_SETS", "ORIGINAL", "PUBLIC", "TRAINING_SET", "UNLEARNED"]
    assert found[1] == ["DEFENSE", "FORGET_SETS", "ORIGINAL", "PUBLIC", "RECONSTRUCTION", "UNLEARNED"]


def test_an_attacker_who_knows_the_defense_is_planned_where_knowing_it_is_of_use() -> None:
    """`veil` has a counter; `none` and `mist` have none, and there the attacker who knows is the one who does not."""
    adaptive = {"name": "matching", "params": {"adaptive": True}}
    grid = {"defenses": ["none", "veil", "mist"]}
    plain, both = planned({**grid, "attacks": ["matching"]}), planned({**grid, "attacks": ["matching", adaptive]})
    more = [j for j in both if j.stage != "report" and j.plan_key not in work(plain)]
    assert [(j.stage, j.method) for j in more] == [("attack", "matching"), ("evaluate", None)]
    attack, evaluation = more
    assert attack.params["adaptive"] is True
    assert roles(attack) == ["DEFENSE", "ORIGINAL", "PUBLIC", "UNLEARNED"]
    made_by = {j.plan_key: (j.stage, j.method) for j in both}
    come_from = {i.role: made_by[i.parent or ""] for i in attack.inputs}
    assert come_from["DEFENSE"] == come_from["UNLEARNED"] == ("defend", "veil")
    assert come_from["PUBLIC"] == ("train", None)
    for job in more:  # who knows fetches it as often as is assumed
        assert [i.parent_role for i in job.inputs if i.role == "UNLEARNED"] == ["FETCHED"]
    assert {i.role: i.parent for i in evaluation.inputs if i.role in ("DEFENSE", "PUBLIC")} == {
        i.role: i.parent for i in attack.inputs if i.role in ("DEFENSE", "PUBLIC")
    }  # its null is made with the same knowledge
    alone = planned({**grid, "attacks": [adaptive]})
    assert [j.params["adaptive"] for j in alone if j.stage == "attack"] == [False, True, False]
    assert work(alone) < work(both)


def test_an_attack_that_cannot_use_what_it_knows_is_refused_on_every_defense() -> None:
    for defense in ("none", "veil"):
        with pytest.raises(InvalidRequest) as refused:
            planned({"defenses": [defense], "attacks": [{"name": "counting", "params": {"adaptive": True}}]})
        assert refused.value.field == "attacks.0.params.adaptive"


def test_what_is_released_is_what_an_attacker_and_an_evaluation_see() -> None:
    jobs = planned({"defenses": ["none", "veil"]})
    released = {j.plan_key: j.method for j in jobs if j.stage == "defend"}
    assert set(released.values()) == {"none", "veil"}
    for stage in ("attack", "evaluate"):
        seen = [i for j in jobs if j.stage == stage for i in j.inputs if i.role == "UNLEARNED"]
        assert {i.parent_role for i in seen} == {"RELEASED"}
        assert {released[i.parent or ""] for i in seen} == {"none", "veil"}


def test_probes_are_made_once_an_original_model_and_only_for_attacks_that_need_them() -> None:
    grid = {"unlearning": ["ascent", "retrain"], "defenses": ["none", "veil"], "seeds": [0, 1]}
    jobs = planned({**grid, "attacks": ["matching", "asking"], "probe": {"queries": 7}})
    probes = [j for j in jobs if j.stage == "probe"]
    assert [(roles(j), j.seed, j.params) for j in probes] == [(["ORIGINAL"], s, {"queries": 7}) for s in (0, 1)]
    asking = [j for j in jobs if j.method == "asking"]
    assert len(asking) == 8
    assert all(roles(j) == ["PROBES", "UNLEARNED"] for j in asking)


def test_an_attacker_is_told_how_many_where_a_deletion_forgets_several() -> None:
    def told(**forget: Any) -> bool:
        return "COUNTS" in roles(next(j for j in planned({"forget": forget}) if j.stage == "attack"))

    assert not told(size=1)
    assert not told(indices=[[3], [4]])
    assert told(size=2)
    assert told(indices=[[3, 4], [5, 6]])
    assert told(forget="class")  # of a class, one or many


def test_candidates_are_lined_up_once_a_forgetting_and_who_they_are_is_told_to_evaluations_only() -> None:
    grid = {"unlearning": ["ascent", "retrain"], "defenses": ["none", "veil"]}
    jobs = planned({**grid, "attacks": ["suspecting", "matching"], "candidates": {"never": 7}})
    made = [j for j in jobs if j.stage == "candidates"]
    assert [(roles(j), j.params) for j in made] == [(["FORGET_SETS"], {"never": 7})] * 2
    suspecting = [j for j in jobs if j.method == "suspecting"]
    assert [roles(j) for j in suspecting] == [["CANDIDATES", "UNLEARNED"]] * 4
    told = [j for j in jobs if "MEMBERSHIP" in roles(j)]
    assert {j.stage for j in told} == {"evaluate"}
    sources = {i.parent for j in told for i in j.inputs if i.role == "RECONSTRUCTION"}
    assert sources == {j.plan_key for j in suspecting}


def test_a_judge_is_trained_once_from_the_next_seed_and_only_evaluations_get_it() -> None:
    grid = {"seeds": [0, 1], "unlearning": ["ascent", "retrain"], "attacks": ["matching", "counting"]}
    plain = planned({**grid, "pretrain_seed": 4})
    jobs = planned({**grid, "pretrain_seed": 4, "evaluate": {"judge": True}})
    base, judge = (j for j in jobs if j.stage == "pretrain")
    assert (base.seed, judge.seed, base.params) == (4, 5, judge.params)
    given = [(j.stage, i) for j in jobs for i in j.inputs if i.role == "JUDGE"]
    wanted = Input("JUDGE", parent=judge.plan_key, parent_role="BASE")
    assert given == [("evaluate", wanted)] * 12
    assert all(i.parent != judge.plan_key for j in jobs if j.stage != "evaluate" for i in j.inputs)
    others = [j for j in jobs if j.stage not in ("evaluate", "report") and j != judge]
    assert others == [j for j in plain if j.stage not in ("evaluate", "report")]
    assert not any(i.role == "JUDGE" for j in plain for i in j.inputs)


def test_the_judge_of_the_last_seed_has_the_first() -> None:
    last = 2**31 - 1
    seeds = [j.seed for j in planned({"pretrain_seed": last, "evaluate": {"judge": True}}) if j.stage == "pretrain"]
    assert seeds == [last, 0]


def test_the_report_is_last_tells_of_every_evaluation_once_and_knows_the_audit() -> None:
    grid = {"attacks": ["matching", "counting", "matching"], "unlearning": ["ascent", "retrain"], "priority": 3}
    *jobs, report = planned(grid)
    assert (report.stage, report.tolerant) == ("report", True)
    assert not any(j.tolerant for j in jobs)
    evaluations = [j.plan_key for j in jobs if j.stage == "evaluate"]
    told = [i for i in report.inputs if i.parent_role == "EVALUATION"]
    assert sorted(i.parent or "" for i in told) == sorted(evaluations)
    assert {i.role for i in told} == {f"EVALUATION_{n}" for n in range(1, len(evaluations) + 1)}
    pictures = [i for i in report.inputs if i.parent_role == "PICTURES"]
    assert len(pictures) == 4  # one an attack; a model's utility has none
    assert report.params["audit"]["attacks"] == [{"name": n, "params": {}} for n in grid["attacks"]]
    assert "priority" not in report.params["audit"]


def self_test(*args: Any) -> PlannedJob:
    (job,) = (j for j in planned(*args) if j.stage == "selftest")
    return job


def test_the_self_test_is_one_job_of_all_audits_and_the_report_is_told() -> None:
    grid = {"seeds": [1, 2], "pretrain_seed": 3, "dataset": "noisy", "unlearning": ["retrain", "ascent"]}
    job = self_test(grid)
    assert (job.inputs, job.params, job.seed) == ((), {}, 0)
    assert job.plan_key == self_test().plan_key
    report = planned(grid)[-1]
    assert [i for i in report.inputs if i.role == "SELF_TEST"] == [Input("SELF_TEST", parent=job.plan_key)]


@pytest.mark.parametrize(
    ("plugin", "again"), [("attack:counting", True), ("stage:evaluate", True), ("dataset:noisy", False)]
)
def test_the_self_test_is_made_again_when_code_that_it_runs_is_another(plugin: str, again: bool) -> None:
    assert (self_test(None, {plugin: "changed"}).plan_key != self_test().plan_key) == again


def test_where_reports_know_no_self_test_none_is_planned() -> None:
    """A fleet whose workers are of before."""
    before = Catalog(
        entry.model_copy(update={"uses": []}) if entry.name == "report" else entry
        for entry in catalog()
        if entry.name != "selftest"
    )
    jobs = plan(AuditSpec.model_validate(LEAST), before)
    assert not any(j.stage == "selftest" for j in jobs)
    assert "SELF_TEST" not in roles(jobs[-1])


def test_inputs_come_from_the_jobs_own_branch() -> None:
    jobs = planned({"seeds": [0, 1], "unlearning": ["ascent", "retrain"], "attacks": ["matching", "counting"]})
    by_key = {j.plan_key: j for j in jobs}

    def ancestors(job: PlannedJob) -> list[PlannedJob]:
        parents = [by_key[i.parent] for i in job.inputs if i.parent]
        return parents + [a for p in parents for a in ancestors(p)]

    for job in jobs:
        if job.stage == "report":
            continue  # it is about all branches
        assert {a.seed for a in ancestors(job) if a.stage != "pretrain"} <= {job.seed}
        for stage in STAGES:
            assert len({a.plan_key for a in ancestors(job) if a.stage == stage}) <= 1


def test_a_job_records_the_plugins_that_its_worker_must_have() -> None:
    found = {j.stage: j.plugins for j in planned({"dataset": "noisy"})}
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
        ({"train": {"size": 0}}, "train.size"),
        ({"train": {"sise": 1}}, "train.sise"),
        ({"forget": {"deletions": 0}}, "forget.deletions"),
        ({"forget": {"deletion": 1}}, "forget.deletion"),
        ({"train": {"size": 7}}, "forget.deletions"),  # 8 deletions of 1
        ({"forget": {"deletions": 1, "size": 51}}, "forget.size"),
        ({"unlearning": ["ascent", "ascend"]}, "unlearning.1.name"),
        ({"unlearning": [{"name": "ascent", "params": {"lr": 0}}]}, "unlearning.0.params.lr"),
        ({"unlearning": ["retrain", {"name": "ascent", "params": {"rate": 1}}]}, "unlearning.1.params.rate"),
        ({"unlearning": [{"name": "ascent", "params": {"deletions": 3}}]}, "unlearning.0.params.deletions"),
        ({"defenses": ["veill"]}, "defenses.0.name"),
        ({"defenses": ["none", {"name": "veil", "params": {"depth": 0}}]}, "defenses.1.params.depth"),
        ({"defenses": [{"name": "veil", "params": {"budget": 0.1}}]}, "defenses.0.params.budget"),
        ({"defend": {"budget": 2}}, "defend.budget"),
        ({"attacks": ["asking"], "probe": {"queries": 0}}, "probe.queries"),
        ({"attacks": ["suspecting"], "candidates": {"never": 0}}, "candidates.never"),
        ({"attacks": ["matchin"]}, "attacks.0.name"),
        ({"attacks": ["counting", {"name": "matching", "params": {"steps": 0}}]}, "attacks.1.params.steps"),
        ({"evaluate": {"resamples": 0}}, "evaluate.resamples"),
        ({"evaluate": {"judge": "another"}}, "evaluate.judge"),
    ],
)
def test_an_error_is_blamed_on_its_place_in_the_audit(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        planned(change)
    assert refused.value.field == field
    assert "params." not in refused.value.message or "params." in field


def test_a_grid_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_JOBS", 27)
    planned({"seeds": [0, 1, 2, 3]})  # 1 + 4 * 6 + 2
    with pytest.raises(InvalidRequest, match="more than 27 jobs: split it"):
        planned({"seeds": [0, 1, 2, 3, 4]})


def test_planning_leaves_its_arguments_and_the_random_generators_alone() -> None:
    spec, given_catalog, state = AuditSpec.model_validate(LEAST), catalog(), random.getstate()
    before = (spec.model_dump_json(), given_catalog.digest)
    plan(spec, given_catalog)
    assert (spec.model_dump_json(), given_catalog.digest) == before
    assert random.getstate() == state


def one(*inputs: Input, parent_keys: dict[str, str] | None = None) -> str:
    return plan_job(catalog(), "train", None, {}, 0, inputs, parent_keys=parent_keys).plan_key


def test_a_job_by_hand_has_the_key_that_the_grid_gives_it() -> None:
    base, trained, *_ = planned()
    by_hand = one(Input("BASE", parent="job_1", parent_role="BASE"), parent_keys={"job_1": base.plan_key})
    assert by_hand == one(Input("BASE", parent=base.plan_key))
    assert (
        by_hand
        == plan_job(catalog(), "train", None, {"dataset": "digits"}, 0, trained.inputs).plan_key
        == trained.plan_key
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
