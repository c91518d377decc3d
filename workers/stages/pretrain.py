"""Pretrains the base model, on data outside the pool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.errors import InvalidRequest
from shared.ml.networks import build_network, write_network
from shared.ml.samples import Dataset, Samples, find_deletable, open_dataset
from shared.ml.splits import split_pretraining_and_pool
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugin_ref import PluginRef, plugin_field
from shared.pool import DESCRIPTION, PoolSize
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._datasets import build_architecture, measure_test_accuracy


class PretrainingRecipe(Recipe):
    """How the base model is trained: what an audit's field `pretrain` holds."""

    epochs: int = Field(
        2,
        ge=0,
        le=1000,
        description=(
            "passes over the data; more passes leave less to leak. 0: nothing is pretrained, and "
            "the base model is the initial network"
        ),
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


class PretrainParams(PretrainingRecipe):
    dataset: Annotated[PluginRef, plugin_field("dataset")] = Field(
        PluginRef(name="mnist_5k"), description="data set; its pool is left out"
    )
    model: Annotated[PluginRef, plugin_field("model")] = Field(
        PluginRef(name="convnet"), description="network to train"
    )
    pool: PoolSize | None = Field(None, description=DESCRIPTION)


@registry.register(
    "pretrain",
    params=PretrainParams,
    produces=(Role.BASE, Role.METRICS),
    wiring=Wiring(
        models=ModelOrigin.TRAINED,
        scopes=(Scope.AUDIT,),
        group=WorkerGroup.TRAIN,
        params="pretrain",
        shared_params=("dataset", "model", "pool"),
        seed="pretrain_seed",
        # the feature network must not be under attack, but as good as the base: same training,
        # another seed
        twins={Role.FEATURE_NETWORK: Role.BASE},
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Train a network from scratch on the pretraining data: the base model. With epochs 0 it is
    the initial network, and METRICS have n 0 and no loss.

    Raises:
        InvalidRequest: the pool leaves nothing to pretrain on, or is larger than the train split.
    """
    params: PretrainParams = ctx.params
    dataset = open_dataset(params.dataset)
    architecture = build_architecture(dataset, params.model)
    samples = _load_pretraining_samples(dataset, params)
    network = build_network(architecture, ctx.make_generator("initial weights"))
    loss = None
    if params.epochs:
        loss = train(network, samples, params, ctx)
    else:
        network.eval()
        ctx.report_progress(1, 1)
    metrics = {
        "n": len(samples.labels) if params.epochs else 0,
        "epochs": params.epochs,
        "loss": loss,
        "test_accuracy": measure_test_accuracy(network, dataset, ctx),
    }
    return {
        Role.BASE: StageOutput(write_network(architecture, network)),
        Role.METRICS: StageOutput.of_json(metrics),
    }


def _load_pretraining_samples(dataset: Dataset, params: PretrainParams) -> Samples:
    samples = dataset.load("train")
    rest, pool = split_pretraining_and_pool(samples.labels, params.pool, find_deletable(dataset))
    if params.epochs and not len(rest):
        raise InvalidRequest(
            f"a pool of {len(pool)} is the whole train split, so nothing is left to pretrain on: "
            "lower pool, or set pretrain.epochs to 0 to train from scratch",
            "params.pool",
        )
    return samples.pick(rest)
