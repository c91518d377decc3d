"""Joins what attacks found with the truth, and says what it is worth; each kind of finding scores its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from shared.choices import data_file, validated
from shared.errors import InvalidRequest
from shared.evaluation import Evaluation
from shared.ml import findings
from shared.ml.finding import GroundTruth, Scored
from shared.ml.records import Defense, ForgetSets, Record, Unlearning
from shared.ml.reproducibility import conditions
from shared.ml.samples import open_dataset
from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import first
from workers.stages._judges import given_to_metrics
from workers.stages._pictures import pictures_of
from workers.stages._utility import utility

JSONObject = dict[str, Any]
OF_UTILITY = (Role.TRAINING_SET, Role.ORIGINAL, Role.UNLEARNED)
OF_KINDS = tuple(role for kind in findings.kinds() for role in (kind.role, *kind.uses))


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
    lpips_weights: Annotated[str | None, data_file()] = Field(
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
    uses=tuple(dict.fromkeys((*OF_KINDS, *OF_UTILITY, Role.BASE, Role.UNLEARNING, Role.DEFENSE, Role.JUDGE))),
    produces=(Role.EVALUATION, Role.PICTURES),
    runs=("metric", "defense"),
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
    kinds = [kind for kind in findings.kinds() if kind.role in ctx.inputs]
    if not kinds and Role.UNLEARNED not in ctx.inputs:
        roles = [kind.role for kind in findings.kinds()]
        raise InvalidRequest(f"nothing to evaluate: name one of {', '.join([*roles, Role.UNLEARNED])}", "inputs")
    forgotten = ForgetSets.read(ctx.input(Role.FORGET_SETS), Role.FORGET_SETS)
    dataset = open_dataset(forgotten.dataset)
    networks, about_networks = given_to_metrics(ctx, dataset)
    truth = GroundTruth(forgotten, torch.tensor(forgotten.labels), dataset, dataset.load("test"), networks)
    scored = [kind.score(ctx, truth) for kind in kinds]
    evaluation: JSONObject = {
        "n": truth.labels.numel(),
        "deletions": truth.labels.shape[0],
        "size": truth.labels.shape[1],
        "dataset": forgotten.dataset.model_dump(),
        "seed": ctx.seed,
        "unlearning": _recorded(ctx, Role.UNLEARNING, Unlearning),
        "defense": _recorded(ctx, Role.DEFENSE, Defense),
        **_attacked(scored),
        "metrics": {name: part for one in scored for name, part in one.metrics.items()},
        "identification": None,
        "answers": None,
        "utility": None,
        "provenance": conditions(ctx.device) | about_networks,
    }
    for one in scored:
        assert one.details.keys() <= Evaluation.model_fields.keys()  # what the model does not know would not be written
        evaluation |= one.details
    if all(role in ctx.inputs for role in OF_UTILITY):
        tested = first(truth.public, ctx.params.test_samples, ctx.generator("test"))
        evaluation["utility"] = utility(ctx, forgotten, tested)
    elif not evaluation["metrics"]:
        raise InvalidRequest("utility needs ORIGINAL, UNLEARNED and TRAINING_SET", "inputs")
    written = validated(Evaluation, evaluation, Role.EVALUATION, "inputs").json_value()
    pictures = {kind.role: one.pictures for kind, one in zip(kinds, scored, strict=True) if one.pictures}
    return {Role.EVALUATION: Output.of_json(written), Role.PICTURES: pictures_of(written, pictures)}


def _attacked(scored: Sequence[Scored]) -> JSONObject:
    """The attack and its threat model, of the first result that states one; null where nothing was attacked."""
    stated = next((one.threat_model for one in scored if one.threat_model), {})
    attack = {"method": stated["attack"], "params": stated.get("params", {})} if stated else None
    return {"attack": attack, "threat_model": stated if scored else None}


def _recorded(ctx: JobContext, role: str, record: type[Record]) -> JSONObject | None:
    """What the developer says was done, for the report; None where the job does not name it."""
    if role not in ctx.inputs:
        return None
    return record.read(ctx.input(role), role).json_value()
