"""Joins what was reconstructed or said with the truth, and says what it is worth."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.evaluation import Evaluation
from shared.ml.datasets._base import open_dataset
from shared.ml.membership import score_membership
from shared.ml.nulls import class_mean
from shared.ml.pvalues import claim_p
from shared.ml.records import Defense, ForgetSets, Membership, Record, Shadows, Unlearning, read_json
from shared.ml.reproducibility import conditions
from shared.ml.scoring import assign, identify, score_claims, score_images, score_labels
from shared.ml.tensors import read_tensors
from shared.registry import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import first
from workers.stages._judges import given_to_metrics
from workers.stages._nearest import nearest_public_of
from workers.stages._pictures import pictures_of
from workers.stages._utility import utility

JSONObject = dict[str, Any]
ANY_OF = (Role.RECONSTRUCTION, Role.ANSWERS, Role.SCORES, Role.UNLEARNED)


class EvaluateParams(Params):
    decoys: int = Field(100, ge=1, le=10_000, description="public samples of its class that each truth stands among")
    test_samples: int = Field(1000, ge=1, le=1_000_000, description="test samples that accuracies are measured on")
    judge: bool = Field(
        False,
        description="measure feature_distance too, in JUDGE: a network that was not attacked; an audit trains one more",
    )
    alpha: float = Field(
        0.05, gt=0, lt=1, description="label attacks with p-values: chance of a wrong claim; above it, no answer"
    )
    lpips_weights: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="measure lpips too, with this .safetensors file of the data root; see docs/lpips.md",
    )


@registry.register(
    "evaluate",
    params=EvaluateParams,
    needs=(Role.FORGET_SETS,),
    needs_when={"judge": {"True": (Role.JUDGE,)}},
    uses=(
        Role.RECONSTRUCTION,
        Role.ANSWERS,
        Role.SCORES,
        Role.MEMBERSHIP,
        Role.SHADOWS,
        Role.TRAINING_SET,
        Role.ORIGINAL,
        Role.UNLEARNED,
        Role.BASE,
        Role.COUNTS,
        Role.UNLEARNING,
        Role.DEFENSE,
        Role.PUBLIC,
        Role.JUDGE,
    ),
    produces=(Role.EVALUATION, Role.PICTURES),
    traits={"runs": ["metric", "defense"]},
    wiring=Wiring(
        scopes=(Scope.RELEASE, Scope.ATTACK),
        params="evaluate",
        # what the models are worth is told once for all attacks
        withheld={Scope.ATTACK: (Role.TRAINING_SET,)},
        reported=True,
    ),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Score an attack next to its nulls, and the unlearning's cost.

    Raises:
        InvalidRequest: nothing to evaluate, shapes that do not fit the truth, or a judge or weights that are of no use.
    """
    if not any(role in ctx.inputs for role in ANY_OF):
        raise InvalidRequest(f"nothing to evaluate: name one of {', '.join(ANY_OF)}", "inputs")
    truth = ForgetSets.read(ctx.input(Role.FORGET_SETS), Role.FORGET_SETS)
    dataset = open_dataset(truth.dataset)
    labels, public = torch.tensor(truth.labels), dataset.load("test")
    given, about_given = given_to_metrics(ctx, dataset)
    metrics: JSONObject = {}
    found: JSONObject = {"attack": None, "identification": None, "answers": None, "threat_model": None, "utility": None}
    pictures: dict[str, Tensor] = {}
    if Role.RECONSTRUCTION in ctx.inputs:
        images = truth.images()
        rebuilt, others, about = _reconstruction(ctx, images)
        found["threat_model"] = about.get("threat_model", {})
        others["class_mean"] = class_mean(public, labels)
        if (nearest := nearest_public_of(ctx, about, labels, public)) is not None:
            others["nearest_public"] = nearest
        metrics |= score_images(rebuilt, images, others, given)
        chooser = ctx.generator("decoys")
        found["identification"] = identify(rebuilt, images, labels, public, ctx.params.decoys, chooser)
        pictures = {"truth": images, "reconstruction": assign(rebuilt, images), "class_mean": others["class_mean"]}
    if Role.ANSWERS in ctx.inputs:
        answers, true, threat_model = _answers(ctx, labels)
        metrics |= score_labels(answers, true, dataset.num_classes, public.labels)
        found["answers"] = {"labels": answers.tolist(), "truth": true.tolist()}
        if Role.SHADOWS in ctx.inputs:
            found["answers"]["claims"] = _claims(ctx, answers, true)
        found["threat_model"] = found["threat_model"] or threat_model
    if Role.SCORES in ctx.inputs:
        scores, members, threat_model = _scores(ctx, truth)
        metrics |= score_membership(scores, members, truth, ctx.generator("membership"))
        found["threat_model"] = found["threat_model"] or threat_model
    if told := found["threat_model"]:
        found["attack"] = {"method": told.get("attack"), "params": told.get("params", {})}
    if all(role in ctx.inputs for role in (Role.ORIGINAL, Role.UNLEARNED, Role.TRAINING_SET)):
        found["utility"] = utility(ctx, truth, first(public, ctx.params.test_samples, ctx.generator("test")))
    elif not metrics:
        raise InvalidRequest("utility needs ORIGINAL, UNLEARNED and TRAINING_SET", "inputs")
    evaluation = validated(
        Evaluation,
        found
        | {
            "n": labels.numel(),
            "deletions": labels.shape[0],
            "size": labels.shape[1],
            "dataset": truth.dataset.model_dump(),
            "seed": ctx.seed,
            "unlearning": _told(ctx, Role.UNLEARNING, Unlearning),
            "defense": _told(ctx, Role.DEFENSE, Defense),
            "metrics": metrics,
            "provenance": conditions(ctx.device) | about_given,
        },
        Role.EVALUATION,
        "inputs",
    ).json_value()
    return {Role.EVALUATION: Output.of_json(evaluation), Role.PICTURES: pictures_of(evaluation, labels, pictures)}


