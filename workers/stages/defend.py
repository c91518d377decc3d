"""Applies a defense to the unlearned models before release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import SeededSubContext, SubContext
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import Networks, clone, read_networks, write_networks
from shared.ml.records import (
    DefenseRecord,
    ForgetSets,
    StrengthChoice,
    TrainingSet,
    TriedSetting,
    read_json,
)
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.plugin_ref import validate_model
from shared.plugins import DefensePlugin, Params
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._degenerate import degenerate_reason

CHECK_IMAGES = 64  # images used to detect degenerate models


class DefendParams(Params):
    max_accuracy_cost: float = Field(
        0.02,
        ge=0,
        le=1,
        description=(
            "validation accuracy that a defense may cost if its strength is chosen automatically"
        ),
    )


@dataclass(frozen=True)
class RetainSets:
    """The retain set of each deletion, picked when it is needed: together they may be many times
    as large as the data set."""

    split: Samples
    training: Sequence[int]
    forgotten: Sequence[Sequence[int]]

    def __iter__(self) -> Iterator[Samples]:
        for forget_set in self.forgotten:
            forgotten = set(forget_set)
            yield self.split.pick([i for i in self.training if i not in forgotten])


@registry.register(
    "defend",
    params=DefendParams,
    needs=(Role.UNLEARNED, Role.TRAINING_SET, Role.FORGET_SETS),
    methods="defense",
    produces=(Role.RELEASED, Role.DEFENSE),
    wiring=Wiring(
        models=ModelOrigin.TRAINED,
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.UNLEARN,
        params="defend",
        methods="defenses",
        # attackers see the released models; an adaptive one averages several releases
        replaces={Role.RELEASED: Role.UNLEARNED},
        replaces_for_adaptive={Role.AVERAGED_RELEASES: Role.UNLEARNED},
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Defend the unlearned models, at a given strength or at the strongest that the budget allows.

    The choice uses accuracy on samples of the pool that were not trained on, never an attack.

    Raises:
        JobFailed: `invalid`, the defense produced a degenerate model: not finite, or the same
            output for every input.
    """
    assert isinstance(ctx.method, DefensePlugin)
    unlearned = read_networks(ctx.read_input(Role.UNLEARNED), Role.UNLEARNED)
    training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
    forgotten = ForgetSets.read(ctx.read_input(Role.FORGET_SETS), Role.FORGET_SETS).indices
    if len(forgotten) != unlearned.count:
        raise InvalidRequest(
            "UNLEARNED and FORGET_SETS must have the same number of deletions",
            f"inputs.{Role.UNLEARNED}",
        )
    if ctx.method.acts == "training":
        return _release_trained(ctx, len(training.indices))
    split, name = training.load_train_split(Role.TRAINING_SET), ctx.method.strength
    retain_sets = RetainSets(split, training.indices, forgotten)
    params, strength = ctx.method_params, None
    if name is None or getattr(params, name) is not None:
        released = list(_release_models(ctx, unlearned, retain_sets, params, (0, 1)))
    else:
        held_out = split.pick(_select_held_out(training, split.labels))
        params, released, strength = _choose_strength(ctx, unlearned, retain_sets, held_out)
    _require_not_degenerate(
        ctx, unlearned, released, split.images[:CHECK_IMAGES], strength.name if strength else name
    )
    outputs: dict[str, StageOutput] = {
        Role.RELEASED: StageOutput(write_networks(unlearned.architecture, released)),
        Role.DEFENSE: StageOutput.of_json(_build_record(ctx, params, strength=strength).to_dict()),
    }
    if Role.AVERAGED_RELEASES in ctx.method.produces:
        outputs[Role.AVERAGED_RELEASES] = StageOutput(
            write_networks(
                unlearned.architecture,
                _average_releases(ctx, unlearned, retain_sets, params, released),
            )
        )
    return outputs


def _release_trained(ctx: JobContext, n: int) -> dict[str, StageOutput]:
    """A defense that acted during training: the models stay as they are, and its guarantee is
    recorded.

    Raises:
        InvalidRequest: the models were trained with other settings.
    """
    assert isinstance(ctx.method, DefensePlugin)
    recipe = validate_model(
        Recipe,
        read_json(ctx.read_input(Role.RECIPE), Role.RECIPE),
        Role.RECIPE,
        f"inputs.{Role.RECIPE}",
    )
    for name in ctx.method.trains:
        if getattr(recipe, name, None) != getattr(ctx.method_params, name):
            raise InvalidRequest(
                f"these models were trained with {name} {getattr(recipe, name, None)}, not "
                f"{getattr(ctx.method_params, name)}; set {name} in train as well",
                f"params.{name}",
            )
    guarantee = ctx.method.target(recipe, n, ctx.method_params)
    record = _build_record(ctx, ctx.method_params, guarantee=guarantee)
    return {
        Role.RELEASED: StageOutput(ctx.read_input(Role.UNLEARNED)),
        Role.DEFENSE: StageOutput.of_json(record.to_dict()),
    }


