"""EVALUATION artifacts as they come in: bytes that may be anyone's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.reporting.models import (
    Answers,
    Defense,
    Identification,
    JSONObject,
    Method,
    Part,
    Score,
    Strength,
    Unlearning,
    Utility,
)

IMAGE, LABEL = "psnr", "label_accuracy"
RANK = "decoy_rank_1"


class Gain(Part):
    """Paired difference to the null."""

    mean: float
    low: float | None = None
    high: float | None = None


class Measured(Score):
    """A metric as `evaluate` writes it, its gain an object of its own."""

    gain: Gain | None = None  # type: ignore[assignment]  # flat in a report, nested in an evaluation

    def score(self) -> Score:
        gain = self.gain
        flat = {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high} if gain else {"gain": None}
        return Score.model_validate(self.model_dump() | flat)


class Evaluation(Part):
    """What one evaluate job wrote. `attack` is null where only the released models' utility was measured."""

    seed: int
    deletions: int
    size: int
    unlearning: Unlearning | None = None
    defense: Defense | None = None
    attack: Method | None = None
    threat_model: JSONObject | None = None
    metrics: dict[str, Measured] = Field(default_factory=dict)
    identification: JSONObject | None = None
    answers: Answers | None = None
    utility: Utility | None = None
    provenance: JSONObject = Field(default_factory=dict)


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
    return Found(validated(Evaluation, value, role, f"inputs.{role}"), hashlib.sha256(data).hexdigest())


def scores(evaluation: Evaluation) -> dict[str, Score]:
    """All metrics, identification among them as a proportion."""
    found = {name: measured.score() for name, measured in sorted(evaluation.metrics.items())}
    ranks = identification(evaluation)
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


def identification(evaluation: Evaluation) -> Identification | None:
    """Ranks among decoys; None where there were none to stand among."""
    told = evaluation.identification
    if not told or not told.get("n") or not told.get("decoys"):
        return None
    return validated(Identification, told, "identification", "inputs.EVALUATION")


def main_metric(metrics: Iterable[str]) -> str | None:
    """The metric that decides what a row shows: PSNR for images, accuracy for labels, else any with a null."""
    names = sorted(set(metrics) - {RANK})
    return next((name for name in (IMAGE, LABEL) if name in names), names[0] if names else None)


def identity(method: Method) -> tuple[str, str]:
    """What makes two methods the same choice of the audit: a strength that was chosen for a seed does not."""
    strength: Strength | None = method.strength if isinstance(method, Defense) else None
    params = {name: value for name, value in method.params.items() if strength is None or name != strength.name}
    return method.method, json.dumps(params, sort_keys=True)
