"""Makes the unlearned models, one a deletion, all from the same original."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.ml.context import Part
from shared.ml.networks import Networks, read_networks, write_networks
from shared.ml.records import Counts, ForgetSets, Labels, TrainingSet, Unlearning, read_json
from shared.ml.training.recipe import Recipe
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.registry import Params
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import open_for


class UnlearnParams(Params):
    deletions: int = Field(8, ge=1, le=1000, description="forget sets, each with an unlearned model of its own")
    size: int = Field(1, ge=1, le=1000, description="k, samples in each forget set")


@registry.register(
    "unlearn",
    params=UnlearnParams,
    needs=("ORIGINAL", "TRAINING_SET"),
    methods="unlearning",
    produces=("UNLEARNED", "FORGET_SETS", "COUNTS", "LABELS", "UNLEARNING"),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Forget disjoint sets of k samples, each from the original model: D unlearned models.

    Deletion i forgets places i * k to (i + 1) * k of a seeded permutation of the training set. The models
    finished so far are the checkpoint.
    """
    params: UnlearnParams = ctx.params
    original = read_networks(ctx.input("ORIGINAL"), "ORIGINAL")
    training = TrainingSet.read(ctx.input("TRAINING_SET"), "TRAINING_SET")
    open_for(training.dataset, original.architecture, "ORIGINAL")
    samples, n = training.samples(), len(training.indices)
    if params.deletions * params.size > n or params.size >= n:
        raise InvalidRequest(
            f"{params.deletions} deletions of {params.size} need more than the {n} samples of the training set",
            "params.deletions",
        )
    order = torch.randperm(n, generator=ctx.generator("forget sets"))
    places = order[: params.deletions * params.size].view(params.deletions, params.size)

    given, recipe = _given(ctx, original)
    finished = _resume(ctx, original)
    assert ctx.method is not None
    exact = bool(ctx.method.traits.get("exact"))
    runs = params.deletions + exact  # an exact method shows on the first deletion how well it repeats

    def unlearned(deletion: int, run: int) -> nn.Module:
        assert ctx.method is not None
        kept = torch.ones(n, dtype=torch.bool)
        kept[places[deletion]] = False
        inputs = UnlearningInputs(original.network(), given.network() if given else None, recipe)
        retain, forget = samples.pick(kept.nonzero().flatten()), samples.pick(places[deletion])
        network: nn.Module = ctx.method.target(inputs, retain, forget, ctx.method_params, Part(ctx, run, runs))
        return network.cpu()

    for deletion in range(len(finished), params.deletions):
        finished.append(unlearned(deletion, deletion))
        ctx.progress(deletion + 1, runs)
        if ctx.due():
            states = [network.state_dict() for network in finished]
            ctx.save(deletion + 1, {name: torch.stack([s[name] for s in states]) for name in states[0]})

    labels = samples.labels[places].tolist()
    truth = ForgetSets(
        dataset=training.dataset,
        digest=training.digest,
        indices=torch.tensor(training.indices)[places].tolist(),
        labels=labels,
    )
    change = [_distance(original.network(), network) for network in finished]
    done = Unlearning(
        method=ctx.method.name,
        params=ctx.method_params.model_dump(mode="json"),
        exact=exact,
        weight_change=change,
        repeat_ratio=_distance(finished[0], unlearned(0, params.deletions)) / change[0]
        if exact and change[0]
        else None,
    )
    return {
        "UNLEARNED": Output(write_networks(original.architecture, finished)),
        "FORGET_SETS": Output.of_json(truth.json_value()),
        "COUNTS": Output.of_json(Counts(N=n, k=params.size).json_value()),
        "LABELS": Output.of_json(Labels(labels=labels).json_value()),
        "UNLEARNING": Output.of_json(done.json_value()),
    }


def _given(ctx: JobContext, original: Networks) -> tuple[Networks | None, Recipe | None]:
    """BASE and RECIPE where the method needs them."""
    assert ctx.method is not None
    base, recipe = None, None
    if "BASE" in ctx.method.needs:
        base = read_networks(ctx.input("BASE"), "BASE", like=original.architecture)
    if "RECIPE" in ctx.method.needs:
        recipe = validated(Recipe, read_json(ctx.input("RECIPE"), "RECIPE"), "RECIPE", "inputs.RECIPE")
    return base, recipe


def _resume(ctx: JobContext, original: Networks) -> list[nn.Module]:
    found = ctx.resume()
    if found is None:
        return []
    done, state = found
    return [Networks(original.architecture, state, done).network(i) for i in range(done)]


def _distance(before: nn.Module, after: nn.Module) -> float:
    """Euclidean length of the change of all trained weights."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return math.sqrt(sum((a.detach().double() - b.detach().double()).square().sum().item() for a, b in pairs))
