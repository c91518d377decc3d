"""plan(): every release is compared with retrained models, which one job makes per seed. The real
catalog."""

from __future__ import annotations

from typing import Any

import pytest

from shared.catalog import Catalog
from shared.errors import InvalidRequest
from shared.jobs.costs import describe_costs
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from workers.catalog import load_catalog

LEAST: dict[str, Any] = {
    "dataset": "mnist_5k",
    "model": "mlp",
    "unlearning": ["gradient_ascent", "retrain", "fisher"],
    "defenses": ["none", "pruning"],
    "attacks": ["label_inference"],
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def planned(catalog: Catalog, **change: Any) -> list[PlannedJob]:
    return plan(AuditSpec.model_validate({**LEAST, **change}), catalog)


def of_stage(jobs: list[PlannedJob], stage: str) -> list[PlannedJob]:
    return [job for job in jobs if job.stage == stage]


def test_all_methods_and_defenses_share_the_retraining_of_their_seed(catalog: Catalog) -> None:
    jobs = planned(catalog)
    retraining, forgetting = of_stage(jobs, "retraining"), of_stage(jobs, "forgetting")
    assert [job.seed for job in retraining] == [0, 1]
    assert len(forgetting) == 2 * 3 * 2
    for job in forgetting:
        sources = {i.role: i.parent for i in job.inputs}
        (own,) = [one for one in retraining if one.seed == job.seed]
        assert sources["RETRAINED"] == sources["RETRAINING"] == own.request_key
        # what the defense released, and the truth of the same method
        released = next(one for one in jobs if one.request_key == sources["UNLEARNED"])
        assert released.stage == "defend"
        unlearn = next(one for one in jobs if one.request_key == sources["FORGET_SETS"])
        assert unlearn.request_key in {i.parent for i in released.inputs}


def test_the_report_gets_every_measurement(catalog: Catalog) -> None:
    jobs = planned(catalog)
    (report,) = of_stage(jobs, "report")
    taken = {i.parent for i in report.inputs if i.role.startswith("FORGETTING_")}
    assert taken == {job.request_key for job in of_stage(jobs, "forgetting")}


def test_trainings_of_their_own_have_retrainings_of_their_own(catalog: Catalog) -> None:
    defenses = ["none", {"name": "dp_sgd", "params": {"noise_multiplier": 1.0}}]
    jobs = planned(catalog, unlearning=["gradient_ascent"], defenses=defenses, seeds=[0])
    assert len(of_stage(jobs, "train")) == len(of_stage(jobs, "retraining")) == 2
    jobs = planned(catalog, unlearning=["sisa", "retrain"], defenses=["none"], seeds=[0])
    assert len(of_stage(jobs, "retraining")) == 2


def test_it_is_told_the_forget_sets_of_the_audit_and_its_own_parameters(catalog: Catalog) -> None:
    forget = {"deletions": 4, "size": 2, "successive": True}
    jobs = planned(catalog, forget=forget, retraining={"seeds": 5}, forgetting={"samples": 100})
    for job in of_stage(jobs, "retraining"):
        assert {**job.params["forget"], **forget} == job.params["forget"]
        assert (job.params["seeds"], job.params["max_deletions"]) == (5, 32)
    assert {job.params["samples"] for job in of_stage(jobs, "forgetting")} == {100}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"forget": {"deletions": 8}}, True),
        ({"forget": {"deletions": 8.0, "fraction": 1, "rows": None}}, True),
        ({"pretrain": {"epochs": 2, "batch_size": 16.0}}, True),
        ({"forget": {"deletions": 7}}, False),
        ({"pretrain": {"epochs": 0}}, False),
    ],
)
def test_audits_that_say_a_default_share_the_retraining_of_those_that_do_not(
    catalog: Catalog, change: dict[str, Any], same: bool
) -> None:
    plain, explicit = planned(catalog), planned(catalog, **change)
    for stage in ("unlearn", "retraining", "forgetting"):
        keys = [{job.request_key for job in of_stage(jobs, stage)} for jobs in (plain, explicit)]
        assert (keys[0] == keys[1]) is same, stage


def test_its_parameters_are_written_out_with_those_of_the_stages_that_it_repeats(
    catalog: Catalog,
) -> None:
    (job, _), (unlearn, *_) = (of_stage(planned(catalog), s) for s in ("retraining", "unlearn"))
    forget = job.params["forget"]
    assert forget.items() <= unlearn.params.items()
    assert {"deletions", "size", "successive", "rows"} <= forget.keys()
    (pretrain,) = of_stage(planned(catalog), "pretrain")
    # the data set is that of TRAINING_SET, whatever it is: a default would name another one
    shared = {name: v for name, v in pretrain.params.items() if name in job.params["pretrain"]}
    assert job.params["pretrain"] == shared
    assert pretrain.params.keys() - shared.keys() == {"dataset", "model", "pool"}


def test_without_it_nothing_is_retrained(catalog: Catalog) -> None:
    jobs = planned(catalog, check_forgetting=False)
    assert not of_stage(jobs, "retraining")
    assert not of_stage(jobs, "forgetting")
    with_it = {job.request_key for job in planned(catalog)}
    assert {job.request_key for job in jobs if job.stage != "report"} <= with_it


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"retraining": {"seeds": 2}}, "retraining.seeds"),
        ({"retraining": {"seeds": 17}}, "retraining.seeds"),
        ({"retraining": {"forget": {}}}, "retraining.forget"),
        ({"retraining": {"deletions": 3}}, "retraining.deletions"),
        ({"forgetting": {"tests": ["telepathy"]}}, "forgetting.tests.0"),
        ({"forget": {"deletions": 0}}, "forget.deletions"),
    ],
)
def test_what_is_wrong_is_named_by_its_place_in_the_audit(
    catalog: Catalog, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        planned(catalog, **change)
    assert raised.value.field == field


def test_the_cost_is_quoted_once_per_retraining(catalog: Catalog) -> None:
    spec = AuditSpec.model_validate({**LEAST, "train": {"size": 400}})
    (told,) = describe_costs(spec, plan(spec, catalog), catalog)
    assert told == (
        "retraining (check_forgetting): 24 trainings on at most 400 samples, 3 for each of 8 "
        "deletions (2 times)"
    )
    many = {"train": {"size": 400}, "forget": {"deletions": 100}, "seeds": [0]}
    spec = AuditSpec.model_validate({**LEAST, **many})
    (told,) = describe_costs(spec, plan(spec, catalog), catalog)
    assert "96 trainings on at most 400 samples, 3 for each of 32 deletions" in told
