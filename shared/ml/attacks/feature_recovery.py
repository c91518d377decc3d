"""The paper's server: rebuilds the forgotten image from two sets of weights."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks import registry
from shared.ml.attacks._estimate import bias_change, gradient_direction, infer_labels
from shared.ml.attacks._matching import matcher, mismatch
from shared.ml.attacks._observation import Observation, Reconstruction
from shared.ml.attacks._schedules import SCHEDULES, AdamW
from shared.ml.context import Context
from shared.registry import Params

LANES_AT_ONCE = 32  # bounds memory; on one CPU core more lanes at once are no quicker


class FeatureRecoveryParams(Params):
    preset: Literal["default", "paper"] = Field("default", description="the search: ours, or the official code's")
    iterations: int | None = Field(None, ge=1, le=100_000, description="steps of the search; none: the preset's")
    restarts: int | None = Field(None, ge=1, le=64, description="starts a deletion; none: the preset's")
    gradient_from: Literal["pair", "base"] = Field(
        "pair", description="estimate from ORIGINAL and UNLEARNED, or (exact unlearning) with BASE, N and k"
    )
    labels: Literal["given", "inferred"] = Field(
        "given", description="classes given, or read off the last layer's bias"
    )


@registry.register(
    "feature_recovery",
    params=FeatureRecoveryParams,
    needs=("ORIGINAL", "UNLEARNED"),
    needs_when={"gradient_from": {"base": ("BASE", "COUNTS")}, "labels": {"given": ("LABELS",)}},
    uses=("COUNTS",),
    produces=("RECONSTRUCTION",),
    source="Hu et al. 2024, arXiv 2404.03233",
    traits={"access": "white_box", "queries": 0},
)
def run(observation: Observation, params: FeatureRecoveryParams, ctx: Context) -> Reconstruction:
    """Search the image whose loss gradient points where the weights moved.

    All restarts of all deletions are one batch. Of a deletion's restarts the one with the lowest matching
    loss is kept: the only choice that an attacker can make.

    Raises:
        InvalidRequest: labels do not fit the deletions, or a deletion left no trace.
    """
    schedule = SCHEDULES[params.preset]
    total = params.iterations or schedule.iterations
    restarts = params.restarts or schedule.restarts
    deletions, k = observation.unlearned.count, observation.forgotten
    at, direction = gradient_direction(observation, params.gradient_from)
    labels = _labels(observation, params.labels, k)

    network = at.network().to(ctx.device)
    weights = {name: w.detach() for name, w in network.named_parameters()}
    lanes = {n: g.repeat_interleave(restarts, 0).to(ctx.device) for n, g in direction.items()}
    targets = labels.repeat_interleave(restarts, 0).to(ctx.device)
    shape = (k, *at.architecture.input_shape)
    starts = [
        schedule.first_image(shape, ctx.generator(f"start {d} {r}")) for d in range(deletions) for r in range(restarts)
    ]
    search, done = AdamW.at(torch.stack(starts).to(ctx.device)), 0
    if (found := ctx.resume()) is not None:
        done, saved = found
        search = AdamW(**{name: tensor.to(ctx.device) for name, tensor in saved.items()})

    match = matcher(network, weights, LANES_AT_ONCE)
    for step in range(done, total):
        search.x.clamp_(0, 1)
        gradient, loss = match(search.x, targets, lanes, schedule.tv_at(step, total))
        search.step(step + 1, gradient.sign(), schedule.lr_at(step, total), schedule.weight_decay)
        if step % 10 == 0 or step + 1 == total:
            ctx.progress(step + 1, total, matching_loss=loss.mean().item())
        else:
            ctx.progress(step + 1, total)
        if ctx.due():
            ctx.save(step + 1, search.state())
    if schedule.clamp_last:
        search.x.clamp_(0, 1)

    final = mismatch(network, weights, search.x, targets, lanes, LANES_AT_ONCE).view(deletions, restarts)
    best = final.argmin(1)
    images = search.x.view(deletions, restarts, *shape)[torch.arange(deletions), best]
    return Reconstruction(images.cpu(), labels, final.gather(1, best.unsqueeze(1)).squeeze(1).cpu())


def _labels(observation: Observation, how: str, k: int) -> Tensor:
    """Classes [D, k] to search for."""
    if how == "inferred":
        return infer_labels(bias_change(observation), k)
    architecture, given = observation.original.architecture, observation.labels
    if given is None or given.shape[0] != observation.unlearned.count:
        raise InvalidRequest("LABELS must hold one row a deletion", "inputs.LABELS")
    if int(given.max()) >= architecture.num_classes:
        raise InvalidRequest(f"LABELS go up to {architecture.num_classes - 1}", "inputs.LABELS")
    return given
