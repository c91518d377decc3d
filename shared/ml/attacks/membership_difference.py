"""Membership from how the outputs of two models differ on the candidates."""

from __future__ import annotations

import torch

from shared.ml.attack_io import CandidateView, MembershipScores
from shared.ml.attacks import registry
from shared.ml.attacks._log_odds import compute_log_odds
from shared.ml.context import Context
from shared.ml.oracles import OracleParams
from shared.roles import Role


class MembershipDifferenceParams(OracleParams):
    pass


@registry.register(
    "membership_difference",
    params=MembershipDifferenceParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED, Role.CANDIDATES),
    produces=(Role.SCORES,),
    source="after Chen et al. 2021, arXiv 2005.02205, without its shadow models",
    access="black_box",
)
def run(view: CandidateView, params: MembershipDifferenceParams, ctx: Context) -> MembershipScores:  # noqa: ARG001 - the API is asked already
    """Score each candidate by its loss of confidence: log-odds before the deletion minus those
    after it."""
    images, labels = view.candidates
    log_odds_before = {
        oracle: compute_log_odds(oracle(images), labels) for oracle in dict.fromkeys(view.before)
    }
    scores = []
    for deletion, (before, after) in enumerate(zip(view.before, view.after, strict=True), start=1):
        scores.append(log_odds_before[before] - compute_log_odds(after(images), labels))
        ctx.report_progress(deletion, view.deletions)
    return MembershipScores(torch.stack(scores))
