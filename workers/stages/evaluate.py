"""Scores the results of attacks against the truth; each kind of finding has its own scoring."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from shared.errors import InvalidRequest
from shared.evaluation import EVALUATION_VERSION, Evaluation
from shared.ml import findings
from shared.ml.records import DefenseRecord, ForgetSets, UnlearningRecord
from shared.ml.reproducibility import collect_conditions
from shared.ml.samples import open_dataset
from shared.ml.scored_kind import GroundTruth
from shared.plugin_ref import data_file_field, validate_model
from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._datasets import random_subset
from workers.stages._digests import digest_inputs
from workers.stages._metric_networks import read_metric_networks
from workers.stages._pictures import write_pictures
from workers.stages._retained_copies import find_retained_copies
from workers.stages._utility import measure_utility
from workers.stages._without_truth import describe_attack, describe_without_truth, read_record

JSONObject = dict[str, Any]
UTILITY_ROLES = (Role.TRAINING_SET, Role.ORIGINAL, Role.UNLEARNED)
KIND_ROLES = tuple(role for kind in findings.list_kinds() for role in (kind.role, *kind.uses))


class EvaluateParams(Params):
    decoys: int = Field(
        999,
        ge=1,
        le=10_000,
        description=(
            "maximum number of decoys: samples of the same class that no model was trained on, "
            "which each deleted sample is ranked among"
        ),
    )
    test_samples: int = Field(
        1000, ge=1, le=1_000_000, description="test samples that accuracies are measured on"
    )
    feature_network: bool = Field(
        False,
        description=(
            "also measure feature_distance, in a network pretrained with another seed "
            "(FEATURE_NETWORK), which takes one more pretraining job"
        ),
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description=(
            "label attacks with p-values: significance level; a deletion with a larger p-value "
            "gets no answer"
        ),
    )
    lpips_weights: Annotated[str | None, data_file_field()] = Field(
        None,
        min_length=1,
        max_length=255,
        description=(
            "also measure lpips, with the weights in this .safetensors file in the data root; "
            "see docs/lpips.md"
        ),
    )


@registry.register(
    "evaluate",
    params=EvaluateParams,
    needs_when={"feature_network": {"True": (Role.FEATURE_NETWORK,)}},
    uses=tuple(
        dict.fromkeys(
            (
                *KIND_ROLES,
                *UTILITY_ROLES,
                Role.FORGET_SETS,
                Role.TEST_SET,
                Role.BASE,
                Role.UNLEARNING,
                Role.DEFENSE,
                Role.FEATURE_NETWORK,
            )
        )
    ),
    produces=(Role.EVALUATION, Role.PICTURES),
    runs=("metric", "defense"),
    wiring=Wiring(
        scopes=(Scope.RELEASE, Scope.ATTACK),
        params="evaluate",
        # utility is measured once for all attacks
        withheld={Scope.ATTACK: (Role.TRAINING_SET,)},
        any_of={Scope.RELEASE: (Role.FORGET_SETS, Role.TEST_SET)},
        reported=True,
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Score an attack against its baselines, and measure the cost of unlearning.

    Without FORGET_SETS nothing is scored: what the attack returned is described.

    Raises:
        InvalidRequest: nothing to evaluate, shapes that do not fit the truth, or an unsuitable
            feature network or LPIPS weights.
    """
    kinds = [kind for kind in findings.list_kinds() if kind.role in ctx.inputs]
    if not kinds and Role.UNLEARNED not in ctx.inputs:
        roles = [kind.role for kind in findings.list_kinds()]
        raise InvalidRequest(
            f"nothing to evaluate: name one of {', '.join([*roles, Role.UNLEARNED])}", "inputs"
        )
    if Role.FORGET_SETS not in ctx.inputs:
        return describe_without_truth(ctx, kinds)
    forget_sets = ForgetSets.read(ctx.read_input(Role.FORGET_SETS), Role.FORGET_SETS)
    dataset = open_dataset(forget_sets.dataset)
    networks, network_conditions = read_metric_networks(ctx, dataset)
    truth = GroundTruth(
        forget_sets, torch.tensor(forget_sets.labels), dataset, dataset.load("test"), networks
    )
    scored = [kind.score(ctx, truth) for kind in kinds]
    evaluation: JSONObject = {
        "version": EVALUATION_VERSION,
        "n": truth.labels.numel(),
        "deletions": truth.labels.shape[0],
        "size": truth.labels.shape[1],
        "dataset": forget_sets.dataset.model_dump(),
        "seed": ctx.seed,
        "unlearning": read_record(ctx, Role.UNLEARNING, UnlearningRecord),
        "defense": read_record(ctx, Role.DEFENSE, DefenseRecord),
        **describe_attack(scored),
        "metrics": {name: part for one in scored for name, part in one.metrics.items()},
        "identification": None,
        "answers": None,
        "utility": None,
        "provenance": collect_conditions(ctx.device) | network_conditions,
        "inputs": digest_inputs(ctx),
    }
    for one in scored:
        # unknown fields would be dropped
        assert one.details.keys() <= Evaluation.model_fields.keys()
        evaluation |= one.details
    if Role.TRAINING_SET in ctx.inputs:
        evaluation["retained_copies"] = find_retained_copies(ctx, forget_sets)
    if all(role in ctx.inputs for role in UTILITY_ROLES):
        test_samples = random_subset(
            truth.public, ctx.params.test_samples, ctx.make_generator("test")
        )
        evaluation["utility"] = measure_utility(ctx, forget_sets, test_samples)
    elif not evaluation["metrics"]:
        raise InvalidRequest("utility needs ORIGINAL, UNLEARNED and TRAINING_SET", "inputs")
    evaluation_json = validate_model(Evaluation, evaluation, Role.EVALUATION, "inputs").to_dict()
    pictures = {
        kind.role: one.pictures for kind, one in zip(kinds, scored, strict=True) if one.pictures
    }
    return {
        Role.EVALUATION: StageOutput.of_json(evaluation_json),
        Role.PICTURES: write_pictures(evaluation_json, pictures),
    }
