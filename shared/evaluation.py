"""EVALUATION: the scores of one attack or release. Written by the stage `evaluate`, read by
`report`.

Classes whose fields a report repeats unchanged are parts of the report too
(`shared.reporting.models`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.jobs.spec import Seed

JSONObject = dict[str, Any]
# Increases when fields or the numbers in them change their meaning: older evaluations are refused.
EVALUATION_VERSION = 2
# Evaluations are untrusted: values out of these bounds are refused before any rule or chart uses
# them.
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
WIDEST = 1e12
# of anything that can be measured, set or guaranteed
WideNumber = Annotated[float, Field(ge=-WIDEST, le=WIDEST)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Label = Annotated[int, Field(ge=0, le=1_000_000)]
ClassName = Annotated[str, Field(max_length=200)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # sha256
MatchingLoss = Annotated[float, Field(ge=0, le=2)]
MAX_UNSCORED = 10_000  # deletions
RoleName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]


class FrozenModel(BaseModel):
    """Base class of all parts: unknown keys are ignored, values are frozen and finite."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, allow_inf_nan=False
    )


class Method(FrozenModel):
    """A plugin and all its parameters."""

    method: str
    params: JSONObject = Field(default_factory=dict)


class Unlearning(Method):
    """How the samples were unlearned."""

    exact: bool | None = Field(
        None, description="whether the result equals a model that was never trained on the samples"
    )
    repeat_ratio: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description=(
            "exact methods: weight change between two retrainings with the samples in a different "
            "order, as a share of the unlearning's weight change"
        ),
    )


class TriedSetting(FrozenModel):
    """One setting of a defense."""

    value: float
    validation_accuracy: Share


class StrengthChoice(FrozenModel):
    """How the strength of a defense was chosen (never by looking at an attack)."""

    name: str = Field(description="the parameter that sets the strength")
    value: float = Field(description="the setting that was released")
    reason: str
    tried: list[TriedSetting] = Field(default_factory=list)
    accuracy_without: Share | None = Field(
        None, description="validation accuracy of the undefended models"
    )
    max_accuracy_cost: Share | None = Field(
        None, description="validation accuracy that the defense may cost"
    )
    validation_samples: Count | None = None


class Defense(Method):
    """How the unlearned models were defended before release. The method `none` does nothing."""

    strength: StrengthChoice | None = None
    guarantee: dict[str, WideNumber] = Field(
        default_factory=dict,
        description="formal guarantees of a defense that acts during training, such as epsilon",
    )
    has_adaptive_attack: bool | None = Field(
        None, description="whether an adaptive attack on this defense is known; null if not stated"
    )

    @property
    def lacks_adaptive_attack(self) -> bool:
        """Whether no adaptive attack on this defense is known."""
        return self.method == "none" or self.has_adaptive_attack is False


class Score(FrozenModel):
    """One metric of one row with its strongest baseline. Intervals are 95 %."""

    mean: Number
    median: Number | None = None
    worst: Number | None = Field(None, description="the deletion that leaked least")
    best: Number | None = Field(None, description="the deletion that leaked most")
    low: Number | None = None
    high: Number | None = None
    interval: str | None = Field(None, description="bootstrap_t, bca, wilson or newcombe")
    baseline: Number | None = Field(
        None,
        description="the same score without the attack: the strongest of the baselines",
    )
    baseline_name: str | None = None
    baselines: dict[str, Number] = Field(
        default_factory=dict,
        description="all baselines by name, including those that cover only some of the samples",
    )
    n: Count
    unit: str
    higher_is_better: bool
    gain: Number | None = Field(
        None, description="mean paired difference to the baseline; positive if the attack beats it"
    )
    gain_low: Number | None = None
    gain_high: Number | None = None
    p: Share | None = Field(
        None,
        description=(
            "membership: one-sided p-value of an exact permutation test over the candidates"
        ),
    )
    p_below: Share | None = Field(
        None, description="membership: the same, for scores below those of non-members"
    )
    non_members: Count | None = Field(
        None, description="membership: non-members that each sample is compared with"
    )

    @model_validator(mode="after")
    def _check_unit(self) -> Score:
        shares = (self.mean, self.low, self.high, self.baseline)
        if self.unit == "share" and not all(value is None or 0 <= value <= 1 for value in shares):
            raise ValueError("a share must lie between 0 and 1")
        return self


