"""Run one stage here and now, without a queue or a store: for benchmarks, tests and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from shared.catalog import NUMBERED_ROLE, CatalogEntry, split_params
from shared.ml import REGISTRIES
from shared.ml.reproducibility import full_precision
from shared.plugin_ref import validate_model
from shared.registry import Registry
from workers.context import Hooks, JobContext, StageOutput
from workers.stages import registry

METHODS: Mapping[str, Registry[Any]] = {registry.kind: registry for registry in REGISTRIES}


def run_stage(
    stage: str,
    inputs: Mapping[str, StageOutput],
    method: str | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    hooks: Hooks | None = None,
    **params: Any,
) -> dict[str, StageOutput]:
    """The stage's outputs by role. `params` are flat, the stage's and the method's together, as a
    user posts them.

    `inputs` may hold more roles than the stage takes: it sees only those that it and its method
    name.

    Raises:
        InvalidRequest: unknown names or parameters, or a role is missing.
    """
    plugin = registry.get(stage)
    method_plugin = METHODS[plugin.methods].get(method or "") if plugin.methods else None
    plugins = [plugin] if method_plugin is None else [plugin, method_plugin]
    parts = split_params(params, [CatalogEntry.from_plugin(p) for p in plugins])
    parsed = [
        validate_model(p.params, part, f"{p.kind} {p.name}", "params")
        for p, part in zip(plugins, parts, strict=True)
    ]
    roles = {
        role
        for p, m in zip(plugins, parsed, strict=True)
        for role in [*p.uses, *CatalogEntry.from_plugin(p).list_needs(m.model_dump())]
    }
    ctx = JobContext(
        params=parsed[0],
        method=method_plugin,
        method_params=parsed[1] if method_plugin else None,
        inputs={
            role: output.data
            for role, output in inputs.items()
            if role in roles
            or (NUMBERED_ROLE.search(role) and NUMBERED_ROLE.sub("", role) in plugin.many)
        },
        seed=seed,
        device=torch.device(device),
        hooks=hooks,
    )
    with full_precision():
        outputs: dict[str, StageOutput] = plugin.target(ctx)
    return outputs
