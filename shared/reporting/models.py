"""The report as data: `report.json`, schema `palimpsest.report/1`."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JSONObject = dict[str, Any]
SCHEMA = "palimpsest.report/1"
Level = Literal["leaks", "reduced", "no_leak_seen", "inconclusive"]
Outcome = Literal["leak", "not_seen", "inconclusive"]


class Part(BaseModel):
    """Base of all parts: unknown keys of an evaluation are left out, values are frozen."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Method(Part):
    """A plugin and all its parameters."""

    method: str
    params: JSONObject = Field(default_factory=dict)


class Unlearning(Method):
    """What was done to forget."""

    exact: bool | None = Field(None, description="whether the model is as if the samples had never been there")
    repeat_ratio: float | None = Field(
        None, description="exact methods: share of the weight change that another order of the same retraining changes"
    )


class Tried(Part):
    """One setting of a defense."""

    value: float
    validation_accuracy: float


class Strength(Part):
    """How a defense's strength was chosen. No attack was looked at for it."""

    name: str = Field(description="the parameter that is the strength")
    value: float = Field(description="the setting that was released")
    why: str
    tried: list[Tried] = Field(default_factory=list)
    accuracy_without: float | None = Field(None, description="validation accuracy of the undefended models")
    max_accuracy_cost: float | None = Field(None, description="validation accuracy that the defense may cost")
    validation_samples: int | None = None


class Defense(Method):
    """What was done to the unlearned models before release; `none` is none."""

    strength: Strength | None = None


class Score(Part):
    """One metric of one row, next to its strongest null. Intervals are 95 %."""

    mean: float
    median: float | None = None
    worst: float | None = Field(None, description="the deletion that leaked least")
    best: float | None = Field(None, description="the deletion that leaked most")
    low: float | None = None
    high: float | None = None
    interval: str | None = Field(None, description="bca or wilson")
    null: float | None = Field(None, description="the same score for an attacker who saw nothing; the strongest counts")
    null_name: str | None = None
    nulls: dict[str, float] = Field(default_factory=dict, description="all nulls by name; those of few samples too")
    n: int
    unit: str
    higher_is_better: bool
    gain: float | None = Field(None, description="mean paired difference to the null; positive: the attack beats it")
    gain_low: float | None = None
    gain_high: float | None = None


class Identification(Part):
    """Rank of each truth among decoys of its class, by distance to the reconstruction; 1 is identified."""

    n: int
    decoys: int
    rank_1: int
    share: float
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    chance: float
    median_rank: float | None = None
    worst_rank: int | None = None
    ranks: list[int] = Field(default_factory=list)


class Utility(Part):
    """Accuracies of the released models, mean over deletions, next to the original's."""

    retain_accuracy: float
    forget_accuracy: float
    test_accuracy: float
    original_retain_accuracy: float
    original_forget_accuracy: float
    original_test_accuracy: float
    test_samples: int | None = None


class Answers(Part):
    """Classes that a label attack named, and the true ones; one list a deletion."""

    labels: list[list[int]]
    truth: list[list[int]]


class Finding(Part):
    """What one row shows, by the rules of `shared.reporting.findings`."""

    outcome: Outcome
    reason: str


class Row(Part):
    """One attack on the released models of one (unlearning, defense, seed)."""

    seed: int
    unlearning: Unlearning
    defense: Defense
    attack: Method
    threat_model: JSONObject
    deletions: int
    size: int = Field(description="k, samples in each deletion")
    metrics: dict[str, Score]
    identification: Identification | None
    answers: Answers | None
    utility: Utility | None
    finding: Finding
    note: str | None
    evaluation: str = Field(description="sha256 of the EVALUATION that this row repeats")


class Missing(Part):
    """A row that the audit asked for and that is not here. `attack` is null where the utility is missing."""

    seed: int
    unlearning: Method
    defense: Method
    attack: Method | None
    why: str


class Verdict(Part):
    """All rows in words."""

    level: Level
    headline: str
    sentences: list[str]


class Provenance(Part):
    """What repeats the report."""

    conditions: list[JSONObject] = Field(description="distinct conditions that the evaluations ran under")
    palimpsest: str
    audit: JSONObject
    command: str
    evaluations: list[str]


class Report(Part):
    """An audit's result."""

    schema_: Literal["palimpsest.report/1"] = Field("palimpsest.report/1", alias="schema")
    name: str
    verdict: Verdict
    rows: list[Row]
    missing: list[Missing]
    provenance: Provenance
    limits: list[str]

    def json_value(self) -> JSONObject:
        """The report as JSON."""
        return self.model_dump(mode="json", by_alias=True)


def schema_text() -> str:
    """JSON Schema of report.json, as docs/report.schema.json holds it."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")  # noqa: T201 - a command that prints
