"""Makes the original model: the base model, trained on the samples that may be forgotten."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from shared.choices import Choice, choice_of
from shared.errors import InvalidRequest
from shared.ml.datasets._base import digest
from shared.ml.datasets._roles import pretraining_and_pool
from shared.ml.networks import read_networks, write_network
from shared.ml.records import TrainingSet
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import open_for, test_accuracy


class TrainParams(Recipe):
    dataset: Annotated[Choice, choice_of("dataset")] = Field(
        Choice(name="mnist_5k"), description="data set; its pool is drawn from"
    )
    size: int = Field(32, ge=2, le=5000, description="N, samples in the training set")

    def recipe(self) -> Recipe:
        """The part that retraining repeats."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})


@registry.register(
    "train", params=TrainParams, needs=("BASE",), produces=("ORIGINAL", "TRAINING_SET", "RECIPE", "METRICS")
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Train the base model on N samples of the pool, which it has never seen: the original model."""
    params: TrainParams = ctx.params
    base = read_networks(ctx.input("BASE"), "BASE")
    dataset = open_for(params.dataset, base.architecture, "BASE")
    split = dataset.load("train")
    _, pool = pretraining_and_pool(len(split.labels))
    if params.size > len(pool):
        raise InvalidRequest(f"the pool of {params.dataset.name} has {len(pool)} samples", "params.size")
    indices = pool[torch.randperm(len(pool), generator=ctx.generator("training set"))[: params.size]]

    network, recipe = base.network(), params.recipe()
    loss = train(network, split.pick(indices), recipe, ctx)
    chosen = TrainingSet(dataset=params.dataset, digest=digest(split), indices=indices.tolist())
    metrics = {"n": params.size, "loss": loss, "test_accuracy": test_accuracy(network, dataset, ctx)}
    return {
        "ORIGINAL": Output(write_network(base.architecture, network)),
        "TRAINING_SET": Output.of_json(chosen.json_value()),
        "RECIPE": Output.of_json(recipe.model_dump(mode="json")),
        "METRICS": Output.of_json(metrics),
    }
