"""plan(): the report, and the self-test that stands in it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.catalog import Catalog
from shared.jobs.plan import plan
from shared.jobs.records import Input, PlannedJob
from shared.jobs.spec import AuditSpec
from tests.support.plans import planned, roles
from tests.support.plugins import LEAST, catalog


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
