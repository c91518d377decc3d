"""Who was forgotten, told by how two models' answers about the candidates differ."""

from __future__ import annotations

import torch

from shared.ml.attacks import registry
from shared.ml.attacks._log_odds import log_odds
from shared.ml.context import Context
from shared.ml.observations import Candidates, Scores
from shared.ml.oracles import API
from shared.roles import Role


class MembershipDifferenceParams(API):
    pass


@registry.register(
    "membership_difference",
    params=MembershipDifferenceParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED, Role.CANDIDATES),
    produces=(Role.SCORES,),
    source="after Chen et al. 2021, arXiv 2005.02205, whose attacker also trains shadow models: this one needs none",
    access="black_box",
)
def run(observation: Candidates, params: MembershipDifferenceParams, ctx: Context) -> Scores:  # noqa: ARG001 - the API is asked already
    """The candidates of whose label the model became less sure: log-odds before the deletion minus those after it."""
    images, labels = observation.candidates
    known = {oracle: log_odds(oracle(images), labels) for oracle in dict.fromkeys(observation.before)}
    scores = []
    for deletion, (before, after) in enumerate(zip(observation.before, observation.after, strict=True), start=1):
        scores.append(known[before] - log_odds(after(images), labels))
        ctx.progress(deletion, observation.deletions)
    return Scores(torch.stack(scores))
