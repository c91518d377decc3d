"""The report as data: `report.json`, schema `palimpsest.report/1`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.jobs.spec import Seed

JSONObject = dict[str, Any]
SCHEMA = "palimpsest.report/1"
Level = Literal["leaks", "reduced", "no_leak_seen", "inconclusive"]
Outcome = Literal["leak", "not_seen", "inconclusive"]
# Evaluations may be anyone's: what is out of these bounds is refused before a rule or a chart meets it.
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Label = Annotated[int, Field(ge=0, le=1_000_000)]


class Part(BaseModel):
    """Base of all parts: unknown keys of an evaluation are left out, values are frozen and finite."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Method(Part):
    """A plugin and all its parameters."""

    method: str
    params: JSONObject = Field(default_factory=dict)


class Unlearning(Method):
    """What was done to forget."""

    exact: bool | None = Field(None, description="whether the model is as if the samples had never been there")
    repeat_ratio: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="exact methods: share of the weight change that another order of the same retraining changes",
    )


class Tried(Part):
    """One setting of a defense."""

    value: float
    validation_accuracy: Share


class Strength(Part):
    """How a defense's strength was chosen. No attack was looked at for it."""

    name: str = Field(description="the parameter that is the strength")
    value: float = Field(description="the setting that was released")
    why: str
    tried: list[Tried] = Field(default_factory=list)
    accuracy_without: Share | None = Field(None, description="validation accuracy of the undefended models")
    max_accuracy_cost: Share | None = Field(None, description="validation accuracy that the defense may cost")
    validation_samples: Count | None = None


class Defense(Method):
    """What was done to the unlearned models before release; `none` is none."""

    strength: Strength | None = None
    promise: dict[str, Number] = Field(
        default_factory=dict, description="what is proven of a defense that acted while training, such as epsilon"
    )
    counter: bool | None = Field(
        None, description="whether an attacker who knows the defense can make use of that; null where it is not told"
    )

    @property
    def counterless(self) -> bool:
        """Whether whoever knows the defense is no better off, as far as is known."""
        return self.method == "none" or self.counter is False


class Score(Part):
    """One metric of one row, next to its strongest null. Intervals are 95 %."""

    mean: Number
    median: Number | None = None
    worst: Number | None = Field(None, description="the deletion that leaked least")
    best: Number | None = Field(None, description="the deletion that leaked most")
    low: Number | None = None
    high: Number | None = None
    interval: str | None = Field(None, description="bca or wilson")
    null: Number | None = Field(
        None, description="what an attacker gets who rebuilds nothing: the same score, of the strongest of the nulls"
    )
    null_name: str | None = None
    nulls: dict[str, Number] = Field(default_factory=dict, description="all nulls by name; those of few samples too")
    n: Count
    unit: str
    higher_is_better: bool
    gain: Number | None = Field(None, description="mean paired difference to the null; positive: the attack beats it")
    gain_low: Number | None = None
    gain_high: Number | None = None
    p: Share | None = Field(
        None, description="membership: how often chance gives as much (exact, by relabeling candidates), one-sided"
    )
    others: Count | None = Field(None, description="membership: samples never trained on, that each is held against")

    @model_validator(mode="after")
    def _in_its_unit(self) -> Score:
        told = (self.mean, self.low, self.high, self.null)
        if self.unit == "share" and not all(value is None or 0 <= value <= 1 for value in told):
            raise ValueError("a share must lie between 0 and 1")
        return self


