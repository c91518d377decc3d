"""The models that `forgetting` compares, the samples that it compares them on, and their outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.context import Context
from shared.ml.networks import Networks, read_networks
from shared.ml.records import ForgetSets, RetrainingRecord, TrainingSet
from shared.ml.samples import Samples, open_dataset
from shared.ml.training.sgd import compute_logits
from shared.roles import Role
from workers.context import JobContext
from workers.stages._datasets import random_subset


@dataclass(frozen=True)
class ComparedModels:
    """Original, released and retrained models of the deletions that were repeated."""

    original: Networks
    released: Networks
    retrained: Networks
    record: RetrainingRecord

    @property
    def deletions(self) -> int:
        return len(self.record.indices)

    @property
    def seeds(self) -> int:
        return self.record.seeds

    @classmethod
    def read(cls, ctx: JobContext, truth: ForgetSets) -> ComparedModels:
        """Read the models.

        Raises:
            InvalidRequest: they are not of one architecture or of these forget sets.
        """
        original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
        released, retrained = (
            read_networks(ctx.read_input(role), role, like=original.architecture)
            for role in (Role.UNLEARNED, Role.RETRAINED)
        )
        record = RetrainingRecord.read(ctx.read_input(Role.RETRAINING), Role.RETRAINING)
        repeated = len(record.indices)
        if record.digest != truth.digest or record.indices != truth.indices[:repeated]:
            raise InvalidRequest(
                "RETRAINED was not retrained without these forget sets: run retraining with the "
                "parameters and the seed of the unlearn job",
                f"inputs.{Role.RETRAINING}",
            )
        if retrained.count != repeated * record.seeds:
            raise InvalidRequest(
                f"RETRAINED holds {retrained.count} models, not {record.seeds} for each of "
                f"{repeated} deletions",
                f"inputs.{Role.RETRAINED}",
            )
        deletions = len(truth.indices)
        if released.count != deletions or original.count not in (1, deletions):
            raise InvalidRequest(
                "the models and FORGET_SETS differ in their number of deletions",
                f"inputs.{Role.UNLEARNED}",
            )
        if deletions > 1 and record.successive != (original.count > 1):
            raise InvalidRequest(
                "unlearning and retraining must both make successive deletions, or neither: use "
                "the same value of successive for both",
                f"inputs.{Role.RETRAINING}",
            )
        return cls(original, released, retrained, record)

    def load_original(self, deletion: int) -> nn.Module:
        """The model that the deletion started from."""
        return self.original.load_network(deletion if self.original.count > 1 else 0)

    def load_retrained(self, deletion: int, seed: int = 0) -> nn.Module:
        """A model that was retrained without the forget set."""
        return self.retrained.load_network(deletion * self.seeds + seed)


@dataclass(frozen=True)
class ComparedSamples:
    """`forget` has one entry per deletion; `retain` no deletion forgets, and it may be empty."""

    forget: list[Samples]
    retain: Samples
    test: Samples
    training: TrainingSet
    split: Samples

    @classmethod
    def read(cls, ctx: JobContext, truth: ForgetSets, deletions: int) -> ComparedSamples:
        """Draw at most `params.samples` retained and test samples.

        Raises:
            InvalidRequest: forget sets are not in the training set.
        """
        training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
        forgotten = {index for row in truth.indices for index in row}
        if training.digest != truth.digest or not forgotten <= {*training.indices}:
            raise InvalidRequest(
                "FORGET_SETS contains samples that are not in this TRAINING_SET",
                f"inputs.{Role.FORGET_SETS}",
            )
        split = training.load_train_split(Role.TRAINING_SET)
        retained = [index for index in training.indices if index not in forgotten]
        count = ctx.params.samples
        return cls(
            [split.pick(row) for row in truth.indices[:deletions]],
            random_subset(split.pick(retained), count, ctx.make_generator("retained")),
            random_subset(
                open_dataset(training.dataset).load("test"), count, ctx.make_generator("test")
            ),
            training,
            split,
        )

    def pick_retained(self, record: RetrainingRecord, deletion: int) -> list[int]:
        """Positions in the train split of what a deletion retains."""
        first = 0 if record.successive else deletion
        gone = {index for row in record.indices[first : deletion + 1] for index in row}
        return [index for index in self.training.indices if index not in gone]

    @property
    def labels(self) -> dict[str, Tensor]:
        """By set: forget [D, k], retain [R], test [T]."""
        return {
            "forget": torch.stack([one.labels for one in self.forget]),
            "retain": self.retain.labels,
            "test": self.test.labels,
        }


# By set, logits of original and release [D, n, K] and of the retrained models [D, S, n, K].
Outputs = dict[str, dict[str, Tensor]]


def compute_outputs(models: ComparedModels, samples: ComparedSamples, ctx: Context) -> Outputs:
    """The logits of all models on all samples."""
    shared = torch.cat([samples.retain.images, samples.test.images])
    total = models.deletions * (models.seeds + 2)
    done = 0

    def ask(network: nn.Module, deletion: int) -> Tensor:
        nonlocal done
        images = torch.cat([samples.forget[deletion].images, shared])
        logits = compute_logits(network, images, ctx.device)
        done += 1
        ctx.report_progress(done, total)
        return logits

    every = range(models.deletions)
    joined = {
        "original": torch.stack([ask(models.load_original(d), d) for d in every]),
        "release": torch.stack([ask(models.released.load_network(d), d) for d in every]),
        "retrained": torch.stack(
            [
                torch.stack([ask(models.load_retrained(d, s), d) for s in range(models.seeds)])
                for d in every
            ]
        ),
    }
    sizes = [len(samples.forget[0].labels), len(samples.retain.labels), len(samples.test.labels)]
    parts = {kind: torch.split(logits, sizes, -2) for kind, logits in joined.items()}
    return {
        name: {kind: parts[kind][index] for kind in parts}
        for index, name in enumerate(("forget", "retain", "test"))
    }
