"""Membership from weights: whether a candidate's own gradient explains how the model changed."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from shared.ml.attack_io import MembershipScores, WhiteBoxView
from shared.ml.attacks import registry
from shared.ml.attacks._candidate_cosines import compute_candidate_cosines
from shared.ml.attacks._estimate import Adaptive, GradientFrom
from shared.ml.attacks._fallback import find_fallback_reason
from shared.ml.attacks._target import TargetParams, build_gradient_target, count_releases_compared
from shared.ml.context import Context, SubContext
from shared.roles import Role


class MembershipGradientParams(TargetParams):
    evaluation_point: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "where gradients are evaluated: 0 at the weights before the deletion, 1 at those "
            "after it, or in between; above 0, all candidates are evaluated for each deletion "
            "instead of once"
        ),
    )
    gradient_from: GradientFrom = "pair"
    adaptive: Adaptive = False


@registry.register(
    "membership_gradient",
    params=MembershipGradientParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED, Role.CANDIDATES),
    needs_when={
        "gradient_from": {
            "base": (Role.BASE, Role.DELETION_SIZES),
            "either": (Role.BASE, Role.DELETION_SIZES),
        },
        "adaptive": {"True": (Role.DEFENSE, Role.PUBLIC)},
    },
    produces=(Role.SCORES,),
    source=(
        "the gradient matching of Hu et al. 2024, arXiv 2404.03233, on candidates instead of a "
        "search"
    ),
    access="white_box",
)
def run(view: WhiteBoxView, params: MembershipGradientParams, ctx: Context) -> MembershipScores:
    """Score each candidate by the cosine of its loss gradient and the estimated gradient of the
    forgotten samples.

    Both point where the loss of the forgotten samples grows, so a higher cosine means more likely
    forgotten. `either` takes the estimate that its best candidates match better, on average over
    the deletions.

    Raises:
        InvalidRequest: a deletion left no trace, `filtered` has nothing to compare with, or
            CANDIDATES, BASE or DELETION_SIZES is missing.
    """
    candidates = view.require_candidates()
    sources = ["pair", "base"] if params.gradient_from == "either" else [params.gradient_from]
    fallback_reason = find_fallback_reason(
        view.original.load_network().to(ctx.device), view.original.architecture.input_shape
    )
    scores = [
        compute_candidate_cosines(
            build_gradient_target(view, source, params),
            candidates,
            SubContext(ctx, index, len(sources)),
            share_passes=fallback_reason is None,
        )
        for index, source in enumerate(sources)
    ]
    return MembershipScores(
        max(scores, key=lambda one: _measure_agreement(one, view.deletion_size)),
        releases_compared=count_releases_compared(view, params),
        fallbacks=[fallback_reason or ""] * view.unlearned.count,
    )


def _measure_agreement(scores: Tensor, k: int) -> float:
    """Mean over deletions of the k highest cosines."""
    return scores.topk(min(k, scores.shape[1]), dim=1).values.mean().item()
