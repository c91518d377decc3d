"""What a dry run tells of an audit's cost, with the catalog of the real plugins."""

from __future__ import annotations

from typing import Any

import pytest

from shared.catalog import Catalog
from shared.errors import InvalidRequest
from shared.jobs.costs import describe_costs
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from workers.catalog import load_catalog

LEAST = {
    "dataset": "mnist_5k", "model": "mlp", "unlearning": ["gradient_ascent"], "attacks": ["label_inference_black_box"],
    "check_forgetting": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def told(catalog: Catalog, **change: Any) -> list[str]:
    spec = AuditSpec.model_validate({**LEAST, **change})
    return describe_costs(spec, plan(spec, catalog), catalog)


def test_probes_are_quoted_once_and_only_where_an_attack_asks(catalog: Catalog) -> None:
    (one,) = told(
        catalog, probe={"preset": "paper"}, seeds=[0, 1], unlearning=["gradient_ascent", "retrain"]
    )
    assert one == "probe (preset paper): at most 62,760,000 queries of the original model (2 times)"
    assert told(catalog, attacks=["label_inference"]) == []


def test_a_published_search_above_its_ceiling_is_refused_when_planned(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest, match="may need up to 62,760,000 queries") as refused:
        told(catalog, probe={"preset": "paper", "max_queries": 1_000_000})
    assert refused.value.field == "probe.max_queries"
