"""Networks that metrics need: the feature network, and LPIPS weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from shared.errors import InvalidRequest
from shared.ml.metrics.lpips import read_weights
from shared.ml.networks import read_networks
from shared.ml.samples import Dataset
from shared.roles import ArtifactFormat, Role, Visibility
from workers.context import JobContext

# Networks that an attacker may hold.
ATTACKABLE_ROLES = tuple(
    role
    for role in Role
    if role.artifact_format is ArtifactFormat.NETWORKS and role.visibility is not Visibility.AUDITOR
)


def read_metric_networks(
    ctx: JobContext, dataset: Dataset
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Networks by the role that metrics name, on the job's device, and what the provenance states
    about them.

    Raises:
        InvalidRequest: the feature network is under attack or does not fit the images; the LPIPS
            weights are invalid.
    """
    networks: dict[str, nn.Module] = {}
    conditions: dict[str, Any] = {}
    if Role.FEATURE_NETWORK in ctx.inputs:
        networks[Role.FEATURE_NETWORK] = _read_feature_network(ctx, dataset)
    if ctx.params.lpips_weights is not None:
        networks[Role.LPIPS_WEIGHTS], digest = read_weights(ctx.params.lpips_weights)
        conditions["lpips_weights"] = digest
    return {role: network.to(ctx.device) for role, network in networks.items()}, conditions


def _read_feature_network(ctx: JobContext, dataset: Dataset) -> nn.Module:
    for role in ATTACKABLE_ROLES:
        if ctx.inputs.get(role) == ctx.inputs[Role.FEATURE_NETWORK]:
            raise InvalidRequest(
                f"FEATURE_NETWORK must not be a model under attack (it equals {role}); "
                "use a model pretrained with a different seed",
                f"inputs.{Role.FEATURE_NETWORK}",
            )
    feature_network = read_networks(ctx.read_input(Role.FEATURE_NETWORK), Role.FEATURE_NETWORK)
    shape = feature_network.architecture.input_shape
    if feature_network.count != 1 or shape != dataset.input_shape:
        raise InvalidRequest(
            f"FEATURE_NETWORK must be one model with input shape {list(dataset.input_shape)}; got "
            f"{feature_network.count} with input shape {list(shape)}",
            f"inputs.{Role.FEATURE_NETWORK}",
        )
    return feature_network.load_network()
