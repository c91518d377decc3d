"""Builds the candidate set for membership attacks, and records the truth about it."""

from __future__ import annotations

import torch
from pydantic import Field

from shared.errors import InvalidRequest
from shared.ml.records import ForgetSets, MembershipRecord, TrainingSet
from shared.ml.samples import Samples, open_dataset
from shared.ml.tensors import write_tensors
from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._datasets import random_subset


class CandidatesParams(Params):
    retained: int = Field(
        500,
        ge=0,
        le=100_000,
        description="maximum number of retained candidates: trained on and never deleted",
    )
    non_members: int = Field(
        500,
        ge=1,
        le=100_000,
        description="maximum number of non-member candidates: in the pool, but not trained on; of "
        "models that were brought, public samples",
    )
    population: int = Field(
        1000,
        ge=1,
        le=100_000,
        description=(
            "maximum number of public samples that candidates are compared with; each costs one "
            "query"
        ),
    )


@registry.register(
    "candidates",
    params=CandidatesParams,
    needs=(Role.TRAINING_SET, Role.FORGET_SETS),
    produces=(Role.CANDIDATES, Role.POPULATION, Role.MEMBERSHIP),
    wiring=Wiring(
        scopes=(Scope.RELEASE,),
        group=WorkerGroup.UNLEARN,
        params="candidates",
        on_demand=True,
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Mix all forgotten samples with retained ones and non-members, in random order; draw public
    samples.

    Of models that were brought, half of the public samples are the non-members.

    Raises:
        InvalidRequest: the training set takes the whole pool, too few samples are public, or the
            two records are not about the same data.
    """
    params: CandidatesParams = ctx.params
    training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
    truth = ForgetSets.read(ctx.read_input(Role.FORGET_SETS), Role.FORGET_SETS)
    forgotten = [index for row in truth.indices for index in row]
    if training.digest != truth.digest or not {*forgotten} <= {*training.indices}:
        raise InvalidRequest(
            "FORGET_SETS contains samples that are not in this TRAINING_SET",
            f"inputs.{Role.FORGET_SETS}",
        )
    split = training.load_train_split(Role.TRAINING_SET)
    public = open_dataset(training.dataset).load("test")

    def draw(indices: set[int], count: int | None, purpose: str) -> list[int]:
        ordered = torch.tensor(sorted(indices), dtype=torch.int64)
        picked: list[int] = ordered[
            torch.randperm(len(ordered), generator=ctx.make_generator(purpose))[:count]
        ].tolist()
        return picked

    every = split
    if training.non_members_from == "test":
        # half of the public samples, so that others are left to compare with
        every = Samples(*(torch.cat(pair) for pair in zip(split, public, strict=True)))
        others = {*range(len(split.labels), len(every.labels))}
        non_members = draw(others, min(params.non_members, len(others) // 2), "never trained")
        public = every.pick(sorted(others - {*non_members}))
    else:
        held_out = {*training.find_held_out(split.labels).tolist()}
        non_members = draw(held_out, params.non_members, "never trained")
    if not non_members:
        raise InvalidRequest(
            "there are too few public samples to compare candidates with: bring more"
            if training.non_members_from == "test"
            else "the training set uses the whole pool, so there are no non-members; lower "
            "train.size or raise pool",
            f"inputs.{Role.TRAINING_SET}",
        )
    retained = draw({*training.indices} - {*forgotten}, params.retained, "retained")
    mixed = draw({*forgotten, *retained, *non_members}, None, "line-up")
    candidates, members = every.pick(mixed), {*training.indices}
    population = random_subset(public, params.population, ctx.make_generator("population"))
    membership = MembershipRecord(
        dataset=training.dataset,
        digest=training.digest,
        indices=mixed,
        labels=candidates.labels.tolist(),
        trained=[index in members for index in mixed],
    )
    return {
        Role.CANDIDATES: StageOutput(write_tensors(candidates._asdict(), {})),
        Role.POPULATION: StageOutput(write_tensors(population._asdict(), {})),
        Role.MEMBERSHIP: StageOutput.of_json(membership.to_dict()),
    }
