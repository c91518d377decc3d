"""FORGETTING: whether one release has forgotten. Written by the stage `forgetting`, read by
`report`.

It is untrusted, as an EVALUATION is: every value has bounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.evaluation import (
    Count,
    Defense,
    Digest,
    FrozenModel,
    RoleName,
    Share,
    Unlearning,
    WideNumber,
)
from shared.jobs.spec import Seed

MAX_DELETIONS, MAX_SEEDS, MAX_EPOCHS = 1000, 16, 20
MIN_SEEDS = 3  # retraining seeds: with fewer their spread is not known
MAX_RELEARNED, MAX_STEPS = 5, 20  # relearning on forgotten samples
MAX_LOSS = 1e4  # nats; the loss of a diverged model is bounded
ROUNDING_NATS = 1e-6  # smaller differences of losses are rounding of float32 logits
# By what share of the original's loss retraining has to raise it for there to be anything to forget.
# Less is a matter of single hard samples, however well seeds agree.
LEAST_RISE = 0.05

Loss = Annotated[float, Field(ge=0, le=1e6, description="mean cross-entropy, in nats")]
Reason = Annotated[str, Field(max_length=300)]
TestName = Literal["three_sample", "klom", "linear_probe", "relearning", "relearning_forgotten"]


class LossAndAccuracy(FrozenModel):
    """Of one kind of model on one set of samples; means over deletions, and over seeds."""

    loss: Loss
    accuracy: Share


class Performance(FrozenModel):
    """Of one kind of model on all sets."""

    forget: LossAndAccuracy
    retain: LossAndAccuracy | None = Field(
        description="on samples that no deletion forgets; null if there are none"
    )
    test: LossAndAccuracy | None = Field(description="null if no test samples are there")


class DeletionLosses(FrozenModel):
    """Forget losses of one deletion."""

    original: Loss
    release: Loss
    retrained: list[Loss] = Field(min_length=1, max_length=MAX_SEEDS, description="by seed")


class Difference(FrozenModel):
    """The release less the retrained models: the mean over deletions, and its 95 % interval; none
    for fewer than 5."""

    mean: WideNumber
    low: WideNumber | None
    high: WideNumber | None


class RelativeTest(FrozenModel):
    """The relative three-sample test."""

    statistic: WideNumber | None = Field(
        description="above 0: the release is closer to the original than to retrained models"
    )
    low: WideNumber | None = Field(None, description="95 % interval of the statistic (jackknife)")
    high: WideNumber | None = None
    p: Share | None
    not_forgotten: bool | None = Field(description="null if the samples cannot decide")
    reason: Reason | None = None


class MarginDivergence(FrozenModel):
    """KLoM on one set of samples, beside that of a retrained model in the place of the release."""

    samples: int = Field(ge=1, description="over all deletions")
    mean: Loss
    median: Loss
    high: Loss = Field(description="95th percentile over samples")
    retrained_mean: Loss
    retrained_median: Loss
    retrained_high: Loss
    difference: Difference = Field(description="of the means of each deletion")


class MarginDivergences(FrozenModel):
    """KLoM on all sets."""

    forget: MarginDivergence
    retain: MarginDivergence | None
    test: MarginDivergence | None


class ProbeAccuracies(FrozenModel):
    """Forget accuracy of a linear probe on frozen features."""

    original: Share
    release: Share
    retrained: Share
    difference: Difference


class RelearningCurves(FrozenModel):
    """Forget accuracy before, and after each epoch of fine-tuning on retained samples."""

    release: list[Share] = Field(min_length=2, max_length=MAX_EPOCHS + 1)
    retrained: list[Share] = Field(min_length=2, max_length=MAX_EPOCHS + 1)
    difference: Difference = Field(description="after the last epoch")

    @model_validator(mode="after")
    def _check_lengths(self) -> RelearningCurves:
        if len(self.release) != len(self.retrained):
            raise ValueError("both curves must have the same number of epochs")
        return self


class RelearningLosses(FrozenModel):
    """Mean loss on the rest of the forget sets before, and after each step."""

    original: list[Loss] = Field(min_length=2, max_length=MAX_STEPS + 1)
    release: list[Loss] = Field(min_length=2, max_length=MAX_STEPS + 1)
    retrained: list[Loss] = Field(min_length=2, max_length=MAX_STEPS + 1)

    @model_validator(mode="after")
    def _check_lengths(self) -> RelearningLosses:
        if len({len(self.original), len(self.release), len(self.retrained)}) > 1:
            raise ValueError("all curves must have the same number of steps")
        return self


class RelearningOfForgotten(FrozenModel):
    """Fine-tuning on a few forgotten samples, and how the rest of the forget sets is treated then.

    The way is that of the lowest loss that a model reaches."""

    samples: int | None = Field(
        None, ge=1, le=MAX_RELEARNED, description="that each model is fine-tuned on"
    )
    losses: RelearningLosses | None = Field(None, description="null if it could not be run")
    way_before: WideNumber | None = Field(
        None, description="way to retraining of the rest; null if it is not measurable"
    )
    way: WideNumber | None = Field(None, description="the same after relearning")
    way_low: WideNumber | None = None
    way_high: WideNumber | None = None
    p: Share | None = Field(
        None,
        description="p-value: of random swaps of the release with retrained models, the share "
        "that gives a loss as low",
    )
    not_forgotten: bool | None = Field(None, description="null if the models cannot decide")
    reason: Reason | None = None


class ForgettingTests(FrozenModel):
    """Further tests; null if they were not run."""

    three_sample: RelativeTest | None = None
    klom: MarginDivergences | None = None
    linear_probe: ProbeAccuracies | None = None
    relearning: RelearningCurves | None = None
    relearning_forgotten: RelearningOfForgotten | None = None


class ForgettingRow(FrozenModel):
    """What was measured of one release."""

    deletions: Count = Field(description="deletions that were compared with retraining")
    retraining_seeds: int = Field(ge=1, le=MAX_SEEDS)
    original: Performance
    release: Performance
    retrained: Performance
    way: WideNumber | None = Field(
        description=(
            "way to retraining: (forget loss of the release - of the original) / (retrained - "
            "original), of means over deletions and seeds; null if it is not measurable"
        )
    )
    way_low: WideNumber | None = None
    way_high: WideNumber | None = None
    spread: Loss = Field(
        description="standard deviation over seeds of the retrained models' mean forget loss"
    )
    reason: Reason | None = Field(None, description="why the way is not measurable")
    by_deletion: list[DeletionLosses] = Field(min_length=1, max_length=MAX_DELETIONS)
    tests: ForgettingTests = Field(default_factory=ForgettingTests)
    not_run: dict[TestName, Reason] = Field(
        default_factory=dict, description="tests that could not be run with what is there, and why"
    )

    @model_validator(mode="after")
    def _check_counts(self) -> ForgettingRow:
        if len(self.by_deletion) != self.deletions or any(
            len(one.retrained) != self.retraining_seeds for one in self.by_deletion
        ):
            raise ValueError("by_deletion must have one entry per deletion and seed")
        if (self.way is None) != (self.reason is not None):
            raise ValueError("either a way or a reason why there is none")
        return self


class Forgetting(FrozenModel):
    """The artifact: a measurement, and of which release it is."""

    seed: Seed
    unlearning: Unlearning
    defense: Defense
    measured: ForgettingRow
    inputs: dict[RoleName, Digest] = Field(
        default_factory=dict, max_length=64, description="sha256 of what was compared, by role"
    )
