"""EVALUATION artifacts as they come in: bytes that may be anyone's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.evaluation import Defense, Evaluation, Method, Score, Strength, Unlearning

IMAGE, LABEL = "psnr", "label_accuracy"
MEMBER, TELLING, STAYED = "auc_forgotten", "tpr_forgotten", "auc_retained"
RANK = "decoy_rank_1"
DEEPEST = 32  # what is nested in what is nested: nobody means that


@dataclass(frozen=True)
class Found:
    """An evaluation and the sha256 of its bytes. What was not told is named so, never guessed."""

    evaluation: Evaluation
    sha256: str

    @property
    def unlearning(self) -> Unlearning:
        done = self.evaluation.unlearning
        return Unlearning.model_validate(done.model_dump()) if done else Unlearning(method="not stated")

    @property
    def defense(self) -> Defense:
        return self.evaluation.defense or Defense(method="not stated")

    @property
    def attack(self) -> Method | None:
        """None where nothing was attacked."""
        return self.evaluation.attack or (Method(method="not stated") if self.evaluation.metrics else None)


def read_evaluation(data: bytes, role: str) -> Found:
    """Parse one EVALUATION.

    Raises:
        InvalidRequest: not JSON, or not of that shape; the message names the role.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{role} is not JSON: {error}", f"inputs.{role}") from error
    check_json(value, role, f"inputs.{role}")
    evaluation = validated(Evaluation, value, role, f"inputs.{role}")
    for name in (LABEL, MEMBER, STAYED):
        if name in evaluation.metrics and evaluation.metrics[name].unit != "share":
            raise InvalidRequest(f"{role}.metrics.{name} must have the unit share", f"inputs.{role}")
    return Found(evaluation, hashlib.sha256(data).hexdigest())


def check_json(value: Any, what: str, field: str) -> None:
    """Refuse what Python reads as JSON and cannot be written again: NaN, halves of characters, endless nesting.

    Raises:
        InvalidRequest: it is such a value; the message starts with `what`.
    """

    def deeper(value: Any, left: int) -> bool:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        return left < 0 or any(deeper(one, left - 1) for one in inner)

    if deeper(value, DEEPEST):
        raise InvalidRequest(f"{what} is nested deeper than {DEEPEST}", field)
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise InvalidRequest(f"{what} is not JSON: {error}", field) from error


def scores(evaluation: Evaluation) -> dict[str, Score]:
    """All metrics, identification among them as a proportion."""
    found = {name: measured.score() for name, measured in sorted(evaluation.metrics.items())}
    ranks = evaluation.ranks
    if ranks is not None:
        found[RANK] = Score(
            mean=ranks.share,
            low=ranks.low,
            high=ranks.high,
            interval=ranks.interval,
            null=ranks.chance,
            null_name="chance",
            n=ranks.n,
            unit="share",
            higher_is_better=True,
            gain=ranks.share - ranks.chance,
            gain_low=None if ranks.low is None else ranks.low - ranks.chance,
            gain_high=None if ranks.high is None else ranks.high - ranks.chance,
        )
    return found


def recovered(evaluation: Evaluation) -> int:
    """Deletions that are identified and whose own score beats their own null; all identified where scores are not told.

    A rank of 1 alone comes by chance, once in decoys + 1.
    """
    ranks, score = evaluation.ranks, evaluation.metrics.get(IMAGE)
    if ranks is None or score is None:
        return 0
    nulls = score.null_values.get(score.null_name or "", [])
    if not len(ranks.ranks) == len(score.values) == len(nulls) == ranks.n:
        return ranks.rank_1
    both = zip(ranks.ranks, score.values, nulls, strict=True)
    return sum(rank == 1 and own > null for rank, own, null in both)


def main_metric(metrics: Iterable[str]) -> str | None:
    """The metric that decides what a row shows: PSNR for images, accuracy for labels, AUC for members, else any."""
    names = sorted(set(metrics) - {RANK})
    return next((name for name in (IMAGE, LABEL, MEMBER) if name in names), names[0] if names else None)


def knows(attack: Method) -> bool:
    """Whether the attacker knows the defense."""
    return attack.params.get("adaptive") is True


def unaware(attack: Method) -> Method:
    """The attack without a word on whether the attacker knows the defense: one and the same for both."""
    return Method(method=attack.method, params={n: v for n, v in attack.params.items() if n != "adaptive"})


def without_strength(method: Method) -> Method:
    """The method without the strength that was chosen for its seed: the same for all seeds."""
    strength: Strength | None = method.strength if isinstance(method, Defense) else None
    params = {name: value for name, value in method.params.items() if strength is None or name != strength.name}
    return Method(method=method.method, params=params)


def identity(method: Method) -> tuple[str, str]:
    """What makes two methods the same choice of the audit: a strength that was chosen for a seed does not."""
    return method.method, json.dumps(without_strength(method).params, sort_keys=True)
