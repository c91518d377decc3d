"""Measures whether a release has forgotten: its losses, and tests against retrained models."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.evaluation import Defense, Unlearning
from shared.forgetting import MAX_EPOCHS, Forgetting, ForgettingRow
from shared.ml.context import Context, SeededSubContext, SubContext
from shared.ml.forgetting.klom import compute_margins, leave_one_out
from shared.ml.forgetting.linear_probe import probe_accuracy
from shared.ml.forgetting.relearning import relearn
from shared.ml.forgetting.three_sample import compare_three_samples
from shared.ml.forgetting.way import measure_way
from shared.ml.loss import compute_loss
from shared.ml.records import DefenseRecord, ForgetSets, UnlearningRecord, read_json
from shared.ml.training.recipe import Recipe
from shared.plugin_ref import validate_model
from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._compared_models import (
    ComparedModels,
    ComparedSamples,
    Outputs,
    compute_outputs,
)
from workers.stages._datasets import random_subset
from workers.stages._digests import digest_inputs

Test = Literal["three_sample", "klom", "linear_probe", "relearning"]
JSONObject = dict[str, Any]
CHEAP_TESTS: list[Test] = ["three_sample", "klom", "linear_probe"]
KINDS = ("original", "release", "retrained")
MAX_LOSS = 1e4  # nats
PHASES = 3  # of the job's progress: outputs, linear probe, relearning


class ForgettingParams(Params):
    tests: list[Test] = Field(
        CHEAP_TESTS,
        max_length=4,
        description=(
            "tests besides the way to retraining; relearning fine-tunes every model, which takes "
            "longer than the others"
        ),
    )
    samples: int = Field(
        128,
        ge=16,
        le=10_000,
        description=(
            "test samples that models are compared on, and as many retained samples; the linear "
            "probe is fitted to the test samples"
        ),
    )
    relearning_epochs: int = Field(
        3, ge=1, le=MAX_EPOCHS, description="relearning: passes over the retained samples"
    )
    relearning_samples: int = Field(
        2000, ge=1, le=100_000, description="relearning: retained samples at most"
    )


@registry.register(
    "forgetting",
    params=ForgettingParams,
    needs=(
        Role.ORIGINAL, Role.UNLEARNED, Role.RETRAINED, Role.RETRAINING, Role.FORGET_SETS,
        Role.TRAINING_SET, Role.UNLEARNING, Role.RECIPE,
    ),
    uses=(Role.DEFENSE,),
    produces=(Role.FORGETTING,),
    source=(
        "see shared/ml/forgetting: Ribero et al. 2026, arXiv 2601.19755; Georgiev et al. 2024, "
        "arXiv 2410.23232"
    ),
    wiring=Wiring(
        scopes=(Scope.RELEASE,), params="forgetting", flag="check_forgetting", reported=True
    ),
)  # fmt: skip
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Compare the released models with the original and with retrained ones: losses, accuracies,
    the way to retraining, and tests.

    Only the deletions that were repeated are compared.

    Raises:
        InvalidRequest: inputs that do not belong together.
    """
    truth = ForgetSets.read(ctx.read_input(Role.FORGET_SETS), Role.FORGET_SETS)
    models = ComparedModels.read(ctx, truth)
    samples = ComparedSamples.read(ctx, truth, models.deletions)
    outputs = compute_outputs(models, samples, SubContext(ctx, 0, PHASES))
    labels = samples.labels
    losses = {
        kind: _compute_losses(outputs["forget"][kind], labels["forget"]).mean(-1) for kind in KINDS
    }
    way = measure_way(*(losses[kind] for kind in KINDS))
    low, high = way.interval or (None, None)
    measured: JSONObject = {
        "deletions": models.deletions,
        "retraining_seeds": models.seeds,
        **{
            kind: {name: _summarise(outputs[name][kind], labels[name]) for name in labels}
            for kind in KINDS
        },
        "way": way.value,
        "way_low": low,
        "way_high": high,
        "spread": way.spread,
        "reason": way.reason,
        "by_deletion": [
            {kind: losses[kind][deletion].tolist() for kind in KINDS}
            for deletion in range(models.deletions)
        ],
        "tests": {
            name: RUN[name](ctx, models, samples, outputs) for name in sorted({*ctx.params.tests})
        },
    }
    record = Forgetting(
        seed=ctx.seed,
        unlearning=Unlearning.model_validate(
            UnlearningRecord.read(ctx.read_input(Role.UNLEARNING), Role.UNLEARNING).to_dict()
        ),
        defense=_read_defense(ctx),
        measured=validate_model(ForgettingRow, measured, Role.FORGETTING, "inputs"),
        inputs=digest_inputs(ctx),
    )
    ctx.report_progress(1, 1)
    return {Role.FORGETTING: StageOutput.of_json(record.model_dump(mode="json"))}


