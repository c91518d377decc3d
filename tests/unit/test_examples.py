"""The audits that ship as examples can be posted as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.catalog import Catalog, CatalogEntry
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from shared.ml import REGISTRIES
from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml
from workers.stages import registry as stages

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_planned(example: Path) -> None:
    catalog = Catalog(
        CatalogEntry.from_plugin(plugin)
        for registry in (*REGISTRIES, stages)
        for plugin in registry
    )
    jobs = plan(AuditSpec.model_validate(load_yaml(example.read_text())), catalog)
    assert jobs[-1].stage == "report"
    if example.stem == "adaptive":
        made = [(j.method, j.params["adaptive"]) for j in jobs if j.stage == "attack"]
        assert made.count(("feature_recovery", False)) == 6
        assert made.count(("feature_recovery", True)) == 4  # no defense or dp_sgd: nothing to know
