"""Makes the unlearned models, one a deletion."""

from __future__ import annotations

import math
from functools import partial

import torch
from pydantic import Field
from torch import nn

from shared.errors import InvalidRequest
from shared.ml.context import Part
from shared.ml.networks import clone, read_networks, write_networks
from shared.ml.records import Counts, ForgetSets, Labels, TrainingSet, Unlearning
from shared.plugins import UnlearningPlugin
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import open_for
from workers.stages._finished import one_by_one
from workers.stages._forget_sets import ForgetParams, forget_places
from workers.stages._named_records import find_in_training
from workers.stages._unlearning_inputs import Given


class UnlearnParams(ForgetParams):
    successive: bool = Field(
        False, description="each deletion from the model that the one before left; else all from the original"
    )


@registry.register(
    "unlearn",
    params=UnlearnParams,
    needs=(Role.ORIGINAL, Role.TRAINING_SET),
    uses=(Role.RECIPE,),
    methods="unlearning",
    produces=(Role.UNLEARNED, Role.FORGET_SETS, Role.COUNTS, Role.LABELS, Role.UNLEARNING),
    produces_when={"successive": {True: (Role.ORIGINAL,)}},
    wiring=Wiring(scopes=(Scope.RELEASE,), group=WorkerGroup.UNLEARN, params="forget", methods="unlearning"),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Forget disjoint sets of k samples, from the original model each or one after another: D unlearned models.

    With `successive`, ORIGINAL is made too: for each deletion the model that it started from.
    """
    params: UnlearnParams = ctx.params
    original = read_networks(ctx.input(Role.ORIGINAL), Role.ORIGINAL)
    training = TrainingSet.read(ctx.input(Role.TRAINING_SET), Role.TRAINING_SET)
    dataset = open_for(training.dataset, original.architecture, Role.ORIGINAL)
    samples = training.samples()
    places = forget_places(
        params, samples.labels, ctx.generator("forget sets"), partial(find_in_training, dataset, training)
    )
    deletions, k = places.shape
    given = Given.of(ctx, original, len(samples.labels))
    assert isinstance(ctx.method, UnlearningPlugin)
    method = ctx.method
    exact = method.exact
    runs = deletions + exact  # an exact method shows on the first deletion how well it repeats

    def unlearned(deletion: int, run: int, before: list[nn.Module]) -> nn.Module:
        gone = places[: deletion if params.successive else 0].flatten()
        start = before[-1] if len(gone) else original.network()
        kept = torch.ones(len(samples.labels), dtype=torch.bool)
        kept[gone] = kept[places[deletion]] = False
        retain = kept.nonzero().flatten()
        inputs = given.inputs(clone(start), retain, places[deletion], gone)
        if not len(retain) and method.retain == "needed":
            raise InvalidRequest(f"{method.name} needs samples to keep: nothing is left of the training set", "params")
        part = Part(ctx, run, runs)
        picked = samples.pick(retain), samples.pick(places[deletion])
        network: nn.Module = method.target(inputs, *picked, ctx.method_params, part)
        part.progress(1, 1)
        return network.cpu()

    models = one_by_one(ctx, original.architecture, deletions, lambda made: unlearned(len(made), len(made), made))
    starts = [original.network(), *models[:-1]] if params.successive else [original.network()] * deletions
    labels = samples.labels[places].tolist()
    truth = ForgetSets(
        dataset=training.dataset,
        digest=training.digest,
        indices=torch.tensor(training.indices)[places].tolist(),
        labels=labels,
    )
    changes = [_distance(start, network) for start, network in zip(starts, models, strict=True)]
    done = Unlearning(
        method=method.name,
        params=ctx.method_params.model_dump(mode="json"),
        exact=exact,
        weight_change=changes,
        repeat_ratio=_distance(models[0], unlearned(0, deletions, [])) / changes[0] if exact and changes[0] else None,
    )
    made: dict[str, Output] = {
        Role.UNLEARNED: Output(write_networks(original.architecture, models)),
        Role.FORGET_SETS: Output.of_json(truth.json_value()),
        Role.COUNTS: Output.of_json(Counts(N=len(samples.labels), k=k, classes=_classes(params)).json_value()),
        Role.LABELS: Output.of_json(Labels(labels=labels).json_value()),
        Role.UNLEARNING: Output.of_json(done.json_value()),
    }
    return made | ({Role.ORIGINAL: Output(write_networks(original.architecture, starts))} if params.successive else {})


def _classes(params: UnlearnParams) -> int | None:
    return 1 if params.forget == "class" and params.spelt_out is None else None


def _distance(before: nn.Module, after: nn.Module) -> float:
    """Euclidean length of the change of all trained weights."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return math.sqrt(sum((a.detach().double() - b.detach().double()).square().sum().item() for a, b in pairs))
