"""The null of an attack by gradient matching: which public image would have explained the weight change best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shared.choices import validated
from shared.errors import InvalidRequest
from shared.ml.attacks.api import Aim, aimed, apart
from shared.ml.context import JobInputs
from shared.ml.defense_knowledge import apply_defense_knowledge
from shared.ml.networks import read_networks
from shared.ml.nulls import nearest_public
from shared.ml.observations import Observation
from shared.ml.records import Counts
from shared.ml.samples import Samples
from shared.roles import Role

ESTIMATES = frozenset({"pair", "base"})  # see `shared.ml.attacks.api.GradientFrom`


def nearest_public_of(ctx: JobInputs, about: Mapping[str, Any], labels: Tensor, public: Samples) -> Tensor | None:
    """Images [D, 1, C, H, W], from as many public images a class as there are decoys; with the attacker's knowledge.

    None where the attack did not say what it explained or says it in words of its own, where the models are not among
    the inputs, or for several samples a deletion.

    Raises:
        InvalidRequest: the models do not fit the truth, or `explanations` is no list of text.
    """
    explained = _explanations(about)
    adaptive = _params(about).get("adaptive") is True
    if not explained or labels.shape[1] != 1:
        return None
    needed = {Role.ORIGINAL, Role.UNLEARNED} | ({Role.BASE, Role.COUNTS} if "base" in explained else set())
    needed |= {Role.DEFENSE, Role.PUBLIC} if adaptive else set()
    if not needed <= ctx.inputs.keys():
        return None
    original = read_networks(ctx.input(Role.ORIGINAL), Role.ORIGINAL)
    like = original.architecture
    from_base = Role.BASE in needed
    seen = Observation(
        original=original,
        unlearned=read_networks(ctx.input(Role.UNLEARNED), Role.UNLEARNED, like=like),
        base=read_networks(ctx.input(Role.BASE), Role.BASE, like=like.alone) if from_base else None,
        counts=Counts.read(ctx.input(Role.COUNTS), Role.COUNTS) if from_base else None,
    )
    if adaptive:
        seen = apply_defense_knowledge(ctx, seen)
    if not len(explained) == seen.unlearned.count == len(labels):
        raise InvalidRequest("RECONSTRUCTION and UNLEARNED differ in their deletions", f"inputs.{Role.RECONSTRUCTION}")
    aim = _aim(about)
    found = torch.empty(len(labels), 1, *like.input_shape)
    for rows, part in apart(seen):
        theirs = [explained[row] for row in rows]
        estimates = {source: aimed(part, source, aim) for source in dict.fromkeys(theirs)}
        found[rows] = nearest_public(estimates, theirs, labels[rows], public, ctx.params.decoys, ctx.device)
    return found


def _explanations(about: Mapping[str, Any]) -> list[str] | None:
    """The estimate that each deletion was explained from; None where that is not told, or is none known here."""
    told = about.get("explanations")
    if told is None:
        return None
    if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
        raise InvalidRequest("RECONSTRUCTION: explanations must be a list of text", f"inputs.{Role.RECONSTRUCTION}")
    return told if set(told) <= ESTIMATES else None


def _aim(about: Mapping[str, Any]) -> Aim:
    """How the attack says it aimed; an attack that has no such parameters aims plainly."""
    known = _params(about)
    value = {name: known[name] for name in Aim.model_fields if name in known}
    return validated(Aim, value, "RECONSTRUCTION: params", f"inputs.{Role.RECONSTRUCTION}")


def _params(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters that the attack says it had."""
    told = about.get("threat_model")
    params = told.get("params") if isinstance(told, dict) else None
    return params if isinstance(params, dict) else {}
