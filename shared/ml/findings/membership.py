"""Who was forgotten, among candidates: SCORES, of forgotten and retained samples each against the never-trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.context import JobInputs
from shared.ml.finding import GroundTruth, Scored, ScoredKind, stated_threat_model
from shared.ml.metrics import registry
from shared.ml.metrics.tpr import FPR
from shared.ml.ranks import above, auc_interval, interleaved, midranks, rank_sum_p
from shared.ml.records import ForgetSets, Membership
from shared.ml.scoring import Measure, summary
from shared.ml.tensors import read_tensors
from shared.roles import Role

JSONObject = dict[str, Any]
KINDS = ("forgotten", "retained")


class MembershipKind(ScoredKind):
    """Which of the candidates were forgotten."""

    role = Role.SCORES
    uses = (Role.MEMBERSHIP,)

    def score(self, ctx: JobInputs, truth: GroundTruth) -> Scored:
        scores, members, threat_model = _read(ctx, truth.forget_sets)
        return Scored(score_membership(scores, members, truth.forget_sets, ctx.generator("membership")), threat_model)


KIND = MembershipKind()


def _read(ctx: JobInputs, truth: ForgetSets) -> tuple[Tensor, Membership, JSONObject]:
    """Scores of the candidates, which samples those are, and what the attack told of itself."""
    members = Membership.read(ctx.input(Role.MEMBERSHIP), Role.MEMBERSHIP)
    forgotten = {index for row in truth.indices for index in row}
    trained = {index for index, so in zip(members.indices, members.trained, strict=True) if so}
    if members.digest != truth.digest or not forgotten <= trained or all(members.trained):
        raise InvalidRequest(
            "MEMBERSHIP must name all that FORGET_SETS does as trained on, and samples that were never trained on",
            f"inputs.{Role.MEMBERSHIP}",
        )
    tensors, about = read_tensors(ctx.input(Role.SCORES), Role.SCORES)
    scores, shape = tensors.get("scores"), (len(truth.indices), len(members.indices))
    if scores is None or tuple(scores.shape) != shape or scores.dtype != torch.float64:
        raise InvalidRequest(
            f"SCORES must hold float64 'scores' {list(shape)}, one of each candidate a deletion",
            f"inputs.{Role.SCORES}",
        )
    return scores, members, stated_threat_model(about, Role.SCORES)


class Lineup:
    """Scores of all candidates, and which candidate is which. Only samples of one class are compared.

    A class that is forgotten drifts with all its samples: that tells the class, and is no membership. Without a
    never-trained sample of its class, a sample is held against all of them.

    Args:
        scores: float64 [D, C], higher is likelier a member that was forgotten.
    """

    def __init__(self, scores: Tensor, members: Membership, truth: ForgetSets) -> None:
        self.scores = scores
        self.labels = torch.tensor(members.labels)
        place = {index: at for at, index in enumerate(members.indices)}
        trained = torch.tensor(members.trained)
        gone = {index for row in truth.indices for index in row}
        # [D, k] candidates that each deletion forgot; those that none forgot; those that none was trained on
        self.forgotten = torch.tensor([[place[index] for index in row] for row in truth.indices])
        kept = torch.tensor([index not in gone for index in members.indices])
        self.retained = (trained & kept).nonzero().flatten()
        self.never = (~trained).nonzero().flatten()

    def against(self, candidate: int) -> Tensor:
        """Places in `never` of those that a candidate is held against."""
        alike = (self.labels[self.never] == self.labels[candidate]).nonzero().flatten()
        return alike if len(alike) else torch.arange(len(self.never))

    def each(self, metric: Callable[[Tensor, Tensor], Tensor], kind: str) -> Tensor:
        """Of each forgotten sample [D * k], or each retained one [R] as the mean over deletions."""
        never = self.scores[:, self.never]
        if kind == "forgotten":
            return torch.cat(
                [
                    metric(self.scores[d, c].view(1), never[d, self.against(c)].unsqueeze(0))
                    for d, row in enumerate(self.forgotten.tolist())
                    for c in row
                ]
            )
        of_each = [metric(self.scores[:, c], never[:, self.against(c)]).mean() for c in self.retained.tolist()]
        return torch.stack(of_each)

    def wins(self, kind: str) -> tuple[Tensor, Tensor]:
        """Comparisons [n, M] with all that were never trained on, and the weight of each; see `auc_interval`."""
        if kind == "forgotten":
            rows = torch.arange(len(self.forgotten)).repeat_interleave(self.forgotten.shape[1])
            places = self.forgotten.flatten()
            won = above(self.scores[rows, places], self.scores[rows][:, self.never])
        else:
            places = self.retained
            won = torch.stack([above(self.scores[:, c], self.scores[:, self.never]).mean(0) for c in places.tolist()])
        weights = torch.zeros_like(won)
        for row, c in enumerate(places.tolist()):
            alike = self.against(c)
            weights[row, alike] = 1 / len(alike)
        return won, weights

    def strata(self, kind: str, generator: torch.Generator) -> list[tuple[Tensor, int]]:
        """What is exchangeable if nothing leaks; see `rank_sum_p`.

        Every never-trained sample stands against the forgotten of one deletion only, as its scores in several
        would depend on each other. Retained samples were so in all deletions: there it stands with its mean rank.
        """
        found = []
        of_class = self.labels[self.never]
        for label in of_class.unique(sorted=True).tolist():
            never = self.never[of_class == label]
            if kind == "retained":
                kept = self.retained[self.labels[self.retained] == label]
                if len(kept):
                    found.append((midranks(self.scores[:, torch.cat([kept, never])]).mean(0), len(kept)))
                continue
            sets = [(d, row[self.labels[row] == label]) for d, row in enumerate(self.forgotten)]
            sets = [(d, row) for d, row in sets if len(row)]
            for (d, row), part in zip(sets, interleaved(len(never), len(sets), generator), strict=True):
                if len(part):
                    found.append((midranks(self.scores[d, torch.cat([row, never[part]])]), len(row)))
        return found


def score_membership(scores: Tensor, members: Membership, truth: ForgetSets, generator: torch.Generator) -> JSONObject:
    """Every metric of membership, `_forgotten` and, where any sample was kept, `_retained`, beside what chance gives.

    Of AUCs too the p of `rank_sum_p`. A true positive rate is left out where all classes have too few
    never-trained samples for any to be told.

    Args:
        scores: float64 [D, C].
    """
    lineup, parts = Lineup(scores, members, truth), {}
    size = lineup.forgotten.shape[1]
    for kind in KINDS:
        places = lineup.forgotten.flatten() if kind == "forgotten" else lineup.retained
        if not len(places):
            continue
        counts = [len(lineup.against(c)) for c in places.tolist()]
        for plugin in registry:
            if plugin.takes != "membership":
                continue
            values = lineup.each(plugin.target, kind).tolist()
            known = plugin.chance
            chances = [int(FPR * (m + 1) + 1e-9) / (m + 1) if known is None else known for m in counts]
            if not any(chances):
                continue
            alone = size == 1 or kind == "retained"
            part = summary(Measure.of(plugin), values, {"chance": chances}, proportion=alone, size=1 if alone else size)
            if plugin.name == "auc":
                part |= _auc(lineup, kind, generator)
                ends = {end: part[end] - part["null"] for end in ("low", "high")}
                part["gain"] |= ends | {"interval": part["interval"]}
            parts[f"{plugin.name}_{kind}"] = part | {"others": len(lineup.never)}
    return parts


def _auc(lineup: Lineup, kind: str, generator: torch.Generator) -> JSONObject:
    won, weights = lineup.wins(kind)
    units = torch.arange(len(won))
    if kind == "forgotten":
        units = units // lineup.forgotten.shape[1]
    low, high = auc_interval(won, weights, lineup.labels[lineup.never], units)
    p = rank_sum_p(lineup.strata(kind, generator), generator)
    return {"low": low, "high": high, "interval": "newcombe", "p": p}
