"""Pretrains the base model, on data outside the pool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.ml.networks import build_network, write_network
from shared.ml.samples import open_dataset
from shared.ml.splits import split_pretraining_and_pool
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugin_ref import PluginRef, plugin_field
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._datasets import build_architecture, measure_test_accuracy


class PretrainParams(Recipe):
    dataset: Annotated[PluginRef, plugin_field("dataset")] = Field(
        PluginRef(name="mnist_5k"), description="data set; its pool is left out"
    )
    model: Annotated[PluginRef, plugin_field("model")] = Field(
        PluginRef(name="convnet"), description="network to train"
    )
    epochs: int = Field(
        2, ge=1, le=1000, description="passes over the data; more passes leave less to leak"
    )
    lr: float = Field(0.1, gt=0, le=10, description="highest learning rate")
    batch_size: int = Field(16, ge=1, le=65536, description="samples per step")
    momentum: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the previous step that is added",
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty added to the gradient")
    schedule: Literal["constant", "one_cycle"] = Field(
        "one_cycle",
        description="one_cycle: lr rises from 0 in the first quarter of the steps, then falls to 0",
    )
    batch_norm: Literal["frozen", "trained"] = Field(
        "trained", description="trained: BatchNorm uses the statistics of each batch"
    )


@registry.register(
    "pretrain",
    params=PretrainParams,
    produces=(Role.BASE, Role.METRICS),
    wiring=Wiring(
        scopes=(Scope.AUDIT,),
        group=WorkerGroup.TRAIN,
        params="pretrain",
        shared_params=("dataset", "model"),
        seed="pretrain_seed",
        # the feature network must not be under attack, but as good as the base: same training,
        # another seed
        twins={Role.FEATURE_NETWORK: Role.BASE},
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Train a network from scratch on the pretraining data: the base model."""
    params: PretrainParams = ctx.params
    dataset = open_dataset(params.dataset)
    architecture = build_architecture(dataset, params.model)
    samples = dataset.load("train")
    samples = samples.pick(split_pretraining_and_pool(len(samples.labels))[0])
    network = build_network(architecture, ctx.make_generator("initial weights"))
    loss = train(network, samples, params, ctx)
    metrics = {
        "n": len(samples.labels),
        "loss": loss,
        "test_accuracy": measure_test_accuracy(network, dataset, ctx),
    }
    return {
        Role.BASE: StageOutput(write_network(architecture, network)),
        Role.METRICS: StageOutput.of_json(metrics),
    }
