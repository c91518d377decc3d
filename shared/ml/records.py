"""The JSON artifacts of a forgotten sample's life. Whatever is wrong in them is an
InvalidRequest."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.samples import Samples, compute_digest, find_deletable, open_dataset
from shared.ml.splits import split_pretraining_and_pool
from shared.plugin_ref import PluginRef, validate_model
from shared.pool import MAX_SAMPLES, PoolSize
from shared.roles import Role

Index = Annotated[int, Field(ge=0, le=2**31 - 1)]
R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """Base: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls: type[R], data: bytes, role: str) -> R:
        """From the bytes of a JSON artifact.

        Raises:
            InvalidRequest: not JSON, or not such a record.
        """
        return validate_model(cls, read_json(data, role), role, f"inputs.{role}")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return self.model_dump(mode="json")


class DatasetRecord(Record):
    """Base of records that point into the train split of a data set."""

    dataset: PluginRef = Field(description="the data set, with its parameters")
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of its train split")

    def load_train_split(self, role: str) -> Samples:
        """All of the train split.

        Raises:
            InvalidRequest: the data set is not available, or has changed since training.
        """
        samples = open_dataset(self.dataset).load("train")
        if compute_digest(samples) != self.digest:
            raise InvalidRequest(
                f"the data set {self.dataset.name} has changed since {role} was created: run the "
                "earlier jobs again",
                f"inputs.{role}",
            )
        return samples


class TrainingSet(DatasetRecord):
    """TRAINING_SET: the N samples that may be forgotten."""

    indices: list[Index] = Field(
        min_length=1, max_length=MAX_SAMPLES, description="positions in the train split"
    )
    pool: PoolSize | None = Field(
        None,
        description="size of the pool that they were drawn from; null: a random eighth of the "
        "train split, at most 5,000",
    )

    non_members_from: Literal["pool", "test"] = Field(
        "pool",
        description="where samples that were not trained on are: in the pool, or, of a model that "
        "was brought, in the test split",
    )

    @property
    def is_brought(self) -> bool:
        """Whether it is that of a model that a user has brought: there is no pool."""
        return self.non_members_from == "test"

    def find_pool(self, labels: Tensor) -> Tensor:
        """Positions of the pool in the train split, int64; `labels` are those of the whole
        split."""
        named = () if self.pool is None else find_deletable(open_dataset(self.dataset))
        return split_pretraining_and_pool(labels, self.pool, named)[1]

    def find_held_out(self, labels: Tensor) -> Tensor:
        """Positions of the samples of the pool that are not in the training set; may be empty."""
        pool = self.find_pool(labels)
        return pool[~torch.isin(pool, torch.tensor(self.indices))]

    def load_samples(self) -> Samples:
        return pick_samples(
            self.load_train_split(Role.TRAINING_SET), torch.tensor(self.indices), Role.TRAINING_SET
        )


class TestSet(Record):
    """TEST_SET: public samples that a user has brought with models, the test split of a data set."""

    __test__ = False  # no test case of pytest's

    dataset: PluginRef = Field(description="the data set, with its parameters")
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of its test split")

    def load_samples(self, role: str) -> Samples:
        """All of them, if the data set has not changed.

        Raises:
            InvalidRequest: the data set is not available, or has changed.
        """
        split = open_dataset(self.dataset).load("test")
        if compute_digest(split) != self.digest:
            raise InvalidRequest(
                f"the data set {self.dataset.name} has changed since {role} was created: run the "
                "job that created it again",
                f"inputs.{role}",
            )
        return split


class PublicSets(DatasetRecord):
    """PUBLIC: training sets that an outsider could have drawn, disjoint from each other and from
    the real one."""

    sets: list[Annotated[list[Index], Field(min_length=1, max_length=MAX_SAMPLES)]] = Field(
        max_length=1000,
        description=(
            "[sets][n] positions in the train split; n is the size of the training set if there "
            "are enough public samples"
        ),
    )

    def load_samples(self) -> list[Samples]:
        """Each set.

        Raises:
            InvalidRequest: there are none, as the training set took the whole pool; or the data set
                has changed.
        """
        if not self.sets:
            raise InvalidRequest(
                "the training set uses the whole pool, so no public samples are left; lower "
                "train.size",
                f"inputs.{Role.PUBLIC}",
            )
        split = self.load_train_split(Role.PUBLIC)
        return [pick_samples(split, torch.tensor(indices), Role.PUBLIC) for indices in self.sets]