Rank = Annotated[int, Field(ge=1, le=1_000_001)]


class Identification(FrozenModel):
    """Rank of each truth among decoys of its class, by distance to the reconstruction; 1 is
    identified."""

    n: Count = Field(description="ranked samples: those that have decoys")
    decoys: Count = Field(description="number of decoys of the sample that has the most")
    rank_1: int = Field(ge=0)
    share: Share
    low: Share | None = None
    high: Share | None = None
    interval: str | None = None
    chance: Share = Field(description="mean over samples of 1 / (decoys + 1)")
    median_rank: Number | None = None
    worst_rank: int | None = Field(None, ge=1, le=1_000_001)
    ranks: list[Rank | None] = Field(
        default_factory=list, description="null: no decoys of the sample's class"
    )
    decoy_counts: list[Annotated[int, Field(ge=0, le=1_000_000)]] = Field(
        default_factory=list, description="number of decoys of each sample, in the order of `ranks`"
    )
    margins: list[Annotated[float, Field(ge=0, le=1e6)] | None] = Field(
        default_factory=list,
        description=(
            "in the order of `ranks`: of each sample and its decoys, by how many dB the one "
            "nearest to the reconstruction is nearer than the second nearest"
        ),
    )
    own_p: list[Share | None] = Field(
        default_factory=list,
        description=(
            "in the order of `ranks`: each sample's own p-value, corrected for the number of "
            "samples"
        ),
    )
    above_baseline: int | None = Field(
        None, ge=0, description="identified samples whose score also beats their own baseline"
    )
    split_auc: Share | None = Field(
        None,
        description=(
            "how well a linear rule tells the train split from the test split, within classes; 0.5 "
            "if they are drawn alike"
        ),
    )
    split_auc_limit: Share | None = Field(
        None, description="above it, no decoys are taken from the test split"
    )

    @model_validator(mode="after")
    def _check_ranks(self) -> Identification:
        ranked = [rank for rank in self.ranks if rank is not None]
        if self.ranks and (len(ranked) != self.n or ranked.count(1) != self.rank_1):
            raise ValueError("n and rank_1 must agree with ranks")
        for some in (self.decoy_counts, self.margins, self.own_p):
            if some and len(some) != len(self.ranks):
                raise ValueError("decoy_counts, margins and own_p must be as long as ranks")
        if self.ranks and not self.decoy_counts:
            raise ValueError("ranks need decoy_counts")
        for rank, decoys in zip(self.ranks, self.decoy_counts, strict=True):
            if (rank is None) != (decoys == 0) or (rank is not None and rank > decoys + 1):
                raise ValueError("a rank must be among its decoys, and null without any")
        if self.margins and any(
            (rank is None) != (margin is None)
            for rank, margin in zip(self.ranks, self.margins, strict=True)
        ):
            raise ValueError("margins must be null where ranks are")
        if self.rank_1 > self.n or (self.above_baseline or 0) > self.rank_1:
            raise ValueError("rank_1 must be at most n, and above_baseline at most rank_1")
        return self


class Utility(FrozenModel):
    """Accuracies of the released models, mean over deletions, next to the original's."""

    retain_accuracy: Share | None = Field(description="null if no samples are retained")
    forget_accuracy: Share | None = Field(description="null if no deleted samples were brought")
    test_accuracy: Share | None = Field(description="null if no public samples were brought")
    original_retain_accuracy: Share | None
    original_forget_accuracy: Share | None
    original_test_accuracy: Share | None
    test_samples: Count | None = None


