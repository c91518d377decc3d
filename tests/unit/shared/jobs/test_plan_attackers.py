"""plan(): what attackers and evaluations are given, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.jobs.records import Input
from tests.support.planned_audits import collect_plan_keys, list_roles, plan_audit


def test_an_attack_is_supplied_with_what_it_needs_and_nothing_more() -> None:
    """`matching` would use BASE and, with given labels, needs LABELS; nobody asked for either
    here."""
    attacks = [
        "matching", "counting", {"name": "matching", "params": {"labels": "given"}},
    ]  # fmt: skip
    found = [list_roles(j) for j in plan_audit({"attacks": attacks}) if j.stage == "attack"]
    assert found == [
        ["ORIGINAL", "UNLEARNED"],
        ["DELETION_SIZES"],
        ["LABELS", "ORIGINAL", "UNLEARNED"],
    ]


def test_an_attack_is_told_how_many_were_forgotten_only_if_it_is_several() -> None:
    """Without it, it would take them to be one, and its answer would not fit."""
    found = [
        list_roles(j) for size in (1, 2) for j in plan_audit({"attacks": ["matching"], "forget": {"size": size}})
        if j.stage == "attack"
    ]  # fmt: skip
    assert found == [["ORIGINAL", "UNLEARNED"], ["DELETION_SIZES", "ORIGINAL", "UNLEARNED"]]


def test_an_attacker_who_knows_the_defense_is_planned_where_knowing_it_is_of_use() -> None:
    """`veil` has a counter; `none` and `mist` have none, and there the attacker who knows is the
    one who does not."""
    adaptive = {"name": "matching", "params": {"adaptive": True}}
    grid = {"defenses": ["none", "veil", "mist"]}
    plain, both = (
        plan_audit({**grid, "attacks": ["matching"]}),
        plan_audit({**grid, "attacks": ["matching", adaptive]}),
    )
    more = [
        j for j in both if j.stage != "report" and j.request_key not in collect_plan_keys(plain)
    ]
    assert [(j.stage, j.method) for j in more] == [("attack", "matching"), ("evaluate", None)]
    attack, evaluation = more
    assert attack.params["adaptive"] is True
    assert list_roles(attack) == ["DEFENSE", "ORIGINAL", "PUBLIC", "UNLEARNED"]
    list_produced_artifacts = {j.request_key: (j.stage, j.method) for j in both}
    come_from = {i.role: list_produced_artifacts[i.parent or ""] for i in attack.inputs}
    assert come_from["DEFENSE"] == come_from["UNLEARNED"] == ("defend", "veil")
    assert come_from["PUBLIC"] == ("train", None)
    for job in more:  # who knows fetches it as often as is assumed
        assert [i.parent_role for i in job.inputs if i.role == "UNLEARNED"] == ["AVERAGED_RELEASES"]
    assert {i.role: i.parent for i in evaluation.inputs if i.role in ("DEFENSE", "PUBLIC")} == {
        i.role: i.parent for i in attack.inputs if i.role in ("DEFENSE", "PUBLIC")
    }  # its baseline is made with the same knowledge
    alone = plan_audit({**grid, "attacks": [adaptive]})
    assert [j.params["adaptive"] for j in alone if j.stage == "attack"] == [False, True, False]
    assert collect_plan_keys(alone) < collect_plan_keys(both)


def test_an_attack_that_cannot_use_what_it_knows_is_refused_on_every_defense() -> None:
    for defense in ("none", "veil"):
        with pytest.raises(InvalidRequest) as refused:
            plan_audit(
                {
                    "defenses": [defense],
                    "attacks": [{"name": "counting", "params": {"adaptive": True}}],
                }
            )
        assert refused.value.field == "attacks.0.params.adaptive"


def test_what_is_released_is_what_an_attacker_and_an_evaluation_see() -> None:
    jobs = plan_audit({"defenses": ["none", "veil"]})
    released = {j.request_key: j.method for j in jobs if j.stage == "defend"}
    assert set(released.values()) == {"none", "veil"}
    for stage in ("attack", "evaluate"):
        seen = [i for j in jobs if j.stage == stage for i in j.inputs if i.role == "UNLEARNED"]
        assert {i.parent_role for i in seen} == {"RELEASED"}
        assert {released[i.parent or ""] for i in seen} == {"none", "veil"}


def test_probes_are_made_once_an_original_model_and_only_for_attacks_that_need_them() -> None:
    grid = {"unlearning": ["ascent", "retrain"], "defenses": ["none", "veil"], "seeds": [0, 1]}
    jobs = plan_audit({**grid, "attacks": ["matching", "asking"], "probe": {"queries": 7}})
    probes = [j for j in jobs if j.stage == "probe"]
    assert [(list_roles(j), j.seed, j.params) for j in probes] == [
        (["ORIGINAL"], s, {"queries": 7}) for s in (0, 1)
    ]
    asking = [j for j in jobs if j.method == "asking"]
    assert len(asking) == 8
    assert all(list_roles(j) == ["PROBES", "UNLEARNED"] for j in asking)


def test_an_attacker_is_told_how_many_where_a_deletion_forgets_several() -> None:
    def told(**forget: Any) -> bool:
        return "DELETION_SIZES" in list_roles(
            next(j for j in plan_audit({"forget": forget}) if j.stage == "attack")
        )

    assert not told(size=1)
    assert not told(indices=[[3], [4]])
    assert told(size=2)
    assert told(indices=[[3, 4], [5, 6]])
    assert told(forget="class")  # of a class, one or many


def test_candidates_are_lined_up_once_a_forgetting_and_who_they_are_is_told_to_evaluations_only() -> (
    None
):
    grid = {"unlearning": ["ascent", "retrain"], "defenses": ["none", "veil"]}
    jobs = plan_audit(
        {**grid, "attacks": ["suspecting", "matching"], "candidates": {"non_members": 7}}
    )
    made = [j for j in jobs if j.stage == "candidates"]
    assert [(list_roles(j), j.params) for j in made] == [(["FORGET_SETS"], {"non_members": 7})] * 2
    suspecting = [j for j in jobs if j.method == "suspecting"]
    assert [list_roles(j) for j in suspecting] == [["CANDIDATES", "UNLEARNED"]] * 4
    told = [j for j in jobs if "MEMBERSHIP" in list_roles(j)]
    assert {j.stage for j in told} == {"evaluate"}
    sources = {i.parent for j in told for i in j.inputs if i.role == "RECONSTRUCTION"}
    assert sources == {j.request_key for j in suspecting}


def test_a_judge_is_trained_once_from_the_next_seed_and_only_evaluations_get_it() -> None:
    grid = {
        "seeds": [0, 1],
        "unlearning": ["ascent", "retrain"],
        "attacks": ["matching", "counting"],
    }
    plain = plan_audit({**grid, "pretrain_seed": 4})
    jobs = plan_audit({**grid, "pretrain_seed": 4, "evaluate": {"feature_network": True}})
    base, judge = (j for j in jobs if j.stage == "pretrain")
    assert (base.seed, judge.seed, base.params) == (4, 5, judge.params)
    given = [(j.stage, i) for j in jobs for i in j.inputs if i.role == "FEATURE_NETWORK"]
    wanted = Input("FEATURE_NETWORK", parent=judge.request_key, parent_role="BASE")
    assert given == [("evaluate", wanted)] * 12
    assert all(
        i.parent != judge.request_key for j in jobs if j.stage != "evaluate" for i in j.inputs
    )
    others = [j for j in jobs if j.stage not in ("evaluate", "report") and j != judge]
    assert others == [j for j in plain if j.stage not in ("evaluate", "report")]
    assert not any(i.role == "FEATURE_NETWORK" for j in plain for i in j.inputs)


def test_the_judge_of_the_last_seed_has_the_first() -> None:
    last = 2**31 - 1
    seeds = [
        j.seed
        for j in plan_audit({"pretrain_seed": last, "evaluate": {"feature_network": True}})
        if j.stage == "pretrain"
    ]
    assert seeds == [last, 0]
