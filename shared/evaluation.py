"""EVALUATION: what the stage evaluate found out about one attack or release. It writes this model, the report reads it.

The classes without more fields than a report needs are the report's own parts too (`shared.reporting.models`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.jobs.spec import Seed

JSONObject = dict[str, Any]
# Evaluations may be anyone's: what is out of these bounds is refused before a rule or a chart meets it.
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
WIDEST = 1e12
WideNumber = Annotated[float, Field(ge=-WIDEST, le=WIDEST)]  # of anything that may be measured, set or promised
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Label = Annotated[int, Field(ge=0, le=1_000_000)]
ClassName = Annotated[str, Field(max_length=200)]


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
    """What was done to the unlearned models before release. The method `none` does nothing."""

    strength: Strength | None = None
    promise: dict[str, WideNumber] = Field(
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
    interval: str | None = Field(None, description="bca, wilson or newcombe")
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
    names: dict[ClassName, ClassName] = Field(
        default_factory=dict, description="by label, as text, what the data set calls the class; none: as its number"
    )
    claims: Claims | None = Field(None, description="null where the audit did not ask for p-values")

    @model_validator(mode="after")
    def _agrees(self) -> Answers:
        if [len(row) for row in self.labels] != [len(row) for row in self.truth]:
            raise ValueError("labels and truth must be lists of one shape")
        if self.claims and [len(row) for row in self.claims.p_values] != [len(row) for row in self.labels]:
            raise ValueError("p_values must be one a class named")
        return self

    def name(self, labels: Iterable[int]) -> str:
        """Classes as people call them."""
        return ", ".join(self.names.get(str(label), str(label)) for label in labels)


class Gain(Part):
    """Paired difference to the null."""

    mean: Number
    median: Number | None = None
    low: Number | None = None
    high: Number | None = None
    interval: str | None = None


class Measured(Score):
    """A metric with the values that it sums up, its gain an object of its own."""

    gain: Gain | None = None  # type: ignore[assignment]  # flat in a report, nested in an evaluation
    range: Any = Field(None, description="least and greatest value, as the metric says")
    values: list[Number] = Field(default_factory=list)
    null_values: dict[str, list[Number]] = Field(default_factory=dict)

    def score(self) -> Score:
        gain = self.gain
        flat = {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high} if gain else {"gain": None}
        return Score.model_validate(self.model_dump() | flat)


class Ranks(Identification):
    """The ranks as they are written: a median of an odd number of them is a whole number."""

    median_rank: Annotated[int, Field(ge=1, le=1_000_001)] | Number | None = None


class NoDecoys(Part):
    """Written in place of ranks where the public data hold no sample of some class."""

    n: Literal[0] = 0
    decoys: Literal[0] = 0


class Unlearned(Unlearning):
    """The record UNLEARNING as it was handed over."""

    weight_change: list[float] = Field(default_factory=list, description="[deletions] see `shared.ml.records`")


class Evaluation(Part):
    """What one evaluate job found. `attack` is null where only the released models' utility was measured.

    A field that was not given is not written, and one that is unknown is not read.
    """

    n: Count | None = Field(None, description="samples that were forgotten, in all deletions together")
    deletions: Count
    size: Count
    dataset: JSONObject | None = None
    seed: Seed
    unlearning: Unlearned | None = None
    defense: Defense | None = None
    attack: Method | None = None
    threat_model: JSONObject | None = None
    metrics: dict[str, Measured] = Field(default_factory=dict)
    identification: Ranks | NoDecoys | None = None
    answers: Answers | None = None
    utility: Utility | None = None
    provenance: JSONObject = Field(default_factory=dict)

    @field_validator("identification", mode="before")
    @classmethod
    def _nothing_to_rank_among(cls, value: Any) -> Any:
        nothing = isinstance(value, dict) and not (value.get("n") and value.get("decoys"))
        return NoDecoys(n=0, decoys=0) if nothing else value

    @field_validator("threat_model")
    @classmethod
    def _observes_roles(cls, value: JSONObject | None) -> JSONObject | None:
        roles = (value or {}).get("observes", [])
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            raise ValueError("observes must be a list of roles")
        return value

    @property
    def ranks(self) -> Identification | None:
        """The identification as a report repeats it; None where nothing was ranked."""
        found = self.identification
        return Identification.model_validate(found.model_dump()) if isinstance(found, Ranks) else None

    def json_value(self) -> JSONObject:
        """As plain JSON: what is given, no defaults."""
        return self.model_dump(mode="json", exclude_unset=True)
