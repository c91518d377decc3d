"""Makes the line-up that membership attacks are shown, and notes apart who stands in it."""

from __future__ import annotations

import torch
from pydantic import Field

from shared.errors import InvalidRequest
from shared.ml.records import ForgetSets, Membership, TrainingSet
from shared.ml.samples import open_dataset
from shared.ml.splits import pretraining_and_pool
from shared.ml.tensors import write_tensors
from shared.plugins import Params
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._data import first


class CandidatesParams(Params):
    retained: int = Field(
        500, ge=0, le=100_000, description="candidates that were trained on and kept by every deletion, at most"
    )
    never: int = Field(500, ge=1, le=100_000, description="candidates of the pool that were never trained on, at most")
    population: int = Field(
        1000, ge=1, le=100_000, description="public samples to hold a candidate against, at most; each is a query"
    )


@registry.register(
    "candidates",
    params=CandidatesParams,
    needs=(Role.TRAINING_SET, Role.FORGET_SETS),
    produces=(Role.CANDIDATES, Role.POPULATION, Role.MEMBERSHIP),
    wiring=Wiring(scopes=(Scope.RELEASE,), group=WorkerGroup.UNLEARN, params="candidates", on_demand=True),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Mix all forgotten samples with retained and never-trained ones, in random order; and public samples apart.

    Raises:
        InvalidRequest: the training set takes the whole pool, or the two records are not about the same data.
    """
    params: CandidatesParams = ctx.params
    training = TrainingSet.read(ctx.input(Role.TRAINING_SET), Role.TRAINING_SET)
    truth = ForgetSets.read(ctx.input(Role.FORGET_SETS), Role.FORGET_SETS)
    forgotten = [index for row in truth.indices for index in row]
    if training.digest != truth.digest or not {*forgotten} <= {*training.indices}:
        raise InvalidRequest("FORGET_SETS is not about samples of this TRAINING_SET", f"inputs.{Role.FORGET_SETS}")
    split = training.train_split(Role.TRAINING_SET)

    def drawn(indices: set[int], count: int | None, purpose: str) -> list[int]:
        ordered = torch.tensor(sorted(indices), dtype=torch.int64)
        picked: list[int] = ordered[torch.randperm(len(ordered), generator=ctx.generator(purpose))[:count]].tolist()
        return picked

    pool = {*pretraining_and_pool(len(split.labels))[1].tolist()}
    never = drawn(pool - {*training.indices}, params.never, "never trained")
    if not never:
        raise InvalidRequest(
            "the training set takes the whole pool: no sample is left that was never trained on; train on fewer",
            f"inputs.{Role.TRAINING_SET}",
        )
    retained = drawn({*training.indices} - {*forgotten}, params.retained, "retained")
    shown = drawn({*forgotten, *retained, *never}, None, "line-up")
    candidates, members = split.pick(shown), {*training.indices}
    public = open_dataset(training.dataset).load("test")
    population = first(public, params.population, ctx.generator("population"))
    membership = Membership(
        dataset=training.dataset,
        digest=training.digest,
        indices=shown,
        labels=candidates.labels.tolist(),
        trained=[index in members for index in shown],
    )
    return {
        Role.CANDIDATES: Output(write_tensors(candidates._asdict(), {})),
        Role.POPULATION: Output(write_tensors(population._asdict(), {})),
        Role.MEMBERSHIP: Output.of_json(membership.json_value()),
    }
