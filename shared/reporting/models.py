"""The report as data: `report.json`, schema `palimpsest.report/2`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.comparison import PairWarning as PairWarning
from shared.evaluation import Count as Count
from shared.evaluation import Defense as Defense
from shared.evaluation import Digest, RoleName, Share
from shared.evaluation import FrozenModel as FrozenModel
from shared.evaluation import Identification as Identification
from shared.evaluation import JSONObject as JSONObject
from shared.evaluation import Label as Label
from shared.evaluation import Method as Method
from shared.evaluation import Number as Number
from shared.evaluation import Score as Score
from shared.evaluation import ScoredLabelGuesses as ScoredLabelGuesses
from shared.evaluation import Unlearning as Unlearning
from shared.evaluation import Unscored as Unscored
from shared.evaluation import Utility as Utility
from shared.evaluation import WideNumber as WideNumber
from shared.forgetting import ForgettingRow as ForgettingRow
from shared.jobs.spec import Seed

Level = Literal["leaks", "reduced", "no_leak_seen", "inconclusive"]
Outcome = Literal["leak", "not_seen", "inconclusive"]


class Finding(FrozenModel):
    """The finding of an attack on a release, by the rules of `shared.reporting.findings`. All its
    seeds have the same one."""

    outcome: Outcome
    reason: str
    p: Share | None = Field(
        None, description="probability of such results by chance, over all seeds of the row"
    )
    p_corrected: Share | None = Field(
        None, description="p, corrected for the number of tests in the report (Holm)"
    )


class Row(FrozenModel):
    """One attack on the released models of one (unlearning, defense, seed)."""

    seed: Seed
    unlearning: Unlearning
    defense: Defense
    attack: Method
    adaptive_too: bool = Field(
        False,
        description="whether this row also counts as the adaptive attack, which is identical here",
    )
    threat_model: JSONObject
    deletions: Count
    size: Count = Field(description="k, samples in each deletion")
    metrics: dict[str, Score]
    identification: Identification | None
    answers: ScoredLabelGuesses | None
    unscored: Unscored | None = Field(
        None,
        description="what came back, if no deleted samples were brought; null if it was scored",
    )
    utility: Utility | None
    forgetting: ForgettingRow | None = Field(
        None, description="the release compared with retrained models; null if it was not"
    )
    retained_copies: list[Label] = Field(
        default_factory=list,
        description=(
            "deletions, numbered from 0, of which an identical copy of a sample stays in the "
            "training set"
        ),
    )
    finding: Finding
    note: str | None
    evaluation: str = Field(description="sha256 of the EVALUATION that this row reports")
    inputs: dict[RoleName, Digest] = Field(
        default_factory=dict, description="sha256 of what was evaluated, by role"
    )


class Leak(FrozenModel):
    """One attack's result at one setting of a defense: its main metric, mean over seeds."""

    attack: Method
    metric: str
    unit: str
    higher_is_better: bool = Field(True, description="for the attacker")
    outcome: Outcome = Field(description="the worst over seeds")
    mean: Number
    low: Number | None = Field(
        None, description="lower end of the 95 % interval; with several seeds, the lowest mean"
    )
    high: Number | None = None
    baseline: Number | None = None
    n: int = Field(ge=1, description="samples of all seeds together")


class Setting(FrozenModel):
    """A defense at one strength."""

    value: WideNumber | None = Field(description="the strength; null without a defense")
    leaks: list[Leak]
    test_accuracy: Share | None
    forget_accuracy: Share | None
    accuracy_cost: Number | None = Field(
        description="loss of test accuracy compared with the undefended release"
    )


class Sweep(FrozenModel):
    """One defense at several strengths, behind one unlearning method."""

    unlearning: Unlearning
    defense: str
    strength: str = Field(description="the parameter that sets the strength")
    max_accuracy_cost: Share
    settings: list[Setting] = Field(description="weakest first")
    undefended: Setting | None
    operating_point: WideNumber | None = Field(
        description="strength at the operating point; null if there is none"
    )
    reason: str


class Missing(FrozenModel):
    """A missing row of the audit. `attack` is null if the utility is missing."""

    seed: Seed
    unlearning: Method
    defense: Method
    attack: Method | None
    reason: str


class Measurement(FrozenModel):
    """A measurement of a further stage; methods are null if it covers all of them, numbers if it is
    missing."""

    stage: str = Field(max_length=40)
    seed: Seed | None
    unlearning: Method | None
    defense: Method | None
    attack: Method | None
    numbers: dict[str, WideNumber] | None
    reason: str | None = Field(
        None, description="why there are no numbers: they are missing or cannot be read"
    )


class Verdict(FrozenModel):
    """The verdict on all rows, in words. Headline and sentences name no plugin; details do."""

    level: Level
    headline: str
    sentences: list[str] = Field(
        description="at most three that belong to the headline: forgetting, defenses, gaps"
    )
    row: int | None = Field(
        None,
        ge=1,
        description="number of the row that the headline describes, from 1; null if the report has no rows",
    )
    passed: list[str] = Field(
        default_factory=list,
        description="releases in which no attack that was run leaks, the samples are forgotten "
        "and the models stay useful",
    )
    not_tested: list[str] = Field(
        default_factory=list, description="attackers, tests and circumstances that were not tried"
    )
    details: list[str] = Field(
        default_factory=list, description="the results of each release, and what concerns all rows"
    )


