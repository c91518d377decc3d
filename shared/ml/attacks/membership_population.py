"""Membership from the released model's confidence in the candidates."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attack_io import CandidateView, MembershipScores
from shared.ml.attacks import registry
from shared.ml.attacks._log_odds import compute_log_odds
from shared.ml.context import Context
from shared.ml.oracles import OracleParams
from shared.roles import Role


class MembershipPopulationParams(OracleParams):
    tail: Literal["remembered", "erased", "both"] = Field(
        "remembered",
        description=(
            "which candidates look forgotten: those with a confidence above that of public "
            "samples, below it, or either (unlearning can undershoot or overshoot)"
        ),
    )


@registry.register(
    "membership_population",
    params=MembershipPopulationParams,
    needs=(Role.UNLEARNED, Role.CANDIDATES, Role.POPULATION),
    produces=(Role.SCORES,),
    source="the attack by population data of Ye et al. 2022, arXiv 2111.09679, on log-odds",
    access="black_box",
)
def run(view: CandidateView, params: MembershipPopulationParams, ctx: Context) -> MembershipScores:
    """Score each candidate by how far its log-odds are from those of public samples of its class.

    In standard deviations of the class, so the normal distribution's tail beyond it is a p-value.

    Raises:
        InvalidRequest: fewer than two public samples.
    """
    if view.population is None or len(view.population.labels) < 2:
        raise InvalidRequest(
            "POPULATION must hold at least two samples", f"inputs.{Role.POPULATION}"
        )
    scores = []
    for deletion, model in enumerate(view.after, start=1):
        population_log_odds = compute_log_odds(
            model(view.population.images), view.population.labels
        )
        candidate_log_odds = compute_log_odds(model(view.candidates.images), view.candidates.labels)
        scores.append(
            _standardise(
                candidate_log_odds,
                view.candidates.labels,
                population_log_odds,
                view.population.labels,
            )
        )
        ctx.report_progress(deletion, view.deletions)
    by_tail = {
        "remembered": torch.stack(scores),
        "erased": -torch.stack(scores),
        "both": torch.stack(scores).abs(),
    }
    return MembershipScores(by_tail[params.tail])


def _standardise(own: Tensor, labels: Tensor, public: Tensor, public_labels: Tensor) -> Tensor:
    """Distance to the class mean in standard deviations, [C]; classes with fewer than two samples
    use all."""
    distances = torch.empty_like(own)
    for label in labels.unique().tolist():
        same_class = public[public_labels == label]
        same_class = same_class if len(same_class) > 1 else public
        spread = same_class.std().clamp_min(1e-12)
        distances[labels == label] = (own[labels == label] - same_class.mean()) / spread
    return distances
