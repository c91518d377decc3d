"""plan(): the report, and the self-test that stands in it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.catalog import Catalog
from shared.jobs.plan import plan
from shared.jobs.records import Input, PlannedJob
from shared.jobs.spec import AuditSpec
from tests.support.planned_audits import list_roles, plan_audit
from tests.support.plugins import MINIMAL_AUDIT, make_catalog


def test_the_report_is_last_tells_of_every_evaluation_once_and_knows_the_audit() -> None:
    grid = {
        "attacks": ["matching", "counting", "matching"],
        "unlearning": ["ascent", "retrain"],
        "priority": 3,
    }
    *jobs, report = plan_audit(grid)
    assert (report.stage, report.run_when) == ("report", "all_finished")
    assert all(j.run_when == "all_succeeded" for j in jobs)
    evaluations = [j.request_key for j in jobs if j.stage == "evaluate"]
    told = [i for i in report.inputs if i.parent_role == "EVALUATION"]
    assert sorted(i.parent or "" for i in told) == sorted(evaluations)
    assert {i.role for i in told} == {f"EVALUATION_{n}" for n in range(1, len(evaluations) + 1)}
    pictures = [i for i in report.inputs if i.parent_role == "PICTURES"]
    assert len(pictures) == 4  # one an attack; a model's utility has none
    assert report.params["audit"]["attacks"] == [{"name": n, "params": {}} for n in grid["attacks"]]
    assert "priority" not in report.params["audit"]


def test_the_report_is_told_its_rows_in_their_order_and_which_evaluation_each_has() -> None:
    grid = {
        "attacks": ["matching", "counting"],
        "unlearning": ["ascent", "retrain"],
        "seeds": [5, 3],
    }
    *jobs, report = plan_audit(grid)
    by_key = {job.request_key: job for job in jobs}
    evaluated = {
        i.role: by_key[str(i.parent)] for i in report.inputs if i.parent_role == "EVALUATION"
    }
    rows = report.params["rows"]
    assert [(row["unlearning"], row["defense"], row["attack"], row["seed"]) for row in rows] == [
        (u, 0, a, seed) for u in (0, 1) for a in (None, 0, 1) for seed in (5, 3)
    ]
    for row in rows:
        job = evaluated[row["evaluation"]]
        ancestors = {i.role: by_key[str(i.parent)] for i in job.inputs}
        assert job.seed == row["seed"]
        assert ancestors["FORGET_SETS"].method == grid["unlearning"][row["unlearning"]]
        attacked = ancestors.get("RECONSTRUCTION") or ancestors.get("ANSWERS")
        assert (attacked.method if attacked else None) == (
            None if row["attack"] is None else grid["attacks"][row["attack"]]
        )


def test_a_choice_named_twice_is_one_row_in_its_first_place() -> None:
    default = {"name": "sharded", "params": {}}
    *_, report = plan_audit(
        {"unlearning": ["ascent", "ascent", default, "sharded"], "attacks": ["matching"] * 2}
    )
    assert [(row["unlearning"], row["attack"]) for row in report.params["rows"]] == [
        (0, None), (0, 0), (2, None), (2, 0),
    ]  # fmt: skip


def test_an_attacker_who_knows_the_defense_stands_in_the_row_of_who_does_not_where_it_is_of_no_use() -> (
    None
):
    knows = {"name": "matching", "params": {"adaptive": True}}
    for attacks, told in (
        (["matching", knows], [(0, 0, True), (1, 0, False), (1, 1, False)]),
        ([knows], [(0, 0, True), (1, 0, False)]),
        (["matching"], [(0, 0, False), (1, 0, False)]),
    ):
        *_, report = plan_audit({"attacks": attacks, "defenses": ["none", "veil"]})
        rows = [row for row in report.params["rows"] if row["attack"] is not None]
        assert [(row["defense"], row["attack"], row["adaptive_too"]) for row in rows] == told


def self_test(*args: Any) -> PlannedJob:
    (job,) = (j for j in plan_audit(*args) if j.stage == "selftest")
    return job


def test_the_self_test_is_one_job_of_all_audits_and_the_report_is_told() -> None:
    grid = {
        "seeds": [1, 2],
        "pretrain_seed": 3,
        "dataset": "noisy",
        "unlearning": ["retrain", "ascent"],
    }
    job = self_test(grid)
    assert (job.inputs, job.params, job.seed) == ((), {}, 0)
    assert job.request_key == self_test().request_key
    report = plan_audit(grid)[-1]
    assert [i for i in report.inputs if i.role == "SELF_TEST"] == [
        Input("SELF_TEST", parent=job.request_key)
    ]


@pytest.mark.parametrize(
    ("plugin", "again"),
    [("attack:counting", True), ("stage:evaluate", True), ("dataset:noisy", False)],
)
def test_the_self_test_is_made_again_when_code_that_it_runs_is_another(
    plugin: str, again: bool
) -> None:
    assert (self_test(None, {plugin: "changed"}).request_key != self_test().request_key) == again


def test_where_reports_know_no_self_test_none_is_planned() -> None:
    """A fleet whose workers are of before."""
    before = Catalog(
        entry.model_copy(update={"uses": []}) if entry.name == "report" else entry
        for entry in make_catalog()
        if entry.name != "selftest"
    )
    jobs = plan(AuditSpec.model_validate(MINIMAL_AUDIT), before)
    assert not any(j.stage == "selftest" for j in jobs)
    assert "SELF_TEST" not in list_roles(jobs[-1])