class Identification(Part):
    """Rank of each truth among decoys of its class, by distance to the reconstruction; 1 is identified."""

    n: Count
    decoys: Count
    rank_1: int = Field(ge=0)
    share: Share
    low: Share | None = None
    high: Share | None = None
    interval: str | None = None
    chance: Share
    median_rank: Number | None = None
    worst_rank: int | None = Field(None, ge=1, le=1_000_001)
    ranks: list[Annotated[int, Field(ge=1, le=1_000_001)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _agrees(self) -> Identification:
        if self.ranks and (len(self.ranks) != self.n or self.ranks.count(1) != self.rank_1):
            raise ValueError("n and rank_1 must be what the ranks say")
        if self.rank_1 > self.n:
            raise ValueError("rank_1 must be at most n")
        return self


class Utility(Part):
    """Accuracies of the released models, mean over deletions, next to the original's."""

    retain_accuracy: Share | None = Field(description="null where nothing is left to keep")
    forget_accuracy: Share
    test_accuracy: Share
    original_retain_accuracy: Share | None
    original_forget_accuracy: Share
    original_test_accuracy: Share
    test_samples: Count | None = None


class Claims(Part):
    """The auditor's p-values of a label attack's answers: a deletion whose claims all lie above alpha has no answer."""

    alpha: Share = Field(description="chance that a deletion gets a wrong claim, at most, if shadows are like it")
    shadows: Count = Field(description="deletions that were made again on other samples: the null")
    trainings: int = Field(ge=0, le=1_000_000, description="training sets that were drawn and trained on for them")
    p_values: list[list[Share]] = Field(description="[deletions][classes named]: was this class not forgotten?")
    n: Count = Field(description="deletions")
    answered: int = Field(ge=0, description="deletions with a claim")
    right: int = Field(ge=0, description="those of them whose claims are all true")
    wrong: int = Field(ge=0, description="those with a claim that is not; the interval is Wilson's, of all deletions")
    wrong_low: Share
    wrong_high: Share
    right_low: Share | None = Field(None, description="Wilson's interval of right among answered")
    right_high: Share | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Claims:
        if self.right + self.wrong != self.answered or self.answered > self.n or len(self.p_values) != self.n:
            raise ValueError("right and wrong must add up to answered, and p_values be one list a deletion")
        return self


class Answers(Part):
    """Classes that a label attack named, and the true ones; one list a deletion."""

    labels: list[list[Label]]
    truth: list[list[Label]]
    claims: Claims | None = Field(None, description="null where the audit did not ask for p-values")

    @model_validator(mode="after")
    def _agrees(self) -> Answers:
        if [len(row) for row in self.labels] != [len(row) for row in self.truth]:
            raise ValueError("labels and truth must be lists of one shape")
        if self.claims and [len(row) for row in self.claims.p_values] != [len(row) for row in self.labels]:
            raise ValueError("p_values must be one a class named")
        return self


class Finding(Part):
    """What one row shows, by the rules of `shared.reporting.findings`."""

    outcome: Outcome
    reason: str


class Row(Part):
    """One attack on the released models of one (unlearning, defense, seed)."""

    seed: Seed
    unlearning: Unlearning
    defense: Defense
    attack: Method
    adaptive_too: bool = Field(
        False,
        description="whether the audit also asked for the attacker who knows the defense, who does the same here",
    )
    threat_model: JSONObject
    deletions: Count
    size: Count = Field(description="k, samples in each deletion")
    metrics: dict[str, Score]
    identification: Identification | None
    answers: Answers | None
    utility: Utility | None
    finding: Finding
    note: str | None
    evaluation: str = Field(description="sha256 of the EVALUATION that this row repeats")


class Leak(Part):
    """What one attack got of one setting of a defense: its main metric, mean over seeds."""

    attack: Method
    metric: str
    unit: str
    outcome: Outcome = Field(description="the worst over seeds")
    mean: Number
    low: Number | None = Field(None, description="95 % interval; over several seeds the lowest mean")
    high: Number | None = None
    null: Number | None = None
    n: Count


class Setting(Part):
    """A defense at one strength."""

    value: Number | None = Field(description="the strength; null without a defense")
    leaks: list[Leak]
    test_accuracy: Share | None
    forget_accuracy: Share | None
    accuracy_cost: Number | None = Field(description="test accuracy lost to the undefended release")


class Sweep(Part):
    """One defense at several strengths, behind one unlearning method."""

    unlearning: Unlearning
    defense: str
    strength: str = Field(description="the parameter that is the strength")
    max_accuracy_cost: Share
    settings: list[Setting] = Field(description="weakest first")
    undefended: Setting | None
    operating_point: Number | None = Field(description="the strength to operate at; null where none is within the cost")
    why: str


class Missing(Part):
    """A row that the audit asked for and that is not here. `attack` is null where the utility is missing."""

    seed: Seed
    unlearning: Method
    defense: Method
    attack: Method | None
    why: str


class Measurement(Part):
    """What a further stage measured; its methods are null where it is of all of them, its numbers where none came."""

    stage: str = Field(max_length=40)
    seed: Seed | None
    unlearning: Method | None
    defense: Method | None
    attack: Method | None
    numbers: dict[str, Number] | None


class Verdict(Part):
    """All rows in words."""

    level: Level
    headline: str
    sentences: list[str]


class TestedCase(Part):
    """A case of the self-test, whose answer is known: what was measured, and the bounds that it must lie within."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    shows: Annotated[str, Field(max_length=300)] = ""
    measured: Annotated[float, Field(ge=-1e12, le=1e12)] | None = Field(description="null where nothing came out")
    low: Number | None = None
    high: Number | None = None
    unit: Annotated[str, Field(max_length=30)] = ""
    passed: bool
    error: Annotated[str, Field(max_length=500)] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> TestedCase:
        if self.passed and (self.measured is None or self.error is not None):
            raise ValueError("a case that measured nothing has not passed")
        return self


class SelfTest(Part):
    """How the code that made the report did on cases whose answer is known."""

    digest: str = Field(description="sha256 of the SELF_TEST that this repeats; `make selftest` tells the same")
    passed: bool
    cases: list[TestedCase] = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _agrees(self) -> SelfTest:
        if self.passed != all(case.passed for case in self.cases):
            raise ValueError("passed must be what the cases say")
        return self

    @property
    def failed(self) -> list[str]:
        """The names of those that did not pass."""
        return [case.name for case in self.cases if not case.passed]


class Provenance(Part):
    """What repeats the report."""

    conditions: list[JSONObject] = Field(description="distinct conditions that the evaluations ran under")
    palimpsest: str
    audit: JSONObject
    command: str
    evaluations: list[str]
    self_test: SelfTest | None = Field(None, description="of the code; null where it did not arrive")


class Report(Part):
    """An audit's result."""

    schema_: Literal["palimpsest.report/1"] = Field("palimpsest.report/1", alias="schema")
    name: str
    verdict: Verdict
    rows: list[Row]
    missing: list[Missing]
    sweeps: list[Sweep] = Field(default_factory=list)
    measurements: list[Measurement] = Field(default_factory=list, description="no verdict rests on them")
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
