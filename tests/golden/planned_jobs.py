"""The jobs that audits are planned as, recorded without code digests.

`python -m tests.golden.planned_jobs` writes the records again.

A job is its stage, method, parameters, seed, digests of data files and inputs by role, where an
input is the job that makes it. Jobs are compared by what they are, not by their order or their
keys.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.catalog import Catalog, CatalogEntry
from shared.data_files import DataFile
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.ml import REGISTRIES
from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml
from workers.stages import registry as stages

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
# stages, methods, roles and params: by the name in the records, the one they have now
RENAMED = HERE / "renamed.yaml"

Made = dict[
    str, Any
]  # stage, method, params, seed, inputs: role -> [name of a job, role of that job]; data where there is some


def load_audits() -> dict[str, dict[str, Any]]:
    """Every example, and those by hand, as posted."""
    examples = {
        path.stem: load_yaml(path.read_text())
        for path in sorted((ROOT / "examples").glob("*.yaml"))
    }
    return examples | load_yaml((HERE / "audits.yaml").read_text())


def plan_audit(audit: Mapping[str, Any]) -> list[PlannedJob]:
    """The jobs of an audit, with the plugins of this tree."""
    return plan(AuditSpec.model_validate(audit), real_catalog(), identify)


def real_catalog() -> Catalog:
    """What workers of this tree publish."""
    return Catalog(
        CatalogEntry.from_plugin(plugin)
        for registry in (*REGISTRIES, stages)
        for plugin in registry
    )


def identify(files: Sequence[DataFile]) -> dict[str, str]:
    """A digest that is the same everywhere: of the name. What is looked for without being named is
    not there."""
    return {
        file.path: hashlib.sha256(file.path.encode()).hexdigest()
        for file in files
        if not file.optional
    }


def describe(jobs: Iterable[PlannedJob]) -> list[Made]:
    """By stages: each job with what it is, and with the names of its parents."""
    names: dict[str, str] = {}
    found: dict[str, Made] = {}
    for job in jobs:
        inputs = {i.role: [names[str(i.parent)], i.parent_role or i.role] for i in job.inputs}
        one = {
            "stage": job.stage,
            "method": job.method,
            "params": dict(job.params),
            "seed": job.seed,
            "inputs": inputs,
        } | ({"data": dict(job.data_digests)} if job.data_digests else {})
        names[job.request_key] = name = _name(one)
        found[name] = one
    return list(found.values())


def _name(job: Made) -> str:
    """From all that the job is, its parents' names included: equal jobs have equal names."""
    text = json.dumps(job, sort_keys=True)
    return f"{job['stage']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def rename(jobs: Iterable[Made], names: Mapping[str, Mapping[str, Any]]) -> list[Made]:
    """Recorded jobs by the names that stages, methods, roles and parameters have now; parents
    before children."""

    def now(kind: str, name: str) -> str:
        return str((names.get(kind) or {}).get(name, name))

    parents: dict[str, str] = {}
    found = []
    for job in jobs:
        one = {
            "stage": now("stages", job["stage"]),
            "method": None if job["method"] is None else now("methods", job["method"]),
            "params": {
                **(names.get("added") or {}).get(job["stage"], {}),
                **{
                    now("params", name): _with_added(value, names)
                    for name, value in job["params"].items()
                },
            },
            "seed": job["seed"],
            "inputs": {
                now("roles", role): [parents[parent], now("roles", made_as)]
                for role, (parent, made_as) in job["inputs"].items()
            },
        } | ({"data": job["data"]} if "data" in job else {})
        parents[_name(job)] = _name(one)
        found.append(one)
    return found


def _with_added(value: Any, names: Mapping[str, Mapping[str, Any]]) -> Any:
    """A choice of a data set with the parameters that it has been given since."""
    if isinstance(value, dict) and value.keys() == {"name", "params"}:
        added = (names.get("added") or {}).get(value["name"], {})
        return {"name": value["name"], "params": {**added, **value["params"]}}
    return value


def drop_report(jobs: Iterable[Made]) -> dict[str, Made]:
    """By name. What the report job is told of its rows is the report's business."""
    return {_name(job): job for job in jobs if job["stage"] != "report"}


def read_record(name: str) -> list[Made]:
    """The recorded jobs of an audit."""
    found: list[Made] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def main() -> None:
    """Record all audits."""
    RECORDED.mkdir(exist_ok=True)
    for name, audit in load_audits().items():
        lines = ",\n".join(json.dumps(job, sort_keys=True) for job in describe(plan_audit(audit)))
        (RECORDED / f"{name}.json").write_text(f"[\n{lines}\n]\n")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
