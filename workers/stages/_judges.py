"""What metrics need besides images: a network that judges, weights that the user brought."""

from __future__ import annotations

from typing import Any

from torch import nn

from shared.errors import InvalidRequest
from shared.ml.metrics.lpips import read_weights
from shared.ml.networks import read_networks
from shared.ml.samples import Dataset
from shared.roles import ArtifactFormat, Role, Visibility
from workers.context import JobContext

# Whatever network an attacker may hold.
ATTACKED = tuple(
    role
    for role in Role
    if role.artifact_format is ArtifactFormat.NETWORKS and role.visibility is not Visibility.AUDITOR
)


def given_to_metrics(ctx: JobContext, dataset: Dataset) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Networks by the role that metrics need them under, on the job's device, and what must be said of them.

    Raises:
        InvalidRequest: the judge is an attacked model, or does not take these images; weights that are none.
    """
    given: dict[str, nn.Module] = {}
    about: dict[str, Any] = {}
    if Role.JUDGE in ctx.inputs:
        given[Role.JUDGE] = _judge(ctx, dataset)
    if ctx.params.lpips_weights is not None:
        given[Role.LPIPS_WEIGHTS], digest = read_weights(ctx.params.lpips_weights)
        about["lpips_weights"] = digest
    return {role: network.to(ctx.device) for role, network in given.items()}, about


def _judge(ctx: JobContext, dataset: Dataset) -> nn.Module:
    for role in ATTACKED:
        if ctx.inputs.get(role) == ctx.inputs[Role.JUDGE]:
            raise InvalidRequest(
                f"JUDGE is {role} itself: what was attacked must not judge, as the attack searched in its eyes; "
                "name a model of another seed",
                f"inputs.{Role.JUDGE}",
            )
    judge = read_networks(ctx.input(Role.JUDGE), Role.JUDGE)
    shape = judge.architecture.input_shape
    if judge.count != 1 or shape != dataset.input_shape:
        raise InvalidRequest(
            f"JUDGE must be one model that takes {list(dataset.input_shape)} images; "
            f"it is {judge.count} that take {list(shape)}",
            f"inputs.{Role.JUDGE}",
        )
    return judge.network()