class Claims(FrozenModel):
    """The auditor's p-values for the guesses of a label attack. A deletion is answered if a p-value
    is at most alpha."""

    alpha: Share = Field(
        description=(
            "upper bound on the probability of a wrong claim, if the deletion is distributed "
            "like the shadow deletions"
        )
    )
    shadows: Count = Field(description="shadow deletions, which form the null distribution")
    trainings: int = Field(
        ge=0, le=1_000_000, description="shadow training sets that were drawn and trained on"
    )
    p_values: list[list[Share]] = Field(
        description=(
            "[deletions][guessed classes], for the null hypothesis that this class was not "
            "forgotten"
        )
    )
    n: Count = Field(description="deletions")
    answered: int = Field(ge=0, description="deletions with a claim")
    correct: int = Field(ge=0, description="answered deletions whose claims are all correct")
    wrong: int = Field(
        ge=0,
        description=(
            "answered deletions with an incorrect claim; the Wilson interval is over all deletions"
        ),
    )
    wrong_low: Share
    wrong_high: Share
    correct_low: Share | None = Field(None, description="Wilson interval of correct among answered")
    correct_high: Share | None = None

    @model_validator(mode="after")
    def _check_counts(self) -> Claims:
        if (
            self.correct + self.wrong != self.answered
            or self.answered > self.n
            or len(self.p_values) != self.n
        ):
            raise ValueError(
                "correct and wrong must add up to answered, and p_values must hold one list per "
                "deletion"
            )
        return self


class ScoredLabelGuesses(FrozenModel):
    """Guessed and true classes; one list per deletion."""

    labels: list[list[Label]]
    truth: list[list[Label]]
    names: dict[ClassName, ClassName] = Field(
        default_factory=dict,
        description="class names by label (as text); absent: the number of the label",
    )
    claims: Claims | None = Field(None, description="null unless the audit asked for p-values")

    @model_validator(mode="after")
    def _check_shapes(self) -> ScoredLabelGuesses:
        if [len(row) for row in self.labels] != [len(row) for row in self.truth]:
            raise ValueError("labels and truth must have the same shape")
        if self.claims and [len(row) for row in self.claims.p_values] != [
            len(row) for row in self.labels
        ]:
            raise ValueError("p_values must hold one value per guessed class")
        return self

    def name(self, labels: Iterable[int]) -> str:
        """The names of these classes, as one text."""
        return ", ".join(self.names.get(str(label), str(label)) for label in labels)


class UnscoredImages(FrozenModel):
    """What an attack reconstructed, where no deleted samples were brought to compare it with."""

    matching_loss: list[MatchingLoss] = Field(
        max_length=MAX_UNSCORED,
        description="by deletion, how far the gradient of what was reconstructed is from the change "
        "of the weights: 1 - cosine",
    )
    control_losses: dict[RoleName, list[MatchingLoss]] = Field(
        default_factory=dict,
        max_length=8,
        description="the same of searches that were given something unrelated, by name",
    )
    labels: list[list[Label]] = Field(
        max_length=MAX_UNSCORED, description="by deletion, the classes that were searched for"
    )
    names: dict[ClassName, ClassName] = Field(
        default_factory=dict, max_length=1000, description="class names by label (as text)"
    )


