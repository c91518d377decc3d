"""Who was forgotten, told by how sure the released model still is of the candidates."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks import registry
from shared.ml.attacks._log_odds import log_odds
from shared.ml.context import Context
from shared.ml.observations import Candidates, Scores
from shared.ml.oracles import API
from shared.roles import Role


class MembershipPopulationParams(API):
    tail: Literal["remembered", "erased", "both"] = Field(
        "remembered",
        description="which candidates look forgotten: those the model is surer of than of the public, less sure, or "
        "either, as unlearning can fall short and overshoot",
    )


@registry.register(
    "membership_population",
    params=MembershipPopulationParams,
    needs=(Role.UNLEARNED, Role.CANDIDATES, Role.POPULATION),
    produces=(Role.SCORES,),
    source="the attack by population data of Ye et al. 2022, arXiv 2111.09679, on log-odds",
    access="black_box",
)
def run(observation: Candidates, params: MembershipPopulationParams, ctx: Context) -> Scores:
    """How far the released model's log-odds of a candidate lie from those of public samples of its class.

    In standard deviations of the class: the normal distribution's tail beyond it is its p-value.

    Raises:
        InvalidRequest: fewer than two public samples.
    """
    if observation.population is None or len(observation.population.labels) < 2:
        raise InvalidRequest("a population needs two samples at least", f"inputs.{Role.POPULATION}")
    scores = []
    for deletion, model in enumerate(observation.after, start=1):
        public = log_odds(model(observation.population.images), observation.population.labels)
        own = log_odds(model(observation.candidates.images), observation.candidates.labels)
        scores.append(_beyond(own, observation.candidates.labels, public, observation.population.labels))
        ctx.progress(deletion, observation.deletions)
    towards = {"remembered": torch.stack(scores), "erased": -torch.stack(scores), "both": torch.stack(scores).abs()}
    return Scores(towards[params.tail])


def _beyond(own: Tensor, labels: Tensor, public: Tensor, public_labels: Tensor) -> Tensor:
    """Distance to the mean of the class in its standard deviations, [C]; of a class of less than two, of all."""
    distances = torch.empty_like(own)
    for label in labels.unique().tolist():
        alike = public[public_labels == label]
        alike = alike if len(alike) > 1 else public
        spread = alike.std().clamp_min(1e-12)
        distances[labels == label] = (own[labels == label] - alike.mean()) / spread
    return distances