class TestedCase(FrozenModel):
    """A case of the self-test: the measured value, and the bounds of the known answer."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    shows: Annotated[str, Field(max_length=300)] = ""
    measured: WideNumber | None = Field(description="null if nothing was measured")
    low: Number | None = None
    high: Number | None = None
    unit: Annotated[str, Field(max_length=30)] = ""
    passed: bool
    error: Annotated[str, Field(max_length=500)] | None = None

    @model_validator(mode="after")
    def _check_passed(self) -> TestedCase:
        if self.passed and (self.measured is None or self.error is not None):
            raise ValueError("a case that measured nothing has not passed")
        return self


class SelfTest(FrozenModel):
    """The self-test result of the code that made the report."""

    digest: str = Field(
        description="sha256 of the SELF_TEST; `make selftest` prints the same, as digest"
    )
    passed: bool
    cases: list[TestedCase] = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _check_passed(self) -> SelfTest:
        if self.passed != all(case.passed for case in self.cases):
            raise ValueError("passed must be true if every case passed, and false otherwise")
        return self

    @property
    def failed(self) -> list[str]:
        """The names of failed cases."""
        return [case.name for case in self.cases if not case.passed]


class MovedLayer(FrozenModel):
    """How far the weights of one layer moved, over the deletions of a release."""

    name: str
    size: int = Field(ge=0, description="number of weights")
    relative_change: WideNumber | None = Field(
        description="length of the change / length before, mean over deletions; null: all were 0"
    )
    least: WideNumber | None = Field(description="of the deletion that moved it least")
    most: WideNumber | None
    unchanged_share: Share = Field(description="share of its weights that did not move")


class OtherLayers(FrozenModel):
    """The layers that are not listed, all together: none of them moved more than one that is."""

    count: Count = Field(description="layers; tensors, if the stage listed no names")
    relative_change: WideNumber | None
    unchanged_share: Share


class MovedWeights(FrozenModel):
    """How far the weights of one brought release are from the original's; means over deletions."""

    release: str
    deletions: Count
    relative_change: WideNumber = Field(description="length of the change / length before")
    cosine: float | None = Field(
        ge=-1, le=1, description="between the kernels and matrices before and after"
    )
    unchanged_share: Share = Field(
        description="share of weights that did not move at the file's resolution"
    )
    resolution: Share = Field(description="relative rounding error of the coarsest file")
    dtypes: list[str]
    layers: list[MovedLayer] = Field(description="in the order of the network")
    other_layers: OtherLayers | None = Field(description="null: all layers are listed")
    moved_buffers: list[str] = Field(description="the first buffers that differ")
    moved_buffer_count: int = Field(ge=0)
    original_test_accuracy: Share | None = Field(
        description="on public samples; null: none were brought"
    )
    findings: list[PairWarning]


class NotBrought(FrozenModel):
    """Something that was not brought with the models, and what the report cannot say without it."""

    what: str
    how: str = Field(description="how to bring it")
    cannot_say: str


class PrivacyTest(FrozenModel):
    """A test that the European Data Protection Board's Opinion 28/2024 names, and whether this
    audit contains it."""

    test: str
    status: Literal["tested", "tested_in_part", "not_tested"]
    attacks: list[str] = Field(description="measured attacks that are such a test")
    extent: str


class Attacker(FrozenModel):
    """One attack's attacker in the terms of NIST AI 100-2."""

    attack: Method
    goal: str
    capability: str
    knowledge: str


class ReportSubmission(FrozenModel):
    """Where the report was made. A report that is reused names the audit that was the first to need
    it."""

    job: str = Field(description="the report job")
    audit: str | None = Field(description="null if the report job was posted by hand")
    submitted_at: str = Field(description="RFC 3339 in UTC, by the clock of the job store")


class Provenance(FrozenModel):
    """What is needed to reproduce the report."""

    submission: ReportSubmission | None = Field(
        None, description="null if the report was made without a job store"
    )
    inputs: dict[RoleName, list[Digest]] = Field(
        default_factory=dict,
        description="sha256 of models and data that were evaluated, by role, each once",
    )
    data_files: dict[str, str] = Field(
        default_factory=dict,
        description="by path, sha256 of the files of the data root that the audit read",
    )

    conditions: list[JSONObject] = Field(
        description="distinct conditions that the evaluations ran under"
    )
    palimpsest: str
    audit: JSONObject
    command: str
    evaluations: list[str] = Field(description="sha256 of each EVALUATION")
    forgetting: list[Digest] = Field(default_factory=list, description="sha256 of each FORGETTING")
    self_test: SelfTest | None = Field(None, description="of the code; null if missing")


class Kept(FrozenModel):
    """Something that the audit keeps of people."""

    what: str
    where: str
    how_long: str = Field(description="by the settings at the time when the audit was planned")


class Report(FrozenModel):
    """An audit's result."""

    schema_: Literal["palimpsest.report/2"] = Field("palimpsest.report/2", alias="schema")
    name: str
    verdict: Verdict
    rows: list[Row]
    missing: list[Missing]
    moved_weights: list[MovedWeights] = Field(
        default_factory=list, description="models that were brought: by release"
    )
    not_brought: list[NotBrought] = Field(
        default_factory=list, description="models that were brought: what was not, and its price"
    )
    sweeps: list[Sweep] = Field(default_factory=list)
    measurements: list[Measurement] = Field(
        default_factory=list, description="they do not affect the verdict"
    )
    privacy_tests: list[PrivacyTest] = Field(default_factory=list)
    attackers: list[Attacker] = Field(default_factory=list)
    kept: list[Kept] = Field(
        default_factory=list,
        description="what the audit itself keeps of people; empty if it is not known how long",
    )
    provenance: Provenance
    caveats: list[str]

    def to_dict(self) -> JSONObject:
        """The report as JSON."""
        return self.model_dump(mode="json", by_alias=True)


def build_schema() -> str:
    """JSON Schema of report.json, as docs/report.schema.json holds it."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return (
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
        + "\n"
    )


if __name__ == "__main__":
    print(build_schema(), end="")  # noqa: T201 - a command that prints
