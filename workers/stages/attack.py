"""Runs an attack on all deletions at once. The truth is not among its inputs."""

from __future__ import annotations

from typing import Any

import torch

from shared.catalog import Entry
from shared.errors import InvalidRequest
from shared.ml.attacks._observation import Answers, Observation, Reconstruction
from shared.ml.networks import Networks, read_networks
from shared.ml.records import Counts, Labels
from shared.ml.tensors import write_tensors
from shared.registry import Params, Plugin
from workers.context import JobContext, Output
from workers.stages import registry


@registry.register("attack", params=Params, needs=("ORIGINAL", "UNLEARNED"), methods="attack")
def run(ctx: JobContext) -> dict[str, Output]:
    """Reconstruct or guess what was forgotten, from what the attack declares that it sees."""
    assert ctx.method is not None
    roles = _seen(ctx, ctx.method)
    result = ctx.method.target(_observe(ctx, roles), ctx.method_params, ctx)
    threat_model = {
        "attack": ctx.method.name,
        "params": ctx.method_params.model_dump(mode="json"),
        "observes": sorted(roles),
        "batch_norm": "eval",
        **ctx.method.traits,
    }
    return _outputs(result, threat_model)


def _seen(ctx: JobContext, method: Plugin) -> set[str]:
    """Roles the method needs with these parameters, and those it can use that were given."""
    needed = Entry.of(method).needed(ctx.method_params.model_dump())
    return {*needed, "ORIGINAL", "UNLEARNED"} | {role for role in method.uses if role in ctx.inputs}


def _observe(ctx: JobContext, roles: set[str]) -> Observation:
    original = read_networks(ctx.input("ORIGINAL"), "ORIGINAL")

    def networks(role: str) -> Networks:
        return read_networks(ctx.input(role), role, like=original.architecture)

    return Observation(
        original=original,
        unlearned=networks("UNLEARNED"),
        base=networks("BASE") if "BASE" in roles else None,
        counts=Counts.read(ctx.input("COUNTS"), "COUNTS") if "COUNTS" in roles else None,
        labels=_labels(ctx) if "LABELS" in roles else None,
    )


def _labels(ctx: JobContext) -> torch.Tensor:
    rows = Labels.read(ctx.input("LABELS"), "LABELS").labels
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise InvalidRequest("LABELS must hold the same number of classes, at least one, a deletion", "inputs.LABELS")
    return torch.tensor(rows)


def _outputs(result: Reconstruction | Answers, threat_model: dict[str, Any]) -> dict[str, Output]:
    if isinstance(result, Answers):
        answers = {"labels": result.labels.tolist(), "scores": result.scores.tolist(), "threat_model": threat_model}
        return {"ANSWERS": Output.of_json(answers)}
    tensors = {"images": result.images, "labels": result.labels, "matching_loss": result.matching_loss}
    return {"RECONSTRUCTION": Output(write_tensors(tensors, {"threat_model": threat_model}))}
