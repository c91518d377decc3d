"""Measures whether a release has forgotten: its losses, and tests against retrained models."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor

from shared.evaluation import Defense, Unlearning
from shared.forgetting import (
    MAX_EPOCHS,
    MAX_LOSS,
    MAX_RELEARNED,
    MAX_STEPS,
    Forgetting,
    ForgettingRow,
    TestName,
)
from shared.ml.context import SubContext
from shared.ml.forgetting.way import measure_way
from shared.ml.loss import compute_loss
from shared.ml.records import DefenseRecord, ForgetSets, UnlearningRecord
from shared.plugin_ref import validate_model
from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._compared_models import ComparedModels, ComparedSamples, compute_outputs
from workers.stages._digests import digest_inputs
from workers.stages._forgetting_tests import (
    KINDS,
    PHASES,
    RUN_TEST,
    expand_labels,
    find_obstacle,
)

JSONObject = dict[str, Any]
CHEAP_TESTS: list[TestName] = ["three_sample", "klom", "linear_probe", "relearning_forgotten"]


class ForgettingParams(Params):
    tests: list[TestName] = Field(
        CHEAP_TESTS,
        max_length=5,
        description=(
            "tests besides the way to retraining; relearning (on retained samples) takes longer "
            "than the others, relearning_forgotten (on forgotten ones) a few steps"
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
    relearning_forgotten_steps: int = Field(
        3, ge=1, le=MAX_STEPS, description="relearning_forgotten: steps of fine-tuning"
    )
    relearning_forgotten_samples: int = Field(
        5,
        ge=1,
        le=MAX_RELEARNED,
        description=(
            "relearning_forgotten: forgotten samples that are learned again, at most half of a "
            "forget set"
        ),
    )


@registry.register(
    "forgetting",
    params=ForgettingParams,
    needs=(
        Role.ORIGINAL, Role.UNLEARNED, Role.RETRAINED, Role.RETRAINING, Role.FORGET_SETS,
        Role.TRAINING_SET, Role.UNLEARNING,
    ),
    uses=(Role.DEFENSE, Role.RECIPE),
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

    Only the deletions that were repeated are compared. A test that needs what is not there is not
    run, and the reason is recorded.

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
    asked = sorted({*ctx.params.tests})
    obstacles = {
        name: reason for name in asked if (reason := find_obstacle(name, ctx, models, samples))
    }
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
            name: RUN_TEST[name](ctx, models, samples, outputs)
            for name in asked
            if name not in obstacles
        },
        "not_run": obstacles,
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


def _compute_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each sample, float64 [..., n]; that of a diverged model is bounded."""
    targets = expand_labels(labels, logits)
    flat = compute_loss(logits.double().flatten(0, -2), targets.flatten(), "none")
    return flat.view(targets.shape).clamp(0, MAX_LOSS)


def _summarise(logits: Tensor, labels: Tensor) -> JSONObject | None:
    """Mean loss and accuracy over everything; None without samples."""
    if not labels.numel():
        return None
    correct = logits.argmax(-1) == expand_labels(labels, logits)
    return {
        "loss": _compute_losses(logits, labels).mean().item(),
        "accuracy": correct.double().mean().item(),
    }
