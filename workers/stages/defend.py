"""Makes the released models: the unlearned ones, changed before anyone outside gets to see them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.choices import validated
from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import Part, Share
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import Networks, clone, read_networks, write_networks
from shared.ml.records import Defense, ForgetSets, Strength, TrainingSet, Tried, read_json
from shared.ml.samples import Samples
from shared.ml.splits import pretraining_and_pool
from shared.ml.training.recipe import Recipe
from shared.plugins import DefensePlugin, Params
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._destroyed import destroyed

SHOWN = 64  # images that tell whether a release still is a model


class DefendParams(Params):
    max_accuracy_cost: float = Field(
        0.02, ge=0, le=1, description="validation accuracy that a defense may cost when its strength is to be chosen"
    )


@registry.register(
    "defend",
    params=DefendParams,
    needs=(Role.UNLEARNED, Role.TRAINING_SET, Role.FORGET_SETS),
    methods="defense",
    produces=(Role.RELEASED, Role.DEFENSE),
    wiring=Wiring(
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.UNLEARN,
        params="defend",
        methods="defenses",
        # what is released is what an attacker gets to see; who knows that each fetch differs fetches as often as he may
        stands_for={Role.RELEASED: Role.UNLEARNED},
        stands_for_adaptive={Role.FETCHED: Role.UNLEARNED},
    ),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Change the unlearned models before release, by a strength given or the strongest that the budget allows.

    The choice looks at accuracy on samples of the pool that were never trained on, not at any attack.

    Raises:
        JobFailed: `invalid`, the defense left no model: nothing finite, or nothing that looks at its input.
    """
    assert isinstance(ctx.method, DefensePlugin)
    unlearned = read_networks(ctx.input(Role.UNLEARNED), Role.UNLEARNED)
    training = TrainingSet.read(ctx.input(Role.TRAINING_SET), Role.TRAINING_SET)
    forgotten = ForgetSets.read(ctx.input(Role.FORGET_SETS), Role.FORGET_SETS).indices
    if len(forgotten) != unlearned.count:
        raise InvalidRequest(
            "UNLEARNED and FORGET_SETS differ in their number of deletions", f"inputs.{Role.UNLEARNED}"
        )
    if ctx.method.acts == "training":
        return _trained_so(ctx, len(training.indices))
    split, name = training.train_split(Role.TRAINING_SET), ctx.method.strength
    kept = [split.pick([i for i in training.indices if i not in set(gone)]) for gone in forgotten]
    params, strength = ctx.method_params, None
    if name is None or getattr(params, name) is not None:
        released = list(_released(ctx, unlearned, kept, params, (0, 1)))
    else:
        held_out = split.pick(_held_out(training, len(split.labels)))
        params, released, strength = _strongest(ctx, unlearned, kept, held_out)
    _require_models(ctx, unlearned, released, split.images[:SHOWN], strength.name if strength else name)
    made: dict[str, Output] = {
        Role.RELEASED: Output(write_networks(unlearned.architecture, released)),
        Role.DEFENSE: Output.of_json(_told(ctx, params, strength=strength).json_value()),
    }
    if Role.FETCHED in ctx.method.produces:
        made[Role.FETCHED] = Output(
            write_networks(unlearned.architecture, _fetched(ctx, unlearned, kept, params, released))
        )
    return made


def _trained_so(ctx: JobContext, n: int) -> dict[str, Output]:
    """A defense that acted while training: nothing is left to change, only to say what it promises.

    Raises:
        InvalidRequest: the models were trained otherwise.
    """
    assert isinstance(ctx.method, DefensePlugin)
    recipe = validated(Recipe, read_json(ctx.input(Role.RECIPE), Role.RECIPE), Role.RECIPE, f"inputs.{Role.RECIPE}")
    for name in ctx.method.trains:
        if getattr(recipe, name, None) != getattr(ctx.method_params, name):
            raise InvalidRequest(
                f"these models were trained with {name} {getattr(recipe, name, None)}, not "
                f"{getattr(ctx.method_params, name)}: give {name} to train too",
                f"params.{name}",
            )
    promise = ctx.method.target(recipe, n, ctx.method_params)
    done = _told(ctx, ctx.method_params, promise=promise)
    return {Role.RELEASED: Output(ctx.input(Role.UNLEARNED)), Role.DEFENSE: Output.of_json(done.json_value())}


