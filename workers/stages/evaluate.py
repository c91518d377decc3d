"""Joins what was reconstructed or said with the truth, and says what it is worth."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.datasets._base import Samples, open_dataset
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets, TrainingSet, read_json
from shared.ml.reproducibility import conditions
from shared.ml.scoring import identify, score_images, score_labels
from shared.ml.tensors import read_tensors
from shared.registry import Params
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import first

JSONObject = dict[str, Any]
ANY_OF = ("RECONSTRUCTION", "ANSWERS", "UNLEARNED")


class EvaluateParams(Params):
    decoys: int = Field(100, ge=1, le=10_000, description="public samples of its class that each truth stands among")
    test_samples: int = Field(1000, ge=1, le=1_000_000, description="test samples that accuracies are measured on")


@registry.register(
    "evaluate",
    params=EvaluateParams,
    needs=("FORGET_SETS",),
    uses=("RECONSTRUCTION", "ANSWERS", "TRAINING_SET", "ORIGINAL", "UNLEARNED"),
    produces=("EVALUATION",),
    traits={"runs": ["metric"]},
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Score an attack next to its nulls, and the unlearning's cost.

    Raises:
        InvalidRequest: nothing to evaluate, or shapes that do not fit the truth.
    """
    if not any(role in ctx.inputs for role in ANY_OF):
        raise InvalidRequest(f"nothing to evaluate: name one of {', '.join(ANY_OF)}", "inputs")
    truth = ForgetSets.read(ctx.input("FORGET_SETS"), "FORGET_SETS")
    dataset = open_dataset(truth.dataset)
    labels, public = torch.tensor(truth.labels), dataset.load("test")
    evaluation: JSONObject = {
        "n": labels.numel(),
        "deletions": labels.shape[0],
        "size": labels.shape[1],
        "dataset": truth.dataset.model_dump(),
        "seed": ctx.seed,
        "metrics": {},
        "identification": None,
        "threat_model": None,
        "utility": None,
        "provenance": conditions(ctx.device),
    }
    if "RECONSTRUCTION" in ctx.inputs:
        images = truth.images()
        found, evaluation["threat_model"] = _reconstruction(ctx, images)
        evaluation["metrics"] |= score_images(found, images, labels, public)
        chooser = ctx.generator("decoys")
        evaluation["identification"] = identify(found, images, labels, public, ctx.params.decoys, chooser)
    if "ANSWERS" in ctx.inputs:
        answers, threat_model = _answers(ctx, labels)
        evaluation["metrics"] |= score_labels(answers, labels, dataset.num_classes)
        evaluation["threat_model"] = evaluation["threat_model"] or threat_model
    if all(role in ctx.inputs for role in ("ORIGINAL", "UNLEARNED", "TRAINING_SET")):
        evaluation["utility"] = _utility(ctx, truth, first(public, ctx.params.test_samples, ctx.generator("test")))
    elif not evaluation["metrics"]:
        raise InvalidRequest("utility needs ORIGINAL, UNLEARNED and TRAINING_SET", "inputs")
    return {"EVALUATION": Output.of_json(evaluation)}


def _reconstruction(ctx: JobContext, truth: Tensor) -> tuple[Tensor, JSONObject]:
    tensors, about = read_tensors(ctx.input("RECONSTRUCTION"), "RECONSTRUCTION")
    images = tensors.get("images")
    if images is None or images.shape != truth.shape or images.dtype != truth.dtype:
        raise InvalidRequest(
            f"RECONSTRUCTION must hold float32 'images' {list(truth.shape)}, as FORGET_SETS has",
            "inputs.RECONSTRUCTION",
        )
    return images.clamp(0, 1), about.get("threat_model", {})


def _answers(ctx: JobContext, truth: Tensor) -> tuple[Tensor, JSONObject]:
    value = read_json(ctx.input("ANSWERS"), "ANSWERS")
    try:
        answers = torch.tensor(value["labels"], dtype=torch.int64)
        threat_model = dict(value.get("threat_model", {}))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        raise InvalidRequest(f"ANSWERS must hold whole numbers 'labels': {error}", "inputs.ANSWERS") from error
    if answers.shape != truth.shape or int(answers.min()) < 0 or int(answers.max()) >= 1000:
        raise InvalidRequest(f"ANSWERS must hold classes {list(truth.shape)}, as FORGET_SETS has", "inputs.ANSWERS")
    return answers, threat_model


def _utility(ctx: JobContext, truth: ForgetSets, test: Samples) -> JSONObject:
    """Accuracies of the unlearned models, mean over deletions, next to the original's."""
    training = TrainingSet.read(ctx.input("TRAINING_SET"), "TRAINING_SET")
    original = read_networks(ctx.input("ORIGINAL"), "ORIGINAL")
    unlearned = read_networks(ctx.input("UNLEARNED"), "UNLEARNED", like=original.architecture)
    if unlearned.count != len(truth.indices):
        raise InvalidRequest("UNLEARNED and FORGET_SETS differ in their number of deletions", "inputs.UNLEARNED")
    split = training.train_split("TRAINING_SET")
    sums = dict.fromkeys(
        (f"{who}{what}_accuracy" for who in ("", "original_") for what in ("retain", "forget", "test")), 0.0
    )
    before = original.network()
    before_test = accuracy(before, test, ctx.device)
    for deletion, forgotten in enumerate(truth.indices):
        after = unlearned.network(deletion)
        kept = [index for index in training.indices if index not in set(forgotten)]
        for what, samples in (("retain", split.pick(kept)), ("forget", split.pick(forgotten)), ("test", test)):
            sums[f"{what}_accuracy"] += accuracy(after, samples, ctx.device)
            sums[f"original_{what}_accuracy"] += (
                before_test if what == "test" else accuracy(before, samples, ctx.device)
            )
        ctx.progress(deletion + 1, unlearned.count)
    return {name: total / unlearned.count for name, total in sums.items()} | {"test_samples": len(test.labels)}
