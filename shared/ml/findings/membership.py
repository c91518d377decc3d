"""Membership among candidates: SCORES of forgotten and of retained samples, compared with
non-members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.context import JobInputs
from shared.ml.metrics import registry
from shared.ml.metrics.tpr import FPR
from shared.ml.ranks import auc_interval, compute_wins, midranks, rank_sum_p, split_randomly
from shared.ml.records import ForgetSets, MembershipRecord
from shared.ml.scored_kind import GroundTruth, ScoredKind, ScoredResult, read_threat_model
from shared.ml.scoring import MetricScale, summarise_metric
from shared.ml.tensors import read_tensors
from shared.roles import Role

JSONObject = dict[str, Any]
GROUPS = ("forgotten", "retained")


class ScoredMembership(ScoredKind):
    """Which of the candidates were forgotten."""

    role = Role.SCORES
    uses = (Role.MEMBERSHIP,)

    def score(self, ctx: JobInputs, truth: GroundTruth) -> ScoredResult:
        scores, members, threat_model = _read_scores(ctx, truth.forget_sets)
        return ScoredResult(
            score_membership(scores, members, truth.forget_sets, ctx.make_generator("membership")),
            threat_model,
        )


KIND = ScoredMembership()


def _read_scores(ctx: JobInputs, truth: ForgetSets) -> tuple[Tensor, MembershipRecord, JSONObject]:
    """Scores of the candidates, which samples they are, and the threat model."""
    members = MembershipRecord.read(ctx.read_input(Role.MEMBERSHIP), Role.MEMBERSHIP)
    forgotten = {index for row in truth.indices for index in row}
    trained = {
        index
        for index, is_trained in zip(members.indices, members.trained, strict=True)
        if is_trained
    }
    if members.digest != truth.digest or not forgotten <= trained or all(members.trained):
        raise InvalidRequest(
            "MEMBERSHIP must list all samples of FORGET_SETS as trained on, and at least one "
            "non-member",
            f"inputs.{Role.MEMBERSHIP}",
        )
    tensors, metadata = read_tensors(ctx.read_input(Role.SCORES), Role.SCORES)
    scores, shape = tensors.get("scores"), (len(truth.indices), len(members.indices))
    if scores is None or tuple(scores.shape) != shape or scores.dtype != torch.float64:
        raise InvalidRequest(
            f"SCORES must hold float64 'scores' {list(shape)}, one per deletion and candidate",
            f"inputs.{Role.SCORES}",
        )
    return scores, members, read_threat_model(metadata, Role.SCORES)


class CandidateSet:
    """The candidate set: scores of all candidates, and who they are. Only samples of one class are
    compared.

    Forgetting a class shifts the scores of all its samples, which reveals the class but not
    membership. A sample without non-members of its class is compared with all non-members.

    Args:
        scores: float64 [D, C], higher means more likely forgotten.
    """

    def __init__(self, scores: Tensor, members: MembershipRecord, truth: ForgetSets) -> None:
        self.scores = scores
        self.labels = torch.tensor(members.labels)
        position = {index: at for at, index in enumerate(members.indices)}
        trained = torch.tensor(members.trained)
        all_forgotten = {index for row in truth.indices for index in row}
        # [D, k] candidates that each deletion forgot; members that none forgot; non-members
        self.forgotten = torch.tensor([[position[index] for index in row] for row in truth.indices])
        kept = torch.tensor([index not in all_forgotten for index in members.indices])
        self.retained = (trained & kept).nonzero().flatten()
        self.non_members = (~trained).nonzero().flatten()

    def find_comparable(self, candidate: int) -> Tensor:
        """Positions in `non_members` of those that a candidate is compared with."""
        same_class = (self.labels[self.non_members] == self.labels[candidate]).nonzero().flatten()
        return same_class if len(same_class) else torch.arange(len(self.non_members))

    def apply_metric(self, metric: Callable[[Tensor, Tensor], Tensor], group: str) -> Tensor:
        """The metric of each forgotten sample [D * k], or of each retained one [R], averaged over
        deletions."""
        non_member_scores = self.scores[:, self.non_members]
        if group == "forgotten":
            return torch.cat(
                [
                    metric(
                        self.scores[d, c].view(1),
                        non_member_scores[d, self.find_comparable(c)].unsqueeze(0),
                    )
                    for d, row in enumerate(self.forgotten.tolist())
                    for c in row
                ]
            )
        values = [
            metric(self.scores[:, c], non_member_scores[:, self.find_comparable(c)]).mean()
            for c in self.retained.tolist()
        ]
        return torch.stack(values)

    def compute_wins(self, group: str) -> tuple[Tensor, Tensor]:
        """Comparisons [n, M] with all non-members, and the weight of each; see `auc_interval`."""
        if group == "forgotten":
            rows = torch.arange(len(self.forgotten)).repeat_interleave(self.forgotten.shape[1])
            places = self.forgotten.flatten()
            wins = compute_wins(self.scores[rows, places], self.scores[rows][:, self.non_members])
        else:
            places = self.retained
            wins = torch.stack(
                [
                    compute_wins(self.scores[:, c], self.scores[:, self.non_members]).mean(0)
                    for c in places.tolist()
                ]
            )
        weights = torch.zeros_like(wins)
        for row, c in enumerate(places.tolist()):
            comparable = self.find_comparable(c)
            weights[row, comparable] = 1 / len(comparable)
        return wins, weights

    def build_strata(self, group: str, generator: torch.Generator) -> list[tuple[Tensor, int]]:
        """Strata that are exchangeable if nothing leaks; see `rank_sum_p`.

        Every non-member is compared with the forgotten samples of one deletion only, as its scores
        in several deletions are dependent. Retained samples are retained in all deletions, so mean
        ranks over deletions are compared.
        """
        strata = []
        non_member_labels = self.labels[self.non_members]
        for label in non_member_labels.unique(sorted=True).tolist():
            non_members = self.non_members[non_member_labels == label]
            if group == "retained":
                retained = self.retained[self.labels[self.retained] == label]
                if len(retained):
                    strata.append(
                        (
                            midranks(self.scores[:, torch.cat([retained, non_members])]).mean(0),
                            len(retained),
                        )
                    )
                continue
            sets = [(d, row[self.labels[row] == label]) for d, row in enumerate(self.forgotten)]
            sets = [(d, row) for d, row in sets if len(row)]
            for (d, row), part in zip(
                sets, split_randomly(len(non_members), len(sets), generator), strict=True
            ):
                if len(part):
                    strata.append(
                        (midranks(self.scores[d, torch.cat([row, non_members[part]])]), len(row))
                    )
        return strata


def score_membership(
    scores: Tensor, members: MembershipRecord, truth: ForgetSets, generator: torch.Generator
) -> JSONObject:
    """Every membership metric, `_forgotten` and (if any sample was retained) `_retained`, with
    chance as the baseline.

    AUCs also have the p-value of `rank_sum_p`. A true positive rate is left out if no class has
    enough non-members for any sample to be detected.

    Args:
        scores: float64 [D, C].
    """
    candidates, metrics = CandidateSet(scores, members, truth), {}
    size = candidates.forgotten.shape[1]
    for group in GROUPS:
        places = candidates.forgotten.flatten() if group == "forgotten" else candidates.retained
        if not len(places):
            continue
        non_member_counts = [len(candidates.find_comparable(c)) for c in places.tolist()]
        for plugin in registry:
            if plugin.takes != "membership":
                continue
            values = candidates.apply_metric(plugin.target, group).tolist()
            fixed_chance = plugin.chance
            chances = [
                int(FPR * (m + 1) + 1e-9) / (m + 1) if fixed_chance is None else fixed_chance
                for m in non_member_counts
            ]
            if not any(chances):
                continue
            independent = size == 1 or group == "retained"
            part = summarise_metric(
                MetricScale.from_plugin(plugin),
                values,
                {"chance": chances},
                is_proportion=independent,
                deletion_size=1 if independent else size,
            )
            if plugin.name == "auc":
                part |= _summarise_auc(candidates, group, generator)
                ends = {end: part[end] - part["baseline"] for end in ("low", "high")}
                part["gain"] |= ends | {"interval": part["interval"]}
            metrics[f"{plugin.name}_{group}"] = part | {"non_members": len(candidates.non_members)}
    return metrics


def _summarise_auc(candidates: CandidateSet, group: str, generator: torch.Generator) -> JSONObject:
    wins, weights = candidates.compute_wins(group)
    units = torch.arange(len(wins))
    if group == "forgotten":
        units = units // candidates.forgotten.shape[1]
    low, high = auc_interval(wins, weights, candidates.labels[candidates.non_members], units)
    p, p_below = rank_sum_p(candidates.build_strata(group, generator), generator) or (None, None)
    return {"low": low, "high": high, "interval": "newcombe", "p": p, "p_below": p_below}
