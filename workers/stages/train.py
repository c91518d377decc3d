"""Trains the original model: the base model, trained on samples that may be forgotten."""

from __future__ import annotations

from statistics import fmean
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.context import SeededSubContext, SubContext
from shared.ml.networks import Ensemble, Networks, read_networks, write_network
from shared.ml.records import Shards, TrainingSet
from shared.ml.samples import Samples, compute_digest, find_deletable
from shared.ml.splits import split_pretraining_and_pool
from shared.ml.training.deltas import BatchDeltas
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugin_ref import PluginRef, plugin_field
from shared.pool import DESCRIPTION, MAX_SAMPLES, PoolSize
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._checkpointed import make_with_checkpoints
from workers.stages._datasets import measure_test_accuracy, open_compatible_dataset
from workers.stages._named_records import public_record

PUBLIC_SETS = 16


class TrainParams(Recipe):
    dataset: Annotated[PluginRef, plugin_field("dataset")] = Field(
        PluginRef(name="mnist_5k"), description="data set; samples are drawn from its pool"
    )
    pool: PoolSize | None = Field(None, description=DESCRIPTION)
    size: int = Field(32, ge=1, le=MAX_SAMPLES, description="N, samples in the training set")
    balanced: bool = Field(
        False, description="the same number of samples per class, so that classes can be forgotten"
    )
    shards: int = Field(
        1,
        ge=1,
        le=100,
        description="above 1: this many models, each trained on a part of the data (SISA)",
    )
    record_deltas: bool = Field(
        False,
        description="record the weight change of every step, for amnesiac unlearning to undo",
    )

    def to_recipe(self) -> Recipe:
        """The part that retraining repeats."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})


@registry.register(
    "train",
    params=TrainParams,
    needs=(Role.BASE,),
    produces=(
        Role.ORIGINAL,
        Role.TRAINING_SET,
        Role.PUBLIC,
        Role.RECIPE,
        Role.SHARDS,
        Role.METRICS,
    ),
    produces_when={"record_deltas": {True: (Role.BATCH_DELTAS,)}},
    wiring=Wiring(
        models=ModelOrigin.TRAINED,
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.TRAIN,
        params="train",
        shared_params=("dataset", "pool"),
        trained_for_methods=True,
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Train the base model on N samples of the pool, which it has never seen: the original
    model."""
    params: TrainParams = ctx.params
    base = read_networks(ctx.read_input(Role.BASE), Role.BASE)
    dataset = open_compatible_dataset(params.dataset, base.architecture, Role.BASE)
    split = dataset.load("train")
    deletable = find_deletable(dataset)
    pool = split_pretraining_and_pool(split.labels, params.pool, deletable)[1]
    indices = _draw_training_set(
        ctx, split.labels, pool, torch.tensor(deletable, dtype=torch.int64)
    )
    samples, shards = split.pick(indices), Shards.split_evenly(params.size, params.shards)

    deltas = BatchDeltas()
    if params.shards == 1:
        network = base.load_network()
        # recorded changes are not in checkpoints, so this training makes none
        if params.record_deltas:
            loss = train(
                network, samples, params.to_recipe(), SubContext(ctx, 0, 1), deltas.record_step
            )
        else:
            loss = train(network, samples, params.to_recipe(), ctx)
        architecture = base.architecture
    else:
        network, loss = _train_ensemble(ctx, base, samples, shards)
        architecture = base.architecture.model_copy(update={"members": params.shards})
    training_set = TrainingSet(
        dataset=params.dataset,
        digest=compute_digest(split),
        indices=indices.tolist(),
        pool=params.pool,
    )
    public = public_record(params.dataset, dataset, split, _draw_public_sets(ctx, indices, pool))
    metrics = {
        "n": params.size,
        "loss": loss,
        "test_accuracy": measure_test_accuracy(network, dataset, ctx),
    }
    outputs: dict[str, StageOutput] = {
        Role.ORIGINAL: StageOutput(write_network(architecture, network)),
        Role.TRAINING_SET: StageOutput.of_json(training_set.to_dict()),
        Role.PUBLIC: StageOutput.of_json(public.to_dict()),
        Role.RECIPE: StageOutput.of_json(params.to_recipe().model_dump(mode="json")),
        Role.SHARDS: StageOutput.of_json(shards.to_dict()),
        Role.METRICS: StageOutput.of_json(metrics),
    }
    return outputs | (
        {Role.BATCH_DELTAS: StageOutput(deltas.to_bytes())} if params.record_deltas else {}
    )


