"""Makes the unlearned models, one per deletion."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import nn

from shared.errors import InvalidRequest
from shared.ml.context import SeededSubContext
from shared.ml.networks import clone, read_networks, write_networks
from shared.ml.records import (
    DeletionSizes,
    ForgetSets,
    LabelsRecord,
    StopReason,
    StopRecord,
    TrainingSet,
    UnlearningRecord,
    pick_samples,
)
from shared.plugins import UnlearningPlugin
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._checkpointed import make_with_checkpoints
from workers.stages._datasets import open_compatible_dataset
from workers.stages._forget_sets import DeletionParams, draw_job_forget_sets
from workers.stages._unlearning_inputs import HeldOutSamples, UnlearningArtifacts

REASONS: tuple[StopReason, ...] = get_args(StopReason)


@registry.register(
    "unlearn",
    params=DeletionParams,
    needs=(Role.ORIGINAL, Role.TRAINING_SET),
    uses=(Role.RECIPE,),
    methods="unlearning",
    produces=(Role.UNLEARNED, Role.FORGET_SETS, Role.DELETION_SIZES, Role.LABELS, Role.UNLEARNING),
    produces_when={"successive": {True: (Role.ORIGINAL,)}},
    wiring=Wiring(
        models=ModelOrigin.TRAINED,
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.UNLEARN,
        params="forget",
        methods="unlearning",
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Unlearn D disjoint sets of k samples, each from the original model or one after another.

    With `successive`, ORIGINAL is an output too: the model that each deletion started from.
    """
    params: DeletionParams = ctx.params
    original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
    training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
    dataset = open_compatible_dataset(training.dataset, original.architecture, Role.ORIGINAL)
    split = training.load_train_split(Role.TRAINING_SET)
    samples = pick_samples(split, torch.tensor(training.indices), Role.TRAINING_SET)
    positions = draw_job_forget_sets(ctx, params, dataset, training, samples.labels)
    deletions, k = positions.shape
    held_out = HeldOutSamples(
        split.pick(training.find_held_out(split.labels)), dataset.load("test")
    )
    artifacts = UnlearningArtifacts.read(ctx, original, len(samples.labels), held_out)
    assert isinstance(ctx.method, UnlearningPlugin)
    method = ctx.method
    exact = method.exact
    num_parts = (
        deletions + exact
    )  # an exact method repeats the first deletion to measure its reproducibility

    stops: list[float] = []

    def unlearn_deletion(deletion: int, part_index: int, finished: list[nn.Module]) -> nn.Module:
        earlier = positions[: deletion if params.successive else 0].flatten()
        start = finished[-1] if len(earlier) else original.load_network()
        kept = torch.ones(len(samples.labels), dtype=torch.bool)
        kept[earlier] = kept[positions[deletion]] = False
        retain = kept.nonzero().flatten()
        part = SeededSubContext(ctx, part_index, num_parts)
        picked = samples.pick(retain), samples.pick(positions[deletion])
        inputs = artifacts.build_inputs(
            clone(start), retain, positions[deletion], earlier, picked[1].labels, part
        )
        if not len(retain) and method.retain == "needed":
            raise InvalidRequest(
                f"{method.name} needs a non-empty retain set, but this deletion forgets the "
                "whole training set",
                "params",
            )
        network: nn.Module = method.target(inputs, *picked, ctx.method_params, part)
        part.report_progress(1, 1)
        stops.extend(_encode_stop(stop) for stop in inputs.stops)
        return network.cpu()

    models = make_with_checkpoints(
        ctx,
        original.architecture,
        deletions,
        lambda models: unlearn_deletion(len(models), len(models), models),
        stops,
    )
    stop_records = [_decode_stop(number) for number in stops]
    starts = (
        [original.load_network(), *models[:-1]]
        if params.successive
        else [original.load_network()] * deletions
    )
    labels = samples.labels[positions].tolist()
    truth = ForgetSets(
        dataset=training.dataset,
        digest=training.digest,
        indices=torch.tensor(training.indices)[positions].tolist(),
        labels=labels,
    )
    changes = [
        _measure_distance(start, network) for start, network in zip(starts, models, strict=True)
    ]
    record = UnlearningRecord(
        method=method.name,
        params=ctx.method_params.model_dump(mode="json"),
        exact=exact,
        weight_change=changes,
        repeat_ratio=_measure_distance(models[0], unlearn_deletion(0, deletions, [])) / changes[0]
        if exact and changes[0]
        else None,
        stops=stop_records if len(stop_records) == deletions else None,
    )
    outputs: dict[str, StageOutput] = {
        Role.UNLEARNED: StageOutput(write_networks(original.architecture, models)),
        Role.FORGET_SETS: StageOutput.of_json(truth.to_dict()),
        Role.DELETION_SIZES: StageOutput.of_json(
            DeletionSizes(N=len(samples.labels), k=k, classes=_count_classes(params)).to_dict()
        ),
        Role.LABELS: StageOutput.of_json(LabelsRecord(labels=labels).to_dict()),
        Role.UNLEARNING: StageOutput.of_json(record.to_dict()),
    }
    return outputs | (
        {Role.ORIGINAL: StageOutput(write_networks(original.architecture, starts))}
        if params.successive
        else {}
    )


def _count_classes(params: DeletionParams) -> int | None:
    return 1 if params.forget == "class" and params.listed_sets is None else None


def _encode_stop(stop: StopRecord) -> float:
    """As one of a checkpoint's numbers."""
    return stop.steps * len(REASONS) + REASONS.index(stop.reason)


def _decode_stop(number: float) -> StopRecord:
    steps, reason = divmod(int(number), len(REASONS))
    return StopRecord(steps=steps, reason=REASONS[reason])


def _measure_distance(before: nn.Module, after: nn.Module) -> float:
    """Euclidean length of the change of all trained weights."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return math.sqrt(
        sum((a.detach().double() - b.detach().double()).square().sum().item() for a, b in pairs)
    )
