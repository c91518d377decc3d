"""A stage that is one new file: an audit plans it, a worker runs it, the report tells of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.catalog import Catalog, CatalogEntry
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.ml import REGISTRIES
from tests.support.local_plan import PlanOutputs, run_planned
from workers.stages import registry

FILE = '''
"""How far a release lies from the original model."""

from shared.ml.networks import read_networks
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, StageOutput
from workers.stages import registry


@registry.register(
    "drift",
    needs=(Role.ORIGINAL, Role.UNLEARNED),
    produces=(Role.METRICS,),
    wiring=Wiring(scopes=(Scope.RELEASE,), reported=True),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Measure how far the weights moved until release."""
    before = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL).load_network().state_dict()
    after = read_networks(ctx.read_input(Role.UNLEARNED), Role.UNLEARNED).load_network(0).state_dict()
    moved = sum(float((after[name] - before[name]).square().sum()) for name in before) ** 0.5
    return {Role.METRICS: StageOutput.of_json({"distance": moved, "tensors": len(before)})}
'''
AUDIT: dict[str, Any] = {
    "dataset": "mnist_5k", "model": {"name": "mlp", "params": {"hidden": 8}}, "pretrain": {"epochs": 1},
    "train": {"size": 16, "epochs": 1}, "forget": {"deletions": 2}, "unlearning": ["gradient_ascent", "retrain"],
    "attacks": ["label_inference"], "evaluate": {"test_samples": 20}, "seeds": [0, 1],
}  # fmt: skip


@pytest.fixture(scope="module")
def dropped_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file, loaded as the folder's others are; gone without a trace afterwards."""
    path = tmp_path_factory.mktemp("stages") / "drift.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("workers.stages.drift", path)
    assert spec is not None
    assert spec.loader is not None
    registry.load()
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield path
    registry.unregister("drift")


@pytest.fixture(scope="module")
def jobs(dropped_in: Path) -> list[PlannedJob]:
    catalog = Catalog(
        CatalogEntry.from_plugin(plugin)
        for registry_ in (*REGISTRIES, registry)
        for plugin in registry_
    )
    published = Catalog.from_json(json.loads(json.dumps(catalog.to_json(), default=list)))
    return plan(AuditSpec.model_validate(AUDIT), published)


@pytest.fixture(scope="module")
def made(jobs: list[PlannedJob]) -> PlanOutputs:
    return run_planned(jobs, skipped_stages=["selftest"])


def test_it_is_planned_once_a_release_from_what_is_released(jobs: list[PlannedJob]) -> None:
    by_key = {job.request_key: job for job in jobs}
    drifts = [job for job in jobs if job.stage == "drift"]
    assert len(drifts) == 2 * 2
    for job in drifts:
        inputs = {
            i.role: (by_key[str(i.parent)].stage, i.parent_role or i.role) for i in job.inputs
        }
        assert inputs == {"ORIGINAL": ("train", "ORIGINAL"), "UNLEARNED": ("defend", "RELEASED")}


def test_what_it_measured_is_in_the_report_beside_what_it_is_of(
    jobs: list[PlannedJob], made: PlanOutputs
) -> None:
    outputs = made[jobs[-1].request_key]
    told = json.loads(outputs["REPORT"].data)["measurements"]
    assert [
        (one["stage"], one["seed"], one["unlearning"]["method"], one["attack"]) for one in told
    ] == [
        ("drift", seed, method, None)
        for seed in (0, 1)
        for method in ("gradient_ascent", "retrain")
    ]
    measured = [
        json.loads(made[job.request_key]["METRICS"].data) for job in jobs if job.stage == "drift"
    ]
    assert [one["numbers"] for one in told] == measured
    assert all(one["distance"] > 0 for one in measured)
    page = outputs["REPORT_HTML"].data.decode()
    assert len(json.loads(outputs["REPORT"].data)["rows"]) == 2 * 2
    section = page[page.index("Further measurements") :]
    section = section[: section.index("</section>")]
    assert "gradient_ascent, no defense, seed 1" in section
    assert section.count("tensors: 4<") == len(told)


def test_what_did_not_arrive_is_listed_as_missing(jobs: list[PlannedJob]) -> None:
    outputs = run_planned(jobs, skipped_stages=["selftest", "drift"])[jobs[-1].request_key]
    assert {one["numbers"] for one in json.loads(outputs["REPORT"].data)["measurements"]} == {None}
    assert "missing: the job failed or was cancelled" in outputs["REPORT_HTML"].data.decode()
