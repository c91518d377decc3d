"""Makes the original model: the base model, trained on the samples that may be forgotten."""

from __future__ import annotations

from statistics import fmean
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.choices import Choice, choice_of
from shared.errors import InvalidRequest
from shared.ml.context import Part, Share
from shared.ml.networks import Ensemble, Networks, read_networks, write_network
from shared.ml.records import Shards, TrainingSet
from shared.ml.samples import Samples, digest
from shared.ml.splits import pretraining_and_pool
from shared.ml.training.deltas import BatchDeltas
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import open_for, test_accuracy
from workers.stages._finished import one_by_one
from workers.stages._named_records import deletable_places, public_record

PUBLIC_SETS = 16


class TrainParams(Recipe):
    dataset: Annotated[Choice, choice_of("dataset")] = Field(
        Choice(name="mnist_5k"), description="data set; its pool is drawn from"
    )
    size: int = Field(32, ge=1, le=5000, description="N, samples in the training set")
    balanced: bool = Field(False, description="as many samples of each class, so that classes can be forgotten")
    shards: int = Field(
        1, ge=1, le=100, description="above 1: a model of its own for each of so many parts of the data (SISA)"
    )
    record_deltas: bool = Field(False, description="note what every step changed (amnesiac unlearning takes it back)")

    def recipe(self) -> Recipe:
        """The part that retraining repeats."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})


@registry.register(
    "train",
    params=TrainParams,
    needs=(Role.BASE,),
    produces=(Role.ORIGINAL, Role.TRAINING_SET, Role.PUBLIC, Role.RECIPE, Role.SHARDS, Role.METRICS),
    produces_when={"record_deltas": {True: (Role.BATCH_DELTAS,)}},
    wiring=Wiring(
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.TRAIN,
        params="train",
        shared_params=("dataset",),
        trained_for_methods=True,
    ),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Train the base model on N samples of the pool, which it has never seen: the original model."""
    params: TrainParams = ctx.params
    base = read_networks(ctx.input(Role.BASE), Role.BASE)
    dataset = open_for(params.dataset, base.architecture, Role.BASE)
    split = dataset.load("train")
    indices = _drawn(ctx, split.labels, torch.tensor(deletable_places(dataset), dtype=torch.int64))
    samples, shards = split.pick(indices), Shards.even(params.size, params.shards)

    deltas = BatchDeltas()
    if params.shards == 1:
        network = base.network()
        if params.record_deltas:  # what was recorded is in no checkpoint, so this training makes none
            loss = train(network, samples, params.recipe(), Share(ctx, 0, 1), deltas.add)
        else:
            loss = train(network, samples, params.recipe(), ctx)
        architecture = base.architecture
    else:
        network, loss = _ensemble(ctx, base, samples, shards)
        architecture = base.architecture.model_copy(update={"members": params.shards})
    chosen = TrainingSet(dataset=params.dataset, digest=digest(split), indices=indices.tolist())
    public = public_record(params.dataset, dataset, split, _public(ctx, indices, len(split.labels)))
    metrics = {"n": params.size, "loss": loss, "test_accuracy": test_accuracy(network, dataset, ctx)}
    made: dict[str, Output] = {
        Role.ORIGINAL: Output(write_network(architecture, network)),
        Role.TRAINING_SET: Output.of_json(chosen.json_value()),
        Role.PUBLIC: Output.of_json(public.json_value()),
        Role.RECIPE: Output.of_json(params.recipe().model_dump(mode="json")),
        Role.SHARDS: Output.of_json(shards.json_value()),
        Role.METRICS: Output.of_json(metrics),
    }
    return made | ({Role.BATCH_DELTAS: Output(deltas.write())} if params.record_deltas else {})


def _drawn(ctx: JobContext, labels: Tensor, kept: Tensor) -> Tensor:
    """Positions of the training set in the train split: N of the pool, drawn without looking, or N / classes each.

    Args:
        kept: positions in the pool that are drawn whatever the seed, as deletions name them.

    Raises:
        InvalidRequest: the pool has too few, or N is not the same number of each class.
    """
    params: TrainParams = ctx.params
    pool = pretraining_and_pool(len(labels))[1]
    order = pool[torch.randperm(len(pool), generator=ctx.generator("training set"))]
    if params.size > len(pool):
        raise InvalidRequest(f"the pool of {params.dataset.name} has {len(pool)} samples", "params.size")
    if len(kept) > params.size:
        raise InvalidRequest(
            f"deletions name {len(kept)} samples, and the training set has {params.size}", "params.size"
        )
    if len(kept):
        order = torch.cat([kept, order[~torch.isin(order, kept)]])
    if not params.balanced:
        drawn = order[: params.size]
        return drawn[torch.randperm(len(drawn), generator=ctx.generator("named"))] if len(kept) else drawn
    classes = sorted({*labels.tolist()})
    each, odd = divmod(params.size, len(classes))
    if odd:
        raise InvalidRequest(f"{params.size} samples cannot be balanced over {len(classes)} classes", "params.size")
    members = [order[labels[order] == c][:each] for c in classes]
    for c, found in zip(classes, members, strict=True):
        if (named := int((labels[kept] == c).sum())) > each:
            raise InvalidRequest(
                f"deletions name {named} samples of class {c}, and {each} are trained on", "params.size"
            )
        if len(found) < each:
            raise InvalidRequest(f"the pool has {len(found)} samples of class {c}, not {each}", "params.size")
    together = torch.cat(members)
    return together[torch.randperm(len(together), generator=ctx.generator("balanced"))]


def _public(ctx: JobContext, taken: Tensor, n: int) -> list[list[int]]:
    """Positions of other training sets from what is left of the pool; where that is too few for one, all of it."""
    pool = pretraining_and_pool(n)[1]
    left = pool[~torch.isin(pool, taken)]
    order = left[torch.randperm(len(left), generator=ctx.generator("public"))]
    whole = min(PUBLIC_SETS, len(order) // len(taken))
    if not whole:
        return [order.tolist()] if len(order) else []
    sets: list[list[int]] = order[: whole * len(taken)].view(whole, -1).tolist()
    return sets


def _ensemble(ctx: JobContext, base: Networks, samples: Samples, shards: Shards) -> tuple[nn.Module, float]:
    """A network a shard, trained on that shard alone. Members that are finished are the checkpoint."""
    params: TrainParams = ctx.params
    losses: list[float] = []

    def member(before: list[nn.Module]) -> nn.Module:
        which, network = len(before), base.network()
        part = Part(ctx, which, params.shards)
        losses.append(train(network, samples.pick(shards.places(which)), params.recipe(), part))
        return network

    members = one_by_one(ctx, base.architecture, params.shards, member, losses)
    return Ensemble(members).eval(), fmean(losses)
