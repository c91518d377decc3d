"""Guessed classes: ANSWERS, scored against baselines; with SHADOWS, each guess has a p-value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml import baselines
from shared.ml.context import JobInputs
from shared.ml.metrics import registry
from shared.ml.pvalues import compute_claim_p
from shared.ml.records import ShadowScores, read_json
from shared.ml.samples import name_classes
from shared.ml.scored_kind import (
    GroundTruth,
    PublicData,
    ScoredKind,
    ScoredResult,
    read_threat_model,
)
from shared.ml.scoring import MetricScale, summarise_metric
from shared.ml.statistics import wilson
from shared.roles import Role

JSONObject = dict[str, Any]


class ScoredLabels(ScoredKind):
    """The classes of the forgotten samples."""

    role = Role.ANSWERS
    uses = (Role.SHADOWS,)

    def score(self, ctx: JobInputs, truth: GroundTruth) -> ScoredResult:
        value = read_json(ctx.read_input(self.role), self.role)
        guesses, true, threat_model = _read_guesses(value, truth.labels)
        metrics = score_labels(guesses, true, truth.dataset.num_classes, truth.public.labels)
        details: JSONObject = {"labels": guesses.tolist(), "truth": true.tolist()}
        if names := name_classes(
            truth.dataset, [*guesses.flatten().tolist(), *true.flatten().tolist()]
        ):
            details["names"] = names
        if Role.SHADOWS in ctx.inputs:
            shadows = ShadowScores.read(ctx.read_input(Role.SHADOWS), Role.SHADOWS)
            details["claims"] = _read_and_score_claims(
                value, shadows, guesses, true, ctx.params.alpha
            )
        return ScoredResult(metrics, threat_model, details={"answers": details})

    def describe(self, ctx: JobInputs, public: PublicData | None) -> ScoredResult:
        value = read_json(ctx.read_input(self.role), self.role)
        guesses, scores = _read_unscored(value)
        details: JSONObject = {
            "labels": guesses.tolist(),
            "margins": measure_margins(guesses, scores),
            "names": public.name_classes(guesses.flatten().tolist()) if public else {},
        }
        return ScoredResult(
            {}, read_threat_model(value, self.role), details={"unscored": {"labels": details}}
        )


KIND = ScoredLabels()


def _read_guesses(value: Any, truth: Tensor) -> tuple[Tensor, Tensor, JSONObject]:
    """Guessed and true classes, [D, k] (one per class if deletions are whole classes), and the
    threat model."""
    try:
        guesses = torch.tensor(_whole(value["labels"]), dtype=torch.int64)
        threat_model = read_threat_model(value, Role.ANSWERS)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        raise InvalidRequest(
            f"ANSWERS must hold integers 'labels': {error}", f"inputs.{Role.ANSWERS}"
        ) from error
    classes = [sorted(set(row)) for row in truth.tolist()]
    shapes = [list(truth.shape)]
    if len({len(row) for row in classes}) == 1 and len(classes[0]) < truth.shape[1]:
        shapes.append([len(classes), len(classes[0])])
    if list(guesses.shape) not in shapes or int(guesses.min()) < 0 or int(guesses.max()) >= 1000:
        expected = " or ".join(map(str, shapes))
        raise InvalidRequest(
            f"ANSWERS must hold 'labels' of shape {expected} to match FORGET_SETS, each from 0 to "
            "999",
            f"inputs.{Role.ANSWERS}",
        )
    return guesses, truth if guesses.shape == truth.shape else torch.tensor(classes), threat_model


def _read_unscored(value: Any) -> tuple[Tensor, Tensor]:
    """Guessed classes int64 [D, c] and the scores of all classes float64 [D, K], lower is likelier."""
    try:
        guesses = torch.tensor(_whole(value["labels"]), dtype=torch.int64)
        scores = torch.tensor(value["scores"], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidRequest(
            f"ANSWERS must hold integers 'labels' and numbers 'scores': {error}",
            f"inputs.{Role.ANSWERS}",
        ) from error
    if (
        guesses.dim() != 2
        or scores.dim() != 2
        or 0 in guesses.shape
        or len(scores) != len(guesses)
        or int(guesses.min()) < 0
        or int(guesses.max()) >= scores.shape[1]
        or not bool(scores.isfinite().all())
    ):
        raise InvalidRequest(
            "ANSWERS must hold 'labels' [D][c] and finite 'scores' [D][K] of all classes",
            f"inputs.{Role.ANSWERS}",
        )
    return guesses, scores


def measure_margins(guesses: Tensor, scores: Tensor) -> list[float | None]:
    """By how much the classes that were guessed lead the next one, as a share of the spread over
    all classes, in [0, 1]: 1 if all others score alike. None if no class is left.

    Args:
        guesses: int64 [D, c].
        scores: float64 [D, K], lower is likelier.
    """
    margins: list[float | None] = []
    for named, row in zip(guesses, scores, strict=True):
        others = torch.ones(len(row), dtype=torch.bool)
        others[named] = False
        spread = float(row.max() - row.min())
        if not bool(others.any()):
            margins.append(None)
            continue
        lead = float(row[others].min() - row[named].max())
        margins.append(min(1.0, max(0.0, lead / spread)) if spread else 0.0)
    return margins


def _whole(labels: list[list[Any]]) -> list[list[int]]:
    """Check that labels are whole numbers: torch would read 1.7 and true as 1.

    Raises:
        ValueError: one is not a whole number.
    """
    if not all(type(label) is int for row in labels for label in row):
        raise ValueError("a label is not an integer")
    return labels


def _read_and_score_claims(
    value: Any, shadows: ShadowScores, guesses: Tensor, truth: Tensor, alpha: float
) -> JSONObject:
    """Score the guesses by p-values from shadow deletions."""
    try:
        scores = torch.tensor(value["scores"], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidRequest(
            f"ANSWERS must hold 'scores' [D][K] for p-values: {error}", f"inputs.{Role.ANSWERS}"
        ) from error
    shadow_scores = torch.tensor(shadows.scores, dtype=torch.float64)
    if scores.dim() != 2 or len(scores) != len(guesses) or int(guesses.max()) >= scores.shape[1]:
        raise InvalidRequest(
            "ANSWERS must hold 'scores' [D][K] of the guessed classes", f"inputs.{Role.ANSWERS}"
        )
    p = compute_claim_p(guesses, scores, shadow_scores, torch.tensor(shadows.labels))
    return {
        "shadows": len(shadow_scores),
        "trainings": shadows.trainings,
        **score_claims(p, guesses, truth, alpha),
    }


def score_labels(guesses: Tensor, truth: Tensor, num_classes: int, public: Tensor) -> JSONObject:
    """Score by every label metric, with its baselines. Both int64 [D, k].

    Args:
        public: labels of public samples, int64 [N]. If one class is more common there, always
            guessing it is a baseline.
    """
    majority_class = public.mode().values if len(public) else public
    imbalanced = len(public.unique(return_counts=True)[1].unique()) > 1
    metrics: JSONObject = {}
    for plugin in registry:
        if plugin.takes != "label":
            continue
        values = plugin.target(guesses, truth)
        baseline_values = {"uniform_guess": score_uniform_guess(truth, num_classes).tolist()}
        if imbalanced:
            baseline_values["majority_guess"] = plugin.target(
                majority_class.expand_as(truth), truth
            ).tolist()
        permuted = baselines.score_permuted_truth(plugin.target, guesses, truth)
        if permuted is not None:
            baseline_values["permuted_truth"] = permuted.tolist()
        metrics[plugin.name] = summarise_metric(
            MetricScale.from_plugin(plugin),
            values.tolist(),
            baseline_values,
            # with several samples each, a deletion's share is not a trial that succeeds or fails
            is_proportion=truth.shape[1] == 1,
        )
    return metrics


def score_uniform_guess(truth: Tensor, num_classes: int) -> Tensor:
    """The expected score of k classes guessed uniformly, as different as possible.

    With k at most K classes, each is guessed with probability k / K, and a class that is forgotten
    several times can be right once: (distinct true classes) / K. Above, each is guessed k // K
    times, and k % K of them once more. int64 [D, k] -> float64 [D].
    """
    size = truth.shape[1]
    counts = torch.zeros(len(truth), max(num_classes, int(truth.max()) + 1), dtype=torch.float64)
    counts.scatter_add_(1, truth, torch.ones(truth.shape, dtype=torch.float64))
    every, some = divmod(size, num_classes)
    expected = counts.clamp_max(every) + (counts > every).double() * some / num_classes
    return expected.sum(1) / size


def score_claims(p: Tensor, guesses: Tensor, truth: Tensor, alpha: float) -> JSONObject:
    """Which deletions a label attack answers at `alpha`, and how often it is wrong. All tensors [D,
    c].

    A class is claimed if p <= alpha, and a deletion without a claim has no answer. An answered
    deletion is correct if every claimed class was forgotten. `wrong` counts over all deletions:
    that is what alpha bounds.
    """
    claimed = p <= alpha
    true = (guesses.unsqueeze(2) == truth.unsqueeze(1)).any(2)
    answered, wrong = claimed.any(1), (claimed & ~true).any(1)
    n, answered_count, wrong_count = len(p), int(answered.sum()), int(wrong.sum())
    low, high = wilson(wrong_count, n) or (None, None)
    correct_low, correct_high = wilson(answered_count - wrong_count, answered_count) or (None, None)
    return {
        "alpha": alpha,
        "p_values": p.tolist(),
        "n": n,
        "answered": answered_count,
        "correct": answered_count - wrong_count,
        "wrong": wrong_count,
        "wrong_low": low,
        "wrong_high": high,
        "correct_low": correct_low,
        "correct_high": correct_high,
    }
