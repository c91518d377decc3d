"""The pure function audit -> jobs, with identical jobs made once.

The *plan key* of a job is a Merkle hash: stage, method, all parameters, seed, code digest, and for each
input the plan key of the job or the digest of the artifact it comes from. It is known before anything runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shared.catalog import Catalog, CheckedJob
from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.jobs.records import Input, PlannedJob
from shared.jobs.rows import to_json
from shared.jobs.spec import AuditSpec

MAX_JOBS = 10_000


def plan_job(
    catalog: Catalog,
    stage: str,
    method: str | None,
    params: Mapping[str, Any],
    seed: int,
    inputs: tuple[Input, ...],
    *,
    parent_keys: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> PlannedJob:
    """One job.

    Args:
        parent_keys: plan key of each `Input.parent` that is a job id; a parent not in it is a plan key.

    Raises:
        InvalidRequest: see `Catalog.check`.
    """
    checked = catalog.check(stage, method, params, [i.role for i in inputs])
    key = _plan_key(stage, method, checked, seed, inputs, parent_keys or {})
    return PlannedJob(
        key,
        stage,
        method,
        checked.params,
        seed,
        inputs,
        checked.plugins,
        checked.produces,
        checked.code,
        fresh,
    )


def _plan_key(
    stage: str,
    method: str | None,
    checked: CheckedJob,
    seed: int,
    inputs: tuple[Input, ...],
    keys: Mapping[str, str],
) -> str:
    sources = {
        i.role: [keys.get(i.parent, i.parent), i.parent_role or i.role] if i.parent else i.sha256 for i in inputs
    }
    parts = {
        "stage": stage,
        "method": method,
        "params": checked.params,
        "seed": seed,
        "inputs": sources,
        "code": checked.code,
    }
    return hashlib.sha256(to_json(parts).encode()).hexdigest()


class _Planner:
    """Collects jobs, each once; `providers` maps a role to the job that supplies it along one branch."""

    def __init__(self, catalog: Catalog, fresh: bool) -> None:
        self.catalog = catalog
        self.fresh = fresh
        self.jobs: dict[str, PlannedJob] = {}

    def add(
        self,
        stage: str,
        params: Mapping[str, Any],
        seed: int,
        providers: Mapping[str, str],
        method: Choice | None = None,
    ) -> dict[str, str]:
        """Plan one job fed from `providers`; returns the providers with its outputs added."""
        name = method.name if method else None
        own = self.catalog.get("stage", stage, "stage").properties
        for param in method.params if method else {}:
            if param in own:  # else the methods of one audit would not be compared on the same deletions
                raise InvalidRequest(f"{param} belongs to the stage {stage}, not to {name}", f"params.{param}")
        merged = {**params, **(method.params if method else {})}
        # A stage's own optional roles are supplied; a method's are not: what an attacker is given is a choice.
        wanted = {*self.catalog.describe(stage, name, merged).needs, *self.catalog.get("stage", stage, "stage").uses}
        taken = wanted & providers.keys()
        inputs = tuple(Input(role, parent=providers[role]) for role in sorted(taken))
        job = plan_job(self.catalog, stage, name, merged, seed, inputs, fresh=self.fresh)
        self.jobs.setdefault(job.plan_key, job)
        if len(self.jobs) > MAX_JOBS:
            raise InvalidRequest(f"this grid makes more than {MAX_JOBS} jobs: split it", "")
        return {**providers, **dict.fromkeys(job.produces, job.plan_key)}


def plan(spec: AuditSpec, catalog: Catalog) -> list[PlannedJob]:
    """All jobs of an audit, parents before children.

    Raises:
        InvalidRequest: the first thing that is wrong, by its path in the audit.
    """
    planner = _Planner(catalog, spec.fresh)
    dataset, model = spec.dataset.model_dump(), spec.model.model_dump()
    with _blame({"params.dataset": "dataset", "params.model": "model", "params": "pretrain"}):
        base = planner.add("pretrain", {**spec.pretrain, "dataset": dataset, "model": model}, spec.pretrain_seed, {})
    for seed in dict.fromkeys(spec.seeds):
        with _blame({"params.dataset": "dataset", "params": "train"}):
            trained = planner.add("train", {**spec.train, "dataset": dataset}, seed, base)
        for u, unlearning in enumerate(spec.unlearning):
            own = {f"params.{name}": f"forget.{name}" for name in spec.forget if name not in unlearning.params}
            with _blame(
                {
                    **own,
                    "params": f"unlearning.{u}.params",
                    "method": f"unlearning.{u}.name",
                    "inputs": f"unlearning.{u}",
                }
            ):
                unlearned = planner.add("unlearn", spec.forget, seed, trained, unlearning)
            for a, attack in enumerate(spec.attacks):
                with _blame({"params": f"attacks.{a}.params", "method": f"attacks.{a}.name", "inputs": f"attacks.{a}"}):
                    attacked = planner.add("attack", {}, seed, unlearned, attack)
                with _blame({"params": "evaluate"}):
                    planner.add("evaluate", spec.evaluate, seed, attacked)
    return list(planner.jobs.values())


@contextmanager
def _blame(paths: Mapping[str, str]) -> Iterator[None]:
    """Rewrite the path of an error from within one job to where it stands in the audit (longest match)."""
    try:
        yield
    except InvalidRequest as error:
        for own, there in sorted(paths.items(), key=lambda p: -len(p[0])):
            if error.field == own or error.field.startswith(own + "."):
                raise InvalidRequest(error.message, there + error.field[len(own) :]) from error
        raise