def _told(ctx: JobContext, params: Params, **more: Any) -> Defense:
    assert isinstance(ctx.method, DefensePlugin)
    counter = ctx.method.counter is not None
    return Defense(method=ctx.method.name, params=params.model_dump(mode="json"), counter=counter, **more)


def _released(
    ctx: JobContext, unlearned: Networks, kept: list[Samples], params: Any, place: tuple[int, int]
) -> Iterator[nn.Module]:
    """Every deletion's model, defended. `place` is the position among the settings that are tried."""
    assert isinstance(ctx.method, DefensePlugin)
    share = Share(ctx, *place)
    for deletion, retain in enumerate(kept):
        part = Part(share, deletion, unlearned.count)
        yield ctx.method.target(unlearned.network(deletion), retain, params, part).cpu()
        part.progress(1, 1)


def _require_models(
    ctx: JobContext, unlearned: Networks, released: list[nn.Module], images: Tensor, strength: str | None
) -> None:
    assert isinstance(ctx.method, DefensePlugin)
    for deletion, network in enumerate(released):
        wrong = destroyed(network, images, ctx.device)
        if wrong and wrong != destroyed(unlearned.network(deletion), images, ctx.device):
            remedy = f"; a weaker {strength} leaves more of it" if strength else ""
            raise JobFailed("invalid", f"{ctx.method.name} destroyed the model of deletion {deletion}: {wrong}{remedy}")


def _fetched(
    ctx: JobContext, unlearned: Networks, kept: list[Samples], params: Any, released: list[nn.Module]
) -> list[nn.Module]:
    """Every deletion's mean over `draws` releases, of which the first is the one that is released."""
    assert isinstance(ctx.method, DefensePlugin)
    means = [clone(network) for network in released]
    for draw in range(1, params.draws):
        again = Part(ctx, draw, params.draws)
        for deletion, (mean, retain) in enumerate(zip(means, kept, strict=True)):
            part = Part(again, deletion, unlearned.count)
            other = ctx.method.target(unlearned.network(deletion), retain, params, part).cpu()
            with torch.no_grad():
                for weight, drawn in zip(mean.parameters(), other.parameters(), strict=True):
                    weight.lerp_(drawn, 1 / (draw + 1))
        ctx.progress(1, 1)
    return means


def _held_out(training: TrainingSet, n: int) -> list[int]:
    """Positions of the pool that are not in the training set."""
    pool = pretraining_and_pool(n)[1].tolist()
    left = sorted(set(pool) - set(training.indices))
    if not left:
        raise InvalidRequest(
            "the training set takes the whole pool: no samples are left to choose a defense's strength with; "
            "train on fewer, or give the strength",
            f"inputs.{Role.TRAINING_SET}",
        )
    return left


def _strongest(
    ctx: JobContext, unlearned: Networks, kept: list[Samples], held_out: Samples
) -> tuple[Params, list[nn.Module], Strength]:
    """The strongest setting of the method's grid that keeps the accuracy, else the weakest."""
    assert isinstance(ctx.method, DefensePlugin)
    assert ctx.method.strength is not None
    name, grid = ctx.method.strength, sorted(set(ctx.method_params.grid), reverse=True)
    budget: float = ctx.params.max_accuracy_cost
    without = _accuracy(ctx, [unlearned.network(i) for i in range(unlearned.count)], held_out)
    tried: list[Tried] = []
    for place, value in enumerate(grid):
        params = type(ctx.method_params).model_validate(ctx.method_params.model_dump() | {name: value})
        released = list(_released(ctx, unlearned, kept, params, (place, len(grid))))
        tried.append(Tried(value=value, validation_accuracy=_accuracy(ctx, released, held_out)))
        if without - tried[-1].validation_accuracy <= budget:
            why = f"the strongest of {len(grid)} settings that costs at most {budget:g} of validation accuracy"
            break
    else:
        why = f"the weakest of {len(grid)} settings, which still costs more than {budget:g} of validation accuracy"
    chosen = Strength(
        name=name, value=value, why=why, tried=tried, accuracy_without=without, max_accuracy_cost=budget,
        validation_samples=len(held_out.labels),
    )  # fmt: skip
    return params, released, chosen


def _accuracy(ctx: JobContext, networks: list[nn.Module], samples: Samples) -> float:
    return fmean(accuracy(network, samples, ctx.device) for network in networks)
