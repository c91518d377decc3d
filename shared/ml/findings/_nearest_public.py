"""The baseline of gradient matching attacks: the public image whose gradient matches the weight
change best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks.api import TargetParams, build_gradient_target, group_by_start_model
from shared.ml.baselines import NearestPublic, select_nearest_public
from shared.ml.context import JobInputs
from shared.ml.defense_knowledge import apply_defense_knowledge
from shared.ml.networks import read_networks
from shared.ml.records import DeletionSizes
from shared.ml.samples import Samples
from shared.plugin_ref import validate_model
from shared.roles import Role

MAX_CANDIDATES = 100  # images of a class whose gradients are computed
ESTIMATES = frozenset({"pair", "base"})  # see `shared.ml.attacks.api.GradientFrom`


def find_nearest_public(
    ctx: JobInputs, metadata: Mapping[str, Any], labels: Tensor, public: Samples
) -> NearestPublic | None:
    """Of each deletion's class, from as many public images per class as there may be decoys, at most
    100, given the attacker's knowledge.

    None if the attack does not name its gradient sources or names other than `ESTIMATES`, if the
    models are not among the inputs, or for several samples per deletion.

    Raises:
        InvalidRequest: the models do not fit the truth, or `gradient_sources` is not a list of
            text.
    """
    gradient_sources = _read_gradient_sources(metadata)
    adaptive = _read_attack_params(metadata).get("adaptive") is True
    if not gradient_sources or labels.shape[1] != 1:
        return None
    needed = {Role.ORIGINAL, Role.UNLEARNED} | (
        {Role.BASE, Role.DELETION_SIZES} if "base" in gradient_sources else set()
    )
    needed |= {Role.DEFENSE, Role.PUBLIC} if adaptive else set()
    if not needed <= ctx.inputs.keys():
        return None
    original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
    like = original.architecture
    from_base = Role.BASE in needed
    view = WhiteBoxView(
        original=original,
        unlearned=read_networks(ctx.read_input(Role.UNLEARNED), Role.UNLEARNED, like=like),
        base=read_networks(ctx.read_input(Role.BASE), Role.BASE, like=like.member_architecture)
        if from_base
        else None,
        deletion_sizes=DeletionSizes.read(ctx.read_input(Role.DELETION_SIZES), Role.DELETION_SIZES)
        if from_base
        else None,
    )
    if adaptive:
        view = apply_defense_knowledge(ctx, view)
    if not len(gradient_sources) == view.unlearned.count == len(labels):
        raise InvalidRequest(
            "RECONSTRUCTION and UNLEARNED differ in their deletions",
            f"inputs.{Role.RECONSTRUCTION}",
        )
    target_params = _read_target_params(metadata)
    nearest = torch.empty(len(labels), 1, *like.input_shape)
    losses = torch.empty(len(labels))
    for rows, group_view in group_by_start_model(view):
        group_sources = [gradient_sources[row] for row in rows]
        estimates = {
            source: build_gradient_target(group_view, source, target_params)
            for source in dict.fromkeys(group_sources)
        }
        nearest[rows], losses[rows] = select_nearest_public(
            estimates,
            group_sources,
            labels[rows],
            public,
            min(ctx.params.decoys, MAX_CANDIDATES),
            ctx.device,
        )
    return NearestPublic(nearest, losses)


def _read_gradient_sources(metadata: Mapping[str, Any]) -> list[str] | None:
    """The gradient estimate used for each deletion; None if not stated, or not one of
    `ESTIMATES`."""
    field = f"inputs.{Role.RECONSTRUCTION}"
    if "explanations" in metadata:  # what gradient_sources was called before
        raise InvalidRequest(
            "RECONSTRUCTION was written by an older version of Palimpsest (it has explanations): "
            "run the attack again",
            field,
        )
    sources = metadata.get("gradient_sources")
    if sources is None:
        return None
    if not isinstance(sources, list) or not all(isinstance(one, str) for one in sources):
        raise InvalidRequest("RECONSTRUCTION: gradient_sources must be a list of text", field)
    return sources if set(sources) <= ESTIMATES else None


def _read_target_params(metadata: Mapping[str, Any]) -> TargetParams:
    """The target parameters that the attack states; the defaults if it has none."""
    params = _read_attack_params(metadata)
    value = {name: params[name] for name in TargetParams.model_fields if name in params}
    return validate_model(
        TargetParams, value, "RECONSTRUCTION: params", f"inputs.{Role.RECONSTRUCTION}"
    )


def _read_attack_params(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters that the attack states."""
    threat_model = metadata.get("threat_model")
    params = threat_model.get("params") if isinstance(threat_model, dict) else None
    return params if isinstance(params, dict) else {}
