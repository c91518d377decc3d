"""Run one stage here and now, without a queue or a store: for benchmarks, tests and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from shared.catalog import NUMBERED, Entry, split_params
from shared.choices import validated
from shared.ml import REGISTRIES
from shared.registry import Registry
from workers.context import Hooks, JobContext, Output
from workers.stages import registry

METHODS: Mapping[str, Registry[Any]] = {found.kind: found for found in REGISTRIES}


def run_stage(
    stage: str,
    inputs: Mapping[str, Output],
    method: str | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    hooks: Hooks | None = None,
    **params: Any,
) -> dict[str, Output]:
    """The stage's outputs by role. `params` are flat, the stage's and the method's together, as a user posts them.

    `inputs` may hold more roles than the stage takes: it sees only those that it and its method name.

    Raises:
        InvalidRequest: unknown names or parameters, or a role is missing.
    """
    plugin = registry.get(stage)
    chosen = METHODS[plugin.methods].get(method or "") if plugin.methods else None
    plugins = [plugin] if chosen is None else [plugin, chosen]
    parts = split_params(params, [Entry.of(p) for p in plugins])
    made = [validated(p.params, part, f"{p.kind} {p.name}", "params") for p, part in zip(plugins, parts, strict=True)]
    roles = {
        role for p, m in zip(plugins, made, strict=True) for role in [*p.uses, *Entry.of(p).needed(m.model_dump())]
    }
    ctx = JobContext(
        params=made[0],
        method=chosen,
        method_params=made[1] if chosen else None,
        inputs={
            role: output.data
            for role, output in inputs.items()
            if role in roles or (NUMBERED.search(role) and NUMBERED.sub("", role) in plugin.many)
        },
        seed=seed,
        device=torch.device(device),
        hooks=hooks,
    )
    outputs: dict[str, Output] = plugin.target(ctx)
    return outputs
