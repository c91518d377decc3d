"""EVALUATION artifacts as they come in: bytes that may be anyone's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator, model_validator

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.jobs.spec import Seed
from shared.reporting.models import (
    Answers,
    Count,
    Defense,
    Identification,
    JSONObject,
    Method,
    Number,
    Part,
    Score,
    Strength,
    Unlearning,
    Utility,
)

IMAGE, LABEL = "psnr", "label_accuracy"
MEMBER, TELLING, STAYED = "auc_forgotten", "tpr_forgotten", "auc_retained"
RANK = "decoy_rank_1"
DEEPEST = 32  # what is nested in what is nested: nobody means that


class Gain(Part):
    """Paired difference to the null."""

    mean: Number
    low: Number | None = None
    high: Number | None = None


class Measured(Score):
    """A metric as `evaluate` writes it, its gain an object of its own."""

    gain: Gain | None = None  # type: ignore[assignment]  # flat in a report, nested in an evaluation
    values: list[Number] = Field(default_factory=list)
    null_values: dict[str, list[Number]] = Field(default_factory=dict)

    def score(self) -> Score:
        gain = self.gain
        flat = {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high} if gain else {"gain": None}
        return Score.model_validate(self.model_dump() | flat)


class Evaluation(Part):
    """What one evaluate job wrote. `attack` is null where only the released models' utility was measured."""

    seed: Seed
    deletions: Count
    size: Count
    unlearning: Unlearning | None = None
    defense: Defense | None = None
    attack: Method | None = None
    threat_model: JSONObject | None = None
    metrics: dict[str, Measured] = Field(default_factory=dict)
    identification: Identification | None = None
    answers: Answers | None = None
    utility: Utility | None = None
    provenance: JSONObject = Field(default_factory=dict)

    @field_validator("identification", mode="before")
    @classmethod
    def _none_to_stand_among(cls, told: Any) -> Any:
        return None if isinstance(told, dict) and not (told.get("n") and told.get("decoys")) else told

    @field_validator("threat_model")
    @classmethod
    def _observes_roles(cls, told: JSONObject | None) -> JSONObject | None:
        roles = (told or {}).get("observes", [])
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise ValueError("observes must be a list of roles")
        return told

    @model_validator(mode="after")
    def _labels_are_shares(self) -> Evaluation:
        for name in (LABEL, MEMBER, STAYED):
            if name in self.metrics and self.metrics[name].unit != "share":
                raise ValueError(f"{name} must have the unit share")
        return self


@dataclass(frozen=True)
class Found:
    """An evaluation and the sha256 of its bytes. What was not told is named so, never guessed."""

    evaluation: Evaluation
    sha256: str

    @property
    def unlearning(self) -> Unlearning:
        return self.evaluation.unlearning or Unlearning(method="not stated")

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
    return Found(validated(Evaluation, value, role, f"inputs.{role}"), hashlib.sha256(data).hexdigest())


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
    ranks = evaluation.identification
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
    ranks, score = evaluation.identification, evaluation.metrics.get(IMAGE)
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
