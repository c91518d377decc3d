"""plan(): p-values bring shadow deletions for every release and label attack, or are refused. The
real catalog."""

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
    "dataset": "mnist_5k", "model": "mlp", "unlearning": ["gradient_ascent"],
    "attacks": ["label_inference", "label_inference_black_box", "feature_recovery"], "p_values": True,
}  # fmt: skip
FED = [
    "ANSWERS",
    "BASE",
    "DEFENSE",
    "DELETION_SIZES",
    "FORGET_SETS",
    "ORIGINAL",
    "PUBLIC",
    "RECIPE",
    "TRAINING_SET",
    "UNLEARNING",
]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def planned(catalog: Catalog, **change: Any) -> list[PlannedJob]:
    return plan(AuditSpec.model_validate({**LEAST, **change}), catalog)


def test_every_release_and_label_attack_has_shadows_that_only_its_evaluation_gets(
    catalog: Catalog,
) -> None:
    jobs = planned(catalog, unlearning=["gradient_ascent", "retrain"], defenses=["none", "pruning"])
    shadows = [j for j in jobs if j.stage == "shadow"]
    assert len(shadows) == 2 * 2 * 2  # of feature recovery none
    roles = sorted(sorted(i.role for i in j.inputs) for j in shadows)
    assert roles == [sorted([*FED, "PROBES"])] * 4 + [FED] * 4
    by_key = {j.request_key: j for j in jobs}
    taken = [(by_key[i.parent or ""], j) for j in jobs for i in j.inputs if i.role == "SHADOWS"]
    assert sorted(j.request_key for j, _ in taken) == sorted(j.request_key for j in shadows)
    for shadow, evaluation in taken:
        assert evaluation.stage == "evaluate"
        answers = [{i.role: i.parent for i in j.inputs}["ANSWERS"] for j in (shadow, evaluation)]
        assert answers[0] == answers[1]


def test_without_p_values_there_are_none_and_their_parameters_change_nothing(
    catalog: Catalog,
) -> None:
    jobs = planned(catalog, p_values=False, shadow={"shadows": 300})
    assert not [j for j in jobs if j.stage == "shadow"]
    with_them = planned(catalog, shadow={"shadows": 300})
    assert {j.params["shadows"] for j in with_them if j.stage == "shadow"} == {300}
    shared = {j.request_key for j in jobs} & {j.request_key for j in with_them}
    # the evaluations of the two label attacks, and the report
    assert len(jobs) - len(shared) == 2 + 1


def test_the_cost_is_quoted(catalog: Catalog) -> None:
    spec = AuditSpec.model_validate({**LEAST, "seeds": [0, 1], "attacks": ["label_inference"]})
    _, told = describe_costs(spec, plan(spec, catalog), catalog)
    assert told == (
        "shadow (p-values): 199 shadow deletions and at most 25 trainings on 32 samples (2 times)"
    )


@pytest.mark.parametrize(("change", "field", "words"), [
    ({"unlearning": ["retrain", "sisa"]}, "unlearning.1", "no p-values for sisa: it needs SHARDS"),
    ({"unlearning": ["amnesiac"]}, "unlearning.0", "no p-values for amnesiac: it needs BATCH_DELTAS"),
    ({"forget": {"deletions": 2, "successive": True}}, "unlearning.0", "starts from many models"),
    ({"shadow": {"shadows": 198}}, "shadow.shadows", "198 is less than the minimum of 199"),
])  # fmt: skip
def test_what_cannot_be_made_again_is_refused_when_planned(
    catalog: Catalog, change: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        planned(catalog, **change)
    assert refused.value.field == field