class Shards(Record):
    """SHARDS: which of the original's members each sample of the training set trained."""

    members: int = Field(ge=1, le=100)
    member: list[Index] = Field(
        min_length=1, max_length=MAX_SAMPLES, description="[N], below `members`"
    )

    @classmethod
    def split_evenly(cls, n: int, members: int) -> Shards:
        """Shards that differ by one sample at most. The training set is in random order, so these
        are random.

        Raises:
            InvalidRequest: fewer samples than members.
        """
        if n < members:
            raise InvalidRequest(f"{n} samples are too few for {members} shards", "params.shards")
        return cls(members=members, member=[i % members for i in range(n)])

    def find_positions(self, member: int) -> Tensor:
        """Positions in the training set of the samples of one member."""
        return (torch.tensor(self.member) == member).nonzero().flatten()


class ForgetSets(DatasetRecord):
    """FORGET_SETS, the truth: what each deletion forgot. No attack sees it."""

    indices: list[list[Index]] = Field(
        min_length=1, description="[deletions][k] positions in the train split"
    )
    labels: list[list[Index]] = Field(min_length=1, description="[deletions][k] their classes")

    @model_validator(mode="after")
    def _check_shapes(self) -> ForgetSets:
        sizes = {len(row) for row in [*self.indices, *self.labels]}
        if len(sizes) != 1 or sizes == {0} or len(self.indices) != len(self.labels):
            raise ValueError("indices and labels must have one shape [deletions][k]")
        return self

    def load_images(self) -> Tensor:
        """Images [D, k, C, H, W] of the forgotten samples."""
        return pick_samples(
            self.load_train_split(Role.FORGET_SETS), torch.tensor(self.indices), Role.FORGET_SETS
        ).images


class RetrainingRecord(ForgetSets):
    """RETRAINING: what RETRAINED was trained without, for the deletions that were repeated."""

    seeds: int = Field(ge=1, le=16, description="models per deletion")
    successive: bool = Field(
        description="whether each deletion also leaves out what the earlier ones forgot"
    )


class MembershipRecord(DatasetRecord):
    """MEMBERSHIP: which samples the candidates are. With FORGET_SETS it is the truth, and no attack
    sees it."""

    indices: list[Index] = Field(
        min_length=1,
        max_length=MAX_SAMPLES,
        description="[C] positions in the train split; those of the test split are counted on from "
        "its end",
    )
    labels: list[Index] = Field(description="[C] their classes")
    trained: list[bool] = Field(description="[C] whether the original was trained on them")

    @model_validator(mode="after")
    def _check_shapes(self) -> MembershipRecord:
        if not len(self.indices) == len(self.labels) == len(self.trained) == len({*self.indices}):
            raise ValueError(
                "indices, labels and trained must be of one length, and candidates must be distinct"
            )
        return self


class DeletionSizes(Record):
    """DELETION_SIZES: number of training samples (N), of forgotten samples per deletion (k), and of
    their classes."""

    N: int = Field(ge=1)
    k: int = Field(ge=1)
    classes: int | None = Field(
        None,
        ge=1,
        description="number of classes among the k samples; null: unknown, up to k",
    )

    @property
    def num_guesses(self) -> int:
        """Number of classes that an attacker with this knowledge guesses."""
        return self.classes or self.k


class ShadowScores(Record):
    """SHADOWS: a label attack's scores of shadow deletions. Visible to the auditor only."""

    scores: list[list[float]] = Field(
        min_length=1, description="[B][K] score of each class; lower means more likely"
    )
    labels: list[list[Index]] = Field(
        min_length=1, description="[B][k] classes of the samples each shadow deletion forgot"
    )
    trainings: int = Field(
        ge=0, description="number of training sets drawn and trained on for shadow deletions"
    )
    unlearning: str
    defense: str
    attack: str

    @model_validator(mode="after")
    def _check_shapes(self) -> ShadowScores:
        widths = {len(row) for row in self.scores}, {len(row) for row in self.labels}
        if (
            len(self.scores) != len(self.labels)
            or [len(each) for each in widths] != [1, 1]
            or not self.scores[0]
        ):
            raise ValueError(
                "scores [B][K] and labels [B][k] must have one row per shadow deletion, and all "
                "rows of each must have the same length"
            )
        if max(max(row, default=-1) for row in self.labels) >= len(self.scores[0]) or not all(
            self.labels
        ):
            raise ValueError("labels must be classes that have scores")
        return self