def _read_defense(ctx: JobContext) -> Defense:
    if Role.DEFENSE not in ctx.inputs:
        return Defense(method="not stated")
    record = DefenseRecord.read(ctx.read_input(Role.DEFENSE), Role.DEFENSE)
    return Defense.model_validate(record.to_dict())


def _expand(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels [n] or [D, n] of logits [D, n, K] or [D, S, n, K]."""
    if labels.dim() == 2 and logits.dim() == 4:
        labels = labels.unsqueeze(1)
    return labels.expand(logits.shape[:-1])


def _compute_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each sample, float64 [..., n]; that of a diverged model is bounded."""
    targets = _expand(labels, logits)
    flat = compute_loss(logits.double().flatten(0, -2), targets.flatten(), "none")
    return flat.view(targets.shape).clamp(0, MAX_LOSS)


def _summarise(logits: Tensor, labels: Tensor) -> JSONObject | None:
    """Mean loss and accuracy over everything; None without samples."""
    if not labels.numel():
        return None
    correct = logits.argmax(-1) == _expand(labels, logits)
    return {
        "loss": _compute_losses(logits, labels).mean().item(),
        "accuracy": correct.double().mean().item(),
    }


def _run_three_sample(
    ctx: JobContext, _models: ComparedModels, samples: ComparedSamples, outputs: Outputs
) -> JSONObject:
    generator = ctx.make_generator("three samples")
    original, release, retrained = (outputs["forget"][kind] for kind in KINDS)
    labels = samples.labels["forget"]
    return compare_three_samples(original, release, retrained, labels, generator)._asdict()


def _run_klom(
    _ctx: JobContext, _models: ComparedModels, samples: ComparedSamples, outputs: Outputs
) -> JSONObject:
    return {
        name: _summarise_klom(outputs[name]["release"], outputs[name]["retrained"], labels)
        for name, labels in samples.labels.items()
    }


def _summarise_klom(release: Tensor, retrained: Tensor, labels: Tensor) -> JSONObject | None:
    if not labels.numel():
        return None
    margins = compute_margins(release, _expand(labels, release))
    by_seed = compute_margins(retrained, _expand(labels, retrained)).transpose(0, 1)
    of_release, of_retrained = leave_one_out(margins.flatten(), by_seed.flatten(1))
    return {
        "median": of_release.median().item(),
        "high": of_release.quantile(0.95).item(),
        "retrained_median": of_retrained.median().item(),
        "retrained_high": of_retrained.quantile(0.95).item(),
    }


def _run_linear_probe(
    ctx: JobContext, models: ComparedModels, samples: ComparedSamples, _outputs: Outputs
) -> JSONObject:
    """Of each kind the mean over deletions; of the retrained models those of the first seed."""
    part, done = SubContext(ctx, 1, PHASES), 0

    def probe(load: Callable[[int], nn.Module]) -> float:
        nonlocal done
        accuracies = []
        for deletion, forget in enumerate(samples.forget):
            accuracies.append(probe_accuracy(load(deletion), samples.test, forget, ctx.device))
            done += 1
            part.report_progress(done, len(KINDS) * models.deletions)
        return fmean(accuracies)

    return {
        "original": probe(models.load_original),
        "release": probe(models.released.load_network),
        "retrained": probe(models.load_retrained),
    }


def _run_relearning(
    ctx: JobContext, models: ComparedModels, samples: ComparedSamples, _outputs: Outputs
) -> JSONObject | None:
    """Mean curves over deletions; of the retrained models those of the first seed. None if nothing
    is retained."""
    recipe = validate_model(
        Recipe,
        read_json(ctx.read_input(Role.RECIPE), Role.RECIPE),
        Role.RECIPE,
        f"inputs.{Role.RECIPE}",
    )
    phase = SubContext(ctx, 2, PHASES)
    curves: dict[str, list[list[float]]] = {"release": [], "retrained": []}
    for deletion in range(models.deletions):
        retained = samples.split.pick(samples.pick_retained(models.record, deletion))
        if not len(retained.labels):
            return None
        generator = ctx.make_generator(f"relearning {deletion}")
        retained = random_subset(retained, ctx.params.relearning_samples, generator)
        both: tuple[Callable[[int], nn.Module], ...] = (
            models.released.load_network,
            models.load_retrained,
        )
        for index, (curve, load) in enumerate(zip(curves.values(), both, strict=True)):
            part: Context = SeededSubContext(phase, deletion, models.deletions)
            curve.append(
                relearn(
                    load(deletion),
                    retained,
                    samples.forget[deletion],
                    recipe,
                    ctx.params.relearning_epochs,
                    SubContext(part, index, len(curves)),
                )
            )
    return {
        kind: torch.tensor(curve, dtype=torch.float64).mean(0).tolist()
        for kind, curve in curves.items()
    }


RUN: dict[str, Callable[..., JSONObject | None]] = {
    "three_sample": _run_three_sample,
    "klom": _run_klom,
    "linear_probe": _run_linear_probe,
    "relearning": _run_relearning,
}