class UnscoredLabels(FrozenModel):
    """Which classes an attack named, where no deleted samples were brought to compare them with."""

    labels: list[list[Label]] = Field(max_length=MAX_UNSCORED)
    margins: list[Share | None] = Field(
        max_length=MAX_UNSCORED,
        description="by deletion, the lead of the named classes over the next one, as a share of "
        "the spread over all classes; null: all classes were named",
    )
    names: dict[ClassName, ClassName] = Field(
        default_factory=dict, max_length=1000, description="class names by label (as text)"
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> UnscoredLabels:
        if len(self.labels) != len(self.margins):
            raise ValueError("margins must have one entry per deletion")
        return self


class Unscored(FrozenModel):
    """What an attack returned without a truth: no score, and no proof of anything."""

    images: UnscoredImages | None = None
    labels: UnscoredLabels | None = None


class Gain(FrozenModel):
    """Paired difference to the baseline."""

    mean: Number
    median: Number | None = None
    low: Number | None = None
    high: Number | None = None
    interval: str | None = None


class MetricResult(Score):
    """A metric with the values that it summarises; its gain is an object."""

    gain: Gain | None = None  # type: ignore[assignment]  # flat in a report, nested in an evaluation
    range: Any = Field(None, description="least and greatest possible value of the metric")
    values: list[Number] = Field(default_factory=list)
    baseline_values: dict[str, list[Number]] = Field(default_factory=dict)

    def to_score(self) -> Score:
        gain = self.gain
        flat = (
            {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high}
            if gain
            else {"gain": None}
        )
        return Score.model_validate(self.model_dump() | flat)


class RankedIdentification(Identification):
    """The ranks as written: the median of an odd number of ranks is a whole number."""

    median_rank: Rank | Number | None = None


class NoDecoys(FrozenModel):
    """Written in place of ranks if no sample has decoys."""

    n: Literal[0] = 0
    decoys: Literal[0] = 0


class AlternativeAnswer(FrozenModel):
    """A further answer of an attack, scored like the one that counts; no rule uses it."""

    values: dict[str, list[Number]] = Field(description="by metric, one per sample")
    identification: RankedIdentification | NoDecoys


class EvaluatedUnlearning(Unlearning):
    """The record UNLEARNING."""

    weight_change: list[float] = Field(
        default_factory=list, description="[deletions] see `shared.ml.records`"
    )


class Evaluation(FrozenModel):
    """The result of one evaluate job. `attack` is null if only the released models' utility was
    measured.

    Fields that were not set are not written, and unknown ones are ignored.
    """

    version: int | None = None
    n: Count | None = Field(None, description="forgotten samples, over all deletions")
    deletions: Count
    size: Count
    dataset: JSONObject | None = None
    seed: Seed
    unlearning: EvaluatedUnlearning | None = None
    defense: Defense | None = None
    attack: Method | None = None
    threat_model: JSONObject | None = None
    metrics: dict[str, MetricResult] = Field(default_factory=dict)
    identification: RankedIdentification | NoDecoys | None = None
    alternatives: dict[str, AlternativeAnswer] = Field(
        default_factory=dict,
        description=(
            "further answers, by name: best_restart is the restart that matches best, where the "
            "images are means of restarts"
        ),
    )
    answers: ScoredLabelGuesses | None = None
    unscored: Unscored | None = Field(
        None, description="what came back, if no truth was brought; null if it was scored"
    )
    utility: Utility | None = None
    retained_copies: list[Label] = Field(
        default_factory=list,
        description=(
            "deletions, numbered from 0, of which an identical copy of a sample stays in the "
            "training set"
        ),
    )
    provenance: JSONObject = Field(default_factory=dict)
    inputs: dict[RoleName, Digest] = Field(
        default_factory=dict, max_length=64, description="sha256 of what was evaluated, by role"
    )

    @field_validator("identification", mode="before")
    @classmethod
    def _replace_empty_identification(cls, value: Any) -> Any:
        is_empty = isinstance(value, dict) and not (value.get("n") and value.get("decoys"))
        return NoDecoys(n=0, decoys=0) if is_empty else value

    @field_validator("threat_model")
    @classmethod
    def _check_observed_roles(cls, value: JSONObject | None) -> JSONObject | None:
        roles = (value or {}).get("observes", [])
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise ValueError("observes must be a list of roles")
        return value

    @property
    def reported_identification(self) -> Identification | None:
        """The identification as a report repeats it; None if nothing was ranked."""
        identification = self.identification
        return (
            Identification.model_validate(identification.model_dump())
            if isinstance(identification, RankedIdentification)
            else None
        )

    def to_dict(self) -> JSONObject:
        """As plain JSON, without defaults."""
        return self.model_dump(mode="json", exclude_unset=True)
