"""Retrains without each forget set, with several seeds: what exact unlearning would release."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.forgetting import MAX_DELETIONS, MAX_SEEDS, MIN_SEEDS
from shared.ml.context import Context, SeededSubContext
from shared.ml.networks import Ensemble, Networks, build_network, read_networks, write_networks
from shared.ml.records import RetrainingRecord, Shards, TrainingSet, read_json
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugin_ref import validate_model
from shared.plugins import Params
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._checkpointed import make_with_checkpoints
from workers.stages._datasets import open_compatible_dataset
from workers.stages._forget_sets import DeletionParams, draw_job_forget_sets
from workers.stages.pretrain import PretrainingRecipe

MAX_WEIGHT_BYTES = 2 << 30  # of all retrained models: they are one artifact, and in memory at once


class RetrainingParams(Params):
    forget: DeletionParams = Field(
        DeletionParams(),
        description="parameters of the unlearn stage, whose forget sets are left out",
    )
    pretrain: PretrainingRecipe = Field(
        PretrainingRecipe(),
        description=(
            "the recipe of the pretrain stage; with epochs 0 each seed starts from an initial "
            "network of its own instead of the base model"
        ),
    )
    seeds: int = Field(
        MIN_SEEDS, ge=MIN_SEEDS, le=MAX_SEEDS, description="retrained models per deletion"
    )
    max_deletions: int = Field(
        32,
        ge=1,
        le=MAX_DELETIONS,
        description=(
            "models are retrained for at most this many deletions, the first ones; for fewer if "
            "the models would take more than 2 GiB"
        ),
    )


@registry.register(
    "retraining",
    params=RetrainingParams,
    needs=(Role.BASE, Role.RECIPE, Role.TRAINING_SET, Role.SHARDS),
    produces=(Role.RETRAINED, Role.RETRAINING),
    source="the retrained models of Georgiev et al. 2024, arXiv 2410.23232",
    wiring=Wiring(
        models=ModelOrigin.TRAINED,
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.UNLEARN,
        params="retraining",
        shared_params=("forget", "pretrain"),
        on_demand=True,
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Train models on what each deletion retains, from the base model, by the recipe of the
    original.

    Where nothing was pretrained, each seed has its own initial network instead. Forget sets are
    those of an unlearn job with the same seed and parameters. Models differ in the order of their
    samples, by seed, and from every model that the unlearning method `retrain` makes. Of shards
    all members are trained again. All unlearning methods share this job.
    """
    params: RetrainingParams = ctx.params
    base = read_networks(ctx.read_input(Role.BASE), Role.BASE)
    recipe = validate_model(
        Recipe,
        read_json(ctx.read_input(Role.RECIPE), Role.RECIPE),
        Role.RECIPE,
        f"inputs.{Role.RECIPE}",
    )
    training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
    shards = Shards.read(ctx.read_input(Role.SHARDS), Role.SHARDS)
    dataset = open_compatible_dataset(training.dataset, base.architecture, Role.BASE)
    samples = training.load_samples()
    if len(shards.member) != len(samples.labels):
        raise InvalidRequest(
            f"SHARDS does not belong to a training set of {len(samples.labels)} samples",
            f"inputs.{Role.SHARDS}",
        )
    positions = draw_job_forget_sets(ctx, params.forget, dataset, training, samples.labels)
    architecture = base.architecture.model_copy(update={"members": shards.members})
    count = _count_repeatable(base, shards.members, len(positions), params)

    def train_next(finished: list[nn.Module]) -> nn.Module:
        deletion, seed = divmod(len(finished), params.seeds)
        earlier = positions[: deletion if params.forget.successive else 0].flatten()
        kept = torch.ones(len(samples.labels), dtype=torch.bool)
        kept[earlier] = kept[positions[deletion]] = False
        part = SeededSubContext(SeededSubContext(ctx, deletion, count), seed, params.seeds)
        start = None if params.pretrain.epochs else SeededSubContext(ctx, seed, params.seeds)
        network = _retrain(base, start, samples, kept, shards, recipe, part)
        part.report_progress(1, 1)
        return network

    models = make_with_checkpoints(ctx, architecture, count * params.seeds, train_next)
    record = RetrainingRecord(
        dataset=training.dataset,
        digest=training.digest,
        indices=torch.tensor(training.indices)[positions[:count]].tolist(),
        labels=samples.labels[positions[:count]].tolist(),
        seeds=params.seeds,
        successive=params.forget.successive,
    )
    return {
        Role.RETRAINED: StageOutput(write_networks(architecture, models)),
        Role.RETRAINING: StageOutput.of_json(record.to_dict()),
    }


def _retrain(
    base: Networks,
    start: Context | None,
    samples: Samples,
    kept: Tensor,
    shards: Shards,
    recipe: Recipe,
    ctx: Context,
) -> nn.Module:
    """One model, or one ensemble, trained on the samples that are kept (bool [N]).

    Args:
        start: draws the initial weights; None: training starts from the base model.
    """
    members = []
    for member in range(shards.members):
        network = _start(base, start, member)
        own = shards.find_positions(member)
        if len(own := own[kept[own]]):
            part = SeededSubContext(ctx, member, shards.members) if shards.members > 1 else ctx
            train(network, samples.pick(own), recipe, part)
        members.append(network.cpu())
    return members[0] if shards.members == 1 else Ensemble(members).eval()


def _start(base: Networks, start: Context | None, member: int) -> nn.Module:
    """The base model, or an initial network of the seed's own."""
    if start is None:
        return base.load_network()
    generator = start.make_generator(f"initial weights {member}")
    return build_network(base.architecture, generator)


def _count_repeatable(
    base: Networks, members: int, deletions: int, params: RetrainingParams
) -> int:
    """How many deletions are repeated.

    Raises:
        InvalidRequest: not even one fits.
    """
    model_bytes = members * sum(t.numel() * t.element_size() for t in base.state.values())
    fitting = MAX_WEIGHT_BYTES // (params.seeds * model_bytes)
    if not fitting:
        raise InvalidRequest(
            f"{params.seeds} retrained models of {model_bytes >> 20} MiB take more than "
            f"{MAX_WEIGHT_BYTES >> 20} MiB: lower seeds, or turn check_forgetting off",
            "params.seeds",
        )
    return min(deletions, params.max_deletions, fitting)
