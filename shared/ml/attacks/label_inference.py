"""Infers the forgotten class from the last layer."""

from __future__ import annotations

from functools import partial

from shared.ml.attack_io import LabelGuesses, WhiteBoxView
from shared.ml.attacks import registry
from shared.ml.attacks._estimate import Adaptive, GradientFrom, infer_labels, score_classes
from shared.ml.attacks._target import (
    TargetKind,
    TargetParams,
    build_gradient_target,
    count_releases_compared,
)
from shared.ml.context import Context
from shared.plugins import Params
from shared.roles import Role


class LabelInferenceParams(Params):
    gradient_from: GradientFrom = "pair"
    target: TargetKind = "raw"
    adaptive: Adaptive = False


@registry.register(
    "label_inference",
    params=LabelInferenceParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED),
    needs_when={
        "gradient_from": {
            "base": (Role.BASE, Role.DELETION_SIZES),
            "either": (Role.BASE, Role.DELETION_SIZES),
        },
        "adaptive": {"True": (Role.DEFENSE, Role.PUBLIC)},
    },
    uses=(Role.DELETION_SIZES,),
    produces=(Role.ANSWERS,),
    source="white box rule after Zhao et al. 2020 (iDLG), arXiv 2001.02610",
    access="white_box",
)
def run(view: WhiteBoxView, params: LabelInferenceParams, ctx: Context) -> LabelGuesses:
    """Guess the classes whose last-layer bias decreased most: as many classes as DELETION_SIZES
    states, otherwise one."""
    target_params = TargetParams(target=params.target)
    scores = score_classes(
        view, params.gradient_from, partial(build_gradient_target, params=target_params)
    )
    ctx.report_progress(1, 1)
    return LabelGuesses(
        infer_labels(scores, view.num_guesses),
        scores,
        releases_compared=count_releases_compared(view, target_params),
    )