class LabelsRecord(Record):
    """LABELS: the classes of the samples of each deletion, [deletions][k]. Given to attacks that
    assume them."""

    labels: list[list[Index]] = Field(min_length=1)


StopReason = Literal["asked_for", "held_out_loss", "closest_epoch", "as_training", "no_held_out"]


class StopRecord(Record):
    """How long one deletion was unlearned."""

    steps: int = Field(ge=0, description="number of steps from the original to the release")
    reason: StopReason = Field(
        description=(
            "why not more steps: asked_for: a setting says so; held_out_loss: the forget loss "
            "reached that of held-out samples; closest_epoch: after this epoch it was closest to "
            "that; as_training: training took no more steps; no_held_out: there are no held-out "
            "samples to compare with"
        )
    )


class UnlearningRecord(Record):
    """UNLEARNING: how the samples were unlearned. For the evaluation; no attacker knows it."""

    method: str
    params: dict[str, Any]
    stated_method: PluginRef | None = Field(
        None,
        description="of a release that was brought, whose name is `method`: the method that its "
        "owner says it was made by; null: not stated",
    )
    exact: bool = Field(
        description="whether the result equals a model that was never trained on the samples"
    )
    weight_change: list[float] = Field(
        description="[deletions] Euclidean length of the change of all weights"
    )
    repeat_ratio: float | None = Field(
        None,
        description=(
            "exact methods: weight change of the first deletion's model when retrained in "
            "another order, as a share of the unlearning's weight change; smaller changes are "
            "noise"
        ),
    )
    stops: list[StopRecord] | None = Field(
        None,
        description=(
            "[deletions] how many steps were taken and why not more; null: the method has no "
            "stopping rule"
        ),
    )


class TriedSetting(Record):
    """One setting of a defense."""

    value: float
    validation_accuracy: float = Field(ge=0, le=1, description="mean over deletions")


class StrengthChoice(Record):
    """How a defense's strength was chosen."""

    name: str = Field(description="the parameter that sets the strength")
    value: float = Field(description="the setting that was released")
    reason: str = Field(description="a sentence")
    tried: list[TriedSetting] = Field(description="strongest first")
    accuracy_without: float = Field(
        ge=0, le=1, description="validation accuracy of the unlearned models"
    )
    max_accuracy_cost: float = Field(ge=0, le=1)
    validation_samples: int = Field(
        ge=1, description="samples of the pool that were never trained on"
    )


class DefenseRecord(Record):
    """DEFENSE: how the unlearned models were defended before release."""

    method: str
    params: dict[str, Any]
    strength: StrengthChoice | None = None
    guarantee: dict[str, float] = Field(
        default_factory=dict,
        description="formal guarantees of a defense that acts during training, such as epsilon",
    )
    has_adaptive_attack: bool | None = Field(
        None, description="whether an adaptive attack on this defense is known"
    )


def read_json(data: bytes, role: str) -> Any:
    """The value of a JSON artifact.

    Raises:
        InvalidRequest: not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{role} is not JSON: {error}", f"inputs.{role}") from error


def write_json(value: Any) -> bytes:
    """A JSON artifact: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def pick_samples(samples: Samples, indices: Tensor, role: str) -> Samples:
    """The samples at `indices`, in its shape.

    Raises:
        InvalidRequest: an index is beyond the split.
    """
    if int(indices.max()) >= len(samples.labels):
        raise InvalidRequest(
            f"{role} refers to a sample beyond the {len(samples.labels)} samples of its data set",
            f"inputs.{role}",
        )
    return Samples(samples.images[indices], samples.labels[indices])
