"""EVALUATION where no truth was brought: what attacks returned, and accuracies on public samples. And
what every EVALUATION says of the attack and the developer's records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.evaluation import EVALUATION_VERSION, Evaluation
from shared.ml.networks import read_networks
from shared.ml.records import (
    DefenseRecord,
    DeletionSizes,
    Record,
    TestSet,
    UnlearningRecord,
)
from shared.ml.reproducibility import collect_conditions
from shared.ml.samples import open_dataset
from shared.ml.scored_kind import PublicData, ScoredKind, ScoredResult
from shared.plugin_ref import validate_model
from shared.roles import Role
from workers.context import JobContext, StageOutput
from workers.stages._datasets import random_subset
from workers.stages._digests import digest_inputs
from workers.stages._pictures import write_pictures
from workers.stages._utility import measure_test_accuracies

JSONObject = dict[str, Any]


def describe_without_truth(ctx: JobContext, kinds: Sequence[ScoredKind]) -> dict[str, StageOutput]:
    """What the attack returned, with pictures; without an attack, the accuracies of the models.

    Raises:
        InvalidRequest: an artifact that is not what its role says, or that says nothing alone.
    """
    public = _read_public(ctx)
    described = [kind.describe(ctx, public) for kind in kinds]
    sizes = (
        DeletionSizes.read(ctx.read_input(Role.DELETION_SIZES), Role.DELETION_SIZES)
        if Role.DELETION_SIZES in ctx.inputs
        else None
    )
    evaluation: JSONObject = {
        "version": EVALUATION_VERSION,
        "deletions": read_networks(ctx.read_input(Role.UNLEARNED), Role.UNLEARNED).count,
        "size": sizes.k if sizes else 1,
        "seed": ctx.seed,
        "unlearning": read_record(ctx, Role.UNLEARNING, UnlearningRecord),
        "defense": read_record(ctx, Role.DEFENSE, DefenseRecord),
        **describe_attack(described),
        "metrics": {},
        "provenance": collect_conditions(ctx.device),
        "inputs": digest_inputs(ctx),
    }
    unscored = {name: part for one in described for name, part in one.details["unscored"].items()}
    if unscored:
        evaluation["unscored"] = unscored
    elif public is not None and Role.ORIGINAL in ctx.inputs:
        test = random_subset(public.samples, ctx.params.test_samples, ctx.make_generator("test"))
        evaluation["utility"] = measure_test_accuracies(ctx, test)
    written = validate_model(Evaluation, evaluation, Role.EVALUATION, "inputs").to_dict()
    pictures = {
        kind.role: one.pictures for kind, one in zip(kinds, described, strict=True) if one.pictures
    }
    return {
        Role.EVALUATION: StageOutput.of_json(written),
        Role.PICTURES: write_pictures(written, pictures),
    }


def _read_public(ctx: JobContext) -> PublicData | None:
    if Role.TEST_SET not in ctx.inputs:
        return None
    record = TestSet.read(ctx.read_input(Role.TEST_SET), Role.TEST_SET)
    return PublicData(open_dataset(record.dataset), record.load_samples(Role.TEST_SET))


def describe_attack(results: Sequence[ScoredResult]) -> JSONObject:
    """The attack and its threat model, from the first result that states one; null if nothing was
    attacked."""
    stated = next((one.threat_model for one in results if one.threat_model), {})
    attack = {"method": stated["attack"], "params": stated.get("params", {})} if stated else None
    return {"attack": attack, "threat_model": stated if results else None}


def read_record(ctx: JobContext, role: str, record_type: type[Record]) -> JSONObject | None:
    """A record of the developer, for the report; None if the job does not supply it."""
    if role not in ctx.inputs:
        return None
    return record_type.read(ctx.read_input(role), role).to_dict()