def _told(ctx: JobContext, role: str, record: type[Record]) -> JSONObject | None:
    """What the developer says was done, for the report; None where the job does not name it."""
    if role not in ctx.inputs:
        return None
    return record.read(ctx.input(role), role).json_value()


def _reconstruction(ctx: JobContext, truth: Tensor) -> tuple[Tensor, dict[str, Tensor], JSONObject]:
    """The images, what the same search made of nothing, by name, and what the attack told of itself."""
    tensors, about = read_tensors(ctx.input(Role.RECONSTRUCTION), Role.RECONSTRUCTION)
    images = tensors.get("images")
    if images is None or images.shape != truth.shape or images.dtype != truth.dtype:
        raise InvalidRequest(
            f"RECONSTRUCTION must hold float32 'images' {list(truth.shape)}, as FORGET_SETS has",
            f"inputs.{Role.RECONSTRUCTION}",
        )
    controls = {n.removeprefix("control."): t.clamp(0, 1) for n, t in tensors.items() if n.startswith("control.")}
    for name, control in controls.items():
        if control.shape[1:] != truth.shape[1:] or not 1 <= len(control) <= len(truth) or control.dtype != truth.dtype:
            raise InvalidRequest(
                f"RECONSTRUCTION: 'control.{name}' must hold images of the first deletions",
                f"inputs.{Role.RECONSTRUCTION}",
            )
    return images.clamp(0, 1), controls, about


def _answers(ctx: JobContext, truth: Tensor) -> tuple[Tensor, Tensor, JSONObject]:
    """Classes said and true, [D, k], or one each a class where all deletions are of so many; and the threat model."""
    value = read_json(ctx.input(Role.ANSWERS), Role.ANSWERS)
    try:
        answers = torch.tensor(value["labels"], dtype=torch.int64)
        threat_model = dict(value.get("threat_model", {}))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        raise InvalidRequest(f"ANSWERS must hold whole numbers 'labels': {error}", f"inputs.{Role.ANSWERS}") from error
    classes = [sorted(set(row)) for row in truth.tolist()]
    shapes = [list(truth.shape)]
    if len({len(row) for row in classes}) == 1 and len(classes[0]) < truth.shape[1]:
        shapes.append([len(classes), len(classes[0])])
    if list(answers.shape) not in shapes or int(answers.min()) < 0 or int(answers.max()) >= 1000:
        told = " or ".join(map(str, shapes))
        raise InvalidRequest(f"ANSWERS must hold classes {told}, as FORGET_SETS has", f"inputs.{Role.ANSWERS}")
    return answers, truth if answers.shape == truth.shape else torch.tensor(classes), threat_model


def _scores(ctx: JobContext, truth: ForgetSets) -> tuple[Tensor, Membership, JSONObject]:
    """Scores of the candidates, which samples those are, and what the attack told of itself."""
    members = Membership.read(ctx.input(Role.MEMBERSHIP), Role.MEMBERSHIP)
    forgotten = {index for row in truth.indices for index in row}
    trained = {index for index, so in zip(members.indices, members.trained, strict=True) if so}
    if members.digest != truth.digest or not forgotten <= trained or all(members.trained):
        raise InvalidRequest(
            "MEMBERSHIP must name all that FORGET_SETS does as trained on, and samples that were never trained on",
            f"inputs.{Role.MEMBERSHIP}",
        )
    tensors, about = read_tensors(ctx.input(Role.SCORES), Role.SCORES)
    scores, shape = tensors.get("scores"), (len(truth.indices), len(members.indices))
    if scores is None or tuple(scores.shape) != shape or scores.dtype != torch.float64:
        raise InvalidRequest(
            f"SCORES must hold float64 'scores' {list(shape)}, one of each candidate a deletion",
            f"inputs.{Role.SCORES}",
        )
    return scores, members, about.get("threat_model", {})


def _claims(ctx: JobContext, answers: Tensor, truth: Tensor) -> JSONObject:
    """What p-values from shadow deletions say of the answers."""
    shadows, value = (
        Shadows.read(ctx.input(Role.SHADOWS), Role.SHADOWS),
        read_json(ctx.input(Role.ANSWERS), Role.ANSWERS),
    )
    try:
        scores = torch.tensor(value["scores"], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidRequest(
            f"ANSWERS must hold 'scores' [D][K] for p-values: {error}", f"inputs.{Role.ANSWERS}"
        ) from error
    null = torch.tensor(shadows.scores, dtype=torch.float64)
    if scores.dim() != 2 or len(scores) != len(answers) or int(answers.max()) >= scores.shape[1]:
        raise InvalidRequest("ANSWERS must hold 'scores' [D][K] of the classes named", f"inputs.{Role.ANSWERS}")
    p = claim_p(answers, scores, null, torch.tensor(shadows.labels))
    return {"shadows": len(null), "trainings": shadows.trainings, **score_claims(p, answers, truth, ctx.params.alpha)}
