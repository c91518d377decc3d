"""The paper's server-side attack: reconstructs the forgotten image from two sets of weights."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attack_io import Reconstruction, WhiteBoxView
from shared.ml.attacks import registry
from shared.ml.attacks._estimate import Adaptive, GradientFrom, infer_labels, score_classes
from shared.ml.attacks._schedules import Arithmetic, Preset, select_schedule
from shared.ml.attacks._search import MatchingObjective, search_images
from shared.ml.attacks._target import TargetParams, build_gradient_target, count_releases_compared
from shared.ml.context import Context
from shared.roles import Role


class FeatureRecoveryParams(TargetParams):
    preset: Preset = Field(
        "default",
        description=(
            "the search: paper is that of the official code; fast, default and accurate are ours, "
            "with settings for the kind of data; docs/performance.md has their quality and time"
        ),
    )
    iterations: int | None = Field(
        None, ge=1, le=100_000, description="steps of the search; null: set by the preset"
    )
    restarts: int | None = Field(
        None, ge=1, le=64, description="random restarts per deletion; null: set by the preset"
    )
    arithmetic: Arithmetic | None = Field(
        None,
        description=(
            "plain: one image at a time, with the same pixels as the official code; batched: all "
            "images at once, equal except for rounding and up to three times faster; null: set by "
            "the preset"
        ),
    )
    gradient_from: GradientFrom = "pair"
    labels: Literal["given", "inferred", "optimised"] = Field(
        "given",
        description=(
            "given: known to the attacker; inferred: read from the last layer's bias; optimised: "
            "optimised together with the images"
        ),
    )
    adaptive: Adaptive = False
    controls: int = Field(
        0,
        ge=0,
        le=1000,
        description=(
            "number of deletions for which the search is repeated with a random direction, as a "
            "control"
        ),
    )


@registry.register(
    "feature_recovery",
    params=FeatureRecoveryParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED),
    needs_when={
        "gradient_from": {
            "base": (Role.BASE, Role.DELETION_SIZES),
            "either": (Role.BASE, Role.DELETION_SIZES),
        },
        "labels": {"given": (Role.LABELS,)},
        "adaptive": {"True": (Role.DEFENSE, Role.PUBLIC)},
    },
    uses=(Role.DELETION_SIZES,),
    produces=(Role.RECONSTRUCTION,),
    source="Hu et al. 2024, arXiv 2404.03233",
    access="white_box",
)
def run(view: WhiteBoxView, params: FeatureRecoveryParams, ctx: Context) -> Reconstruction:
    """Search for the image whose loss gradient matches the change of the weights.

    All restarts of all deletions are one batch. The answer is the mean of a deletion's restarts; in
    the preset `paper`, and for several samples per deletion, it is the restart with the lowest
    matching loss, the only criterion an attacker has. Beside a mean, that restart is the
    alternative `best_restart`. An attacker who does not know the unlearning method tries both
    estimates (`either`) and continues with the one that matches better on average, as all deletions
    used one method. With `optimised` labels each start optimises soft labels together with the
    images (Zhu et al. 2019, arXiv 1906.08935); the likeliest classes are reported. `target` and
    `evaluation_point` are for updates that are not a single gradient (`_target.py`).

    Raises:
        InvalidRequest: labels do not fit the deletions, or a deletion left no trace.
    """
    schedule = select_schedule(params.preset, view.original.architecture)
    k = view.deletion_size
    sources = ["pair", "base"] if params.gradient_from == "either" else [params.gradient_from]
    labels = _choose_labels(view, params, k)
    deletions = view.unlearned.count
    controls = min(params.controls, deletions)
    estimates = [
        build_gradient_target(
            view, source, params, controls, ctx.make_generator("random directions")
        )
        for source in sources
    ]
    search_labels = None if labels is None else torch.cat([labels, labels[:controls]])
    objective = MatchingObjective(
        estimates,
        search_labels,
        params.arithmetic or schedule.arithmetic,
        ctx,
        schedule.embedding_weight,
    )
    images, labels, loss, source_indices, best_restart = search_images(
        objective,
        deletions,
        schedule,
        params.iterations or schedule.iterations,
        params.restarts or schedule.restarts,
        (k, *view.original.architecture.input_shape),
        ctx,
    )
    return Reconstruction(
        images[:deletions],
        labels[:deletions],
        loss[:deletions],
        [sources[index] for index in source_indices[:deletions].tolist()],
        {"random_direction": images[deletions:]} if controls else {},
        {"random_direction": loss[deletions:]} if controls else {},
        {} if best_restart is None else {"best_restart": best_restart[:deletions]},
        releases_compared=count_releases_compared(view, params),
        batch_size=objective.chunk_size,
        fallbacks=[objective.fallback_reason or ""] * deletions,
    )


def _choose_labels(view: WhiteBoxView, params: FeatureRecoveryParams, k: int) -> Tensor | None:
    """Classes [D, k] to search for; None if they are optimised with the images."""
    if params.labels == "optimised":
        return None
    if params.labels == "inferred":
        inferred = infer_labels(
            score_classes(
                view, params.gradient_from, partial(build_gradient_target, params=params)
            ),
            view.num_guesses,
        )
        # if fewer than k: the same number of samples per class
        return inferred.repeat(1, -(-k // inferred.shape[1]))[:, :k]
    architecture, given = view.original.architecture, view.labels
    if given is None or given.shape[0] != view.unlearned.count:
        raise InvalidRequest("LABELS must hold one row per deletion", f"inputs.{Role.LABELS}")
    if int(given.max()) >= architecture.num_classes:
        raise InvalidRequest(
            f"LABELS must be 0 to {architecture.num_classes - 1}", f"inputs.{Role.LABELS}"
        )
    return given