def _draw_training_set(ctx: JobContext, labels: Tensor, pool: Tensor, kept: Tensor) -> Tensor:
    """Positions of the training set in the train split: N random samples of the pool, or N /
    classes per class.

    Args:
        kept: positions in the pool that are always included, as deletions name them.

    Raises:
        InvalidRequest: the pool has too few samples, or N cannot be balanced over the classes.
    """
    params: TrainParams = ctx.params
    order = pool[torch.randperm(len(pool), generator=ctx.make_generator("training set"))]
    if params.size > len(pool):
        raise InvalidRequest(
            f"the pool of {params.dataset.name} has only {len(pool)} samples, but size is "
            f"{params.size}: lower size, or raise pool",
            "params.size",
        )
    if len(kept) > params.size:
        raise InvalidRequest(
            f"deletions name {len(kept)} samples, but the training set has only {params.size}: "
            "raise size",
            "params.size",
        )
    if len(kept):
        order = torch.cat([kept, order[~torch.isin(order, kept)]])
    if not params.balanced:
        drawn = order[: params.size]
        return (
            drawn[torch.randperm(len(drawn), generator=ctx.make_generator("named"))]
            if len(kept)
            else drawn
        )
    classes = sorted({*labels.tolist()})
    per_class, remainder = divmod(params.size, len(classes))
    if remainder:
        raise InvalidRequest(
            f"{params.size} samples cannot be balanced over {len(classes)} classes: set size to a "
            f"multiple of {len(classes)}",
            "params.size",
        )
    members = [order[labels[order] == c][:per_class] for c in classes]
    for c, class_members in zip(classes, members, strict=True):
        if (named := int((labels[kept] == c).sum())) > per_class:
            raise InvalidRequest(
                f"deletions name {named} samples of class {c}, but the training set has only "
                f"{per_class} of this class: raise size",
                "params.size",
            )
        if len(class_members) < per_class:
            raise InvalidRequest(
                f"the pool has only {len(class_members)} samples of class {c}, but {per_class} are "
                "needed: lower size, raise pool, or train without balanced",
                "params.size",
            )
    together = torch.cat(members)
    return together[torch.randperm(len(together), generator=ctx.make_generator("balanced"))]


def _draw_public_sets(ctx: JobContext, training_indices: Tensor, pool: Tensor) -> list[list[int]]:
    """Positions of other training sets from the rest of the pool; all of it if that is too few for
    one set."""
    left = pool[~torch.isin(pool, training_indices)]
    order = left[torch.randperm(len(left), generator=ctx.make_generator("public"))]
    num_sets = min(PUBLIC_SETS, len(order) // len(training_indices))
    if not num_sets:
        return [order.tolist()] if len(order) else []
    sets: list[list[int]] = order[: num_sets * len(training_indices)].view(num_sets, -1).tolist()
    return sets


def _train_ensemble(
    ctx: JobContext, base: Networks, samples: Samples, shards: Shards
) -> tuple[nn.Module, float]:
    """One network per shard, trained on that shard alone. Finished members are the checkpoint."""
    params: TrainParams = ctx.params
    losses: list[float] = []

    def train_member(finished: list[nn.Module]) -> nn.Module:
        index, network = len(finished), base.load_network()
        part = SeededSubContext(ctx, index, params.shards)
        losses.append(
            train(network, samples.pick(shards.find_positions(index)), params.to_recipe(), part)
        )
        return network

    members = make_with_checkpoints(ctx, base.architecture, params.shards, train_member, losses)
    return Ensemble(members).eval(), fmean(losses)