def _build_record(
    ctx: JobContext,
    params: Params,
    strength: StrengthChoice | None = None,
    guarantee: dict[str, float] | None = None,
) -> DefenseRecord:
    assert isinstance(ctx.method, DefensePlugin)
    return DefenseRecord(
        method=ctx.method.name,
        params=params.model_dump(mode="json"),
        strength=strength,
        guarantee=guarantee or {},
        has_adaptive_attack=ctx.method.adaptive_view is not None,
    )


def _release_models(
    ctx: JobContext,
    unlearned: Networks,
    retain_sets: RetainSets,
    params: Any,
    setting: tuple[int, int],
) -> Iterator[nn.Module]:
    """The defended model of each deletion. `setting` is the index of the tried setting, and their
    number."""
    assert isinstance(ctx.method, DefensePlugin)
    share = SubContext(ctx, *setting)
    for deletion, retain in enumerate(retain_sets):
        part = SeededSubContext(share, deletion, unlearned.count)
        yield ctx.method.target(unlearned.load_network(deletion), retain, params, part).cpu()
        part.report_progress(1, 1)


def _require_not_degenerate(
    ctx: JobContext,
    unlearned: Networks,
    released: list[nn.Module],
    images: Tensor,
    strength: str | None,
) -> None:
    assert isinstance(ctx.method, DefensePlugin)
    for deletion, network in enumerate(released):
        reason = degenerate_reason(network, images, ctx.device)
        if reason and reason != degenerate_reason(
            unlearned.load_network(deletion), images, ctx.device
        ):
            remedy = f"; try a weaker {strength}" if strength else ""
            raise JobFailed(
                "invalid",
                f"{ctx.method.name} produced a degenerate model for deletion {deletion}: "
                f"{reason}{remedy}",
            )


def _average_releases(
    ctx: JobContext,
    unlearned: Networks,
    retain_sets: RetainSets,
    params: Any,
    released: list[nn.Module],
) -> list[nn.Module]:
    """Every deletion's mean over `releases_averaged` releases; the first of them is the published
    one."""
    assert isinstance(ctx.method, DefensePlugin)
    means = [clone(network) for network in released]
    for draw in range(1, params.releases_averaged):
        draw_ctx = SeededSubContext(ctx, draw, params.releases_averaged)
        for deletion, (mean, retain) in enumerate(zip(means, retain_sets, strict=True)):
            part = SeededSubContext(draw_ctx, deletion, unlearned.count)
            other = ctx.method.target(unlearned.load_network(deletion), retain, params, part).cpu()
            with torch.no_grad():
                for weight, drawn in zip(mean.parameters(), other.parameters(), strict=True):
                    weight.lerp_(drawn, 1 / (draw + 1))
        ctx.report_progress(1, 1)
    return means


def _select_held_out(training: TrainingSet, labels: Tensor) -> list[int]:
    """Positions in the pool that are not in the training set."""
    left: list[int] = training.find_held_out(labels).tolist()
    if not left:
        raise InvalidRequest(
            "the training set uses the whole pool, so no validation samples are left to choose "
            "the defense's strength; lower train.size, raise pool, or set the strength explicitly",
            f"inputs.{Role.TRAINING_SET}",
        )
    return left


def _choose_strength(
    ctx: JobContext, unlearned: Networks, retain_sets: RetainSets, held_out: Samples
) -> tuple[Params, list[nn.Module], StrengthChoice]:
    """The strongest setting of the method's grid within the accuracy budget, else the weakest."""
    assert isinstance(ctx.method, DefensePlugin)
    assert ctx.method.strength is not None
    name, grid = ctx.method.strength, sorted(set(ctx.method_params.grid), reverse=True)
    budget: float = ctx.params.max_accuracy_cost
    undefended_accuracy = _measure_accuracy(
        ctx, [unlearned.load_network(i) for i in range(unlearned.count)], held_out
    )
    tried: list[TriedSetting] = []
    for place, value in enumerate(grid):
        params = type(ctx.method_params).model_validate(
            ctx.method_params.model_dump() | {name: value}
        )
        released = list(_release_models(ctx, unlearned, retain_sets, params, (place, len(grid))))
        tried.append(
            TriedSetting(
                value=value, validation_accuracy=_measure_accuracy(ctx, released, held_out)
            )
        )
        if undefended_accuracy - tried[-1].validation_accuracy <= budget:
            reason = (
                f"the strongest of {len(grid)} settings that costs at most {budget:g} of "
                "validation accuracy"
            )
            break
    else:
        reason = (
            f"the weakest of {len(grid)} settings, which still costs more than {budget:g} of "
            "validation accuracy"
        )
    choice = StrengthChoice(
        name=name, value=value, reason=reason, tried=tried,
        accuracy_without=undefended_accuracy, max_accuracy_cost=budget,
        validation_samples=len(held_out.labels),
    )  # fmt: skip
    return params, released, choice


def _measure_accuracy(ctx: JobContext, networks: list[nn.Module], samples: Samples) -> float:
    return fmean(accuracy(network, samples, ctx.device) for network in networks)
