"""Runs an attack on all deletions at once. The truth is not among its inputs."""

from __future__ import annotations

import torch

from shared.catalog import Entry
from shared.errors import InvalidRequest
from shared.ml.attacks.api import attack_apart
from shared.ml.defense_knowledge import apply_defense_knowledge
from shared.ml.networks import Architecture, Networks, read_networks
from shared.ml.observations import Candidates, Observation, Queries, Result
from shared.ml.oracles import Oracle
from shared.ml.records import Counts, Labels
from shared.ml.samples import Samples
from shared.ml.tensors import read_tensors
from shared.plugins import AttackPlugin, Params
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, Output
from workers.stages import registry


@registry.register(
    "attack",
    params=Params,
    needs=(Role.UNLEARNED,),
    methods="attack",
    runs=("defense",),  # an attacker who knows the defense runs its counter
    wiring=Wiring(scopes=(Scope.ATTACK,), group=WorkerGroup.ATTACK, methods="attacks", told_of_several=(Role.COUNTS,)),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Reconstruct or guess what was forgotten, from what the attack declares that it sees."""
    assert isinstance(ctx.method, AttackPlugin)
    roles = _seen(ctx, ctx.method)
    black_box = ctx.method.access == "black_box"
    observation = _asked(ctx, roles) if black_box else _observe(ctx, roles)
    if not isinstance(observation, Observation):
        result: Result = ctx.method.target(observation, ctx.method_params, ctx)
    else:
        attack, params = ctx.method.target, ctx.method_params
        result = attack_apart(lambda seen, part: attack(seen, params, part), observation, ctx)
    threat_model = {
        "attack": ctx.method.name,
        "params": ctx.method_params.model_dump(mode="json"),
        "observes": sorted(roles),
        "batch_norm": "eval",
        "queries": 0,
        "access": ctx.method.access,
    }
    if result.compares > 1:
        threat_model["released_models"] = result.compares
    if not isinstance(observation, Observation):
        probing = Role.PROBES in roles and {
            "probing": read_tensors(ctx.input(Role.PROBES), Role.PROBES)[1].get("queries")
        }
        threat_model["queries"] = {**(probing or {}), "attack": observation.asked}
    return {result.role: Output(result.write(threat_model), result.media_type)}


def _seen(ctx: JobContext, method: AttackPlugin) -> set[str]:
    """Roles the method needs with these parameters, and those it can use that were given."""
    needed = Entry.of(method).needed(ctx.method_params.model_dump())
    return {*needed, Role.UNLEARNED} | {role for role in method.uses if role in ctx.inputs}


def _observe(ctx: JobContext, roles: set[str]) -> Observation:
    original = read_networks(ctx.input(Role.ORIGINAL), Role.ORIGINAL)

    base = (
        read_networks(ctx.input(Role.BASE), Role.BASE, like=original.architecture.alone) if Role.BASE in roles else None
    )
    seen = Observation(
        original=original,
        unlearned=read_networks(ctx.input(Role.UNLEARNED), Role.UNLEARNED, like=original.architecture),
        base=base,
        counts=Counts.read(ctx.input(Role.COUNTS), Role.COUNTS) if Role.COUNTS in roles else None,
        labels=_labels(ctx) if Role.LABELS in roles else None,
    )
    return apply_defense_knowledge(ctx, seen) if Role.DEFENSE in roles else seen


def _asked(ctx: JobContext, roles: set[str]) -> Queries | Candidates:
    return _line_up(ctx, roles) if Role.CANDIDATES in roles else _ask(ctx, roles)


def _line_up(ctx: JobContext, roles: set[str]) -> Candidates:
    unlearned = read_networks(ctx.input(Role.UNLEARNED), Role.UNLEARNED)
    candidates = _samples(ctx, Role.CANDIDATES, unlearned.architecture)
    population = _samples(ctx, Role.POPULATION, unlearned.architecture) if Role.POPULATION in roles else None
    before: list[Oracle] = []
    if Role.ORIGINAL in roles:
        original = read_networks(ctx.input(Role.ORIGINAL), Role.ORIGINAL, like=unlearned.architecture)
        before = _before(ctx, original, unlearned)
    return Candidates(candidates, _oracles(ctx, unlearned), before, population)


def _samples(ctx: JobContext, role: str, architecture: Architecture) -> Samples:
    tensors = read_tensors(ctx.input(role), role)[0]
    images, labels = tensors.get("images"), tensors.get("labels")
    if (
        images is None
        or labels is None
        or images.dim() != 4
        or tuple(images.shape[1:]) != architecture.input_shape
        or images.dtype != torch.float32
        or labels.dtype != torch.int64
        or labels.shape != images.shape[:1]
        or not len(labels)
        or not 0 <= int(labels.min()) <= int(labels.max()) < architecture.num_classes
    ):
        raise InvalidRequest(
            f"{role} must hold float32 'images' [n, {', '.join(map(str, architecture.input_shape))}] and int64 "
            f"'labels' [n] below {architecture.num_classes}, n at least 1",
            f"inputs.{role}",
        )
    return Samples(images, labels)


def _oracles(ctx: JobContext, networks: Networks) -> list[Oracle]:
    return [Oracle(networks.network(which), ctx.device, ctx.method_params) for which in range(networks.count)]


def _before(ctx: JobContext, original: Networks, unlearned: Networks) -> list[Oracle]:
    """What each deletion started from: one model for all, or, one after another, a model each."""
    if original.count not in (1, unlearned.count):
        raise InvalidRequest(
            f"ORIGINAL holds {original.count} models, UNLEARNED {unlearned.count}", f"inputs.{Role.ORIGINAL}"
        )
    return _oracles(ctx, original) * (unlearned.count // original.count)


def _ask(ctx: JobContext, roles: set[str]) -> Queries:
    original = read_networks(ctx.input(Role.ORIGINAL), Role.ORIGINAL)
    unlearned = read_networks(ctx.input(Role.UNLEARNED), Role.UNLEARNED, like=original.architecture)
    probes = read_tensors(ctx.input(Role.PROBES), Role.PROBES)[0].get("images")
    architecture = original.architecture
    shape = (architecture.num_classes, *architecture.input_shape)
    if probes is None or probes.dim() != 5 or (probes.shape[0], *probes.shape[2:]) != shape or not probes.numel():
        raise InvalidRequest(
            f"PROBES must hold float32 'images' [{shape[0]}, m, *{shape[1:]}]", f"inputs.{Role.PROBES}"
        )

    return Queries(
        before=_before(ctx, original, unlearned),
        after=_oracles(ctx, unlearned),
        probes=probes.float(),
        counts=Counts.read(ctx.input(Role.COUNTS), Role.COUNTS) if Role.COUNTS in roles else None,
    )


def _labels(ctx: JobContext) -> torch.Tensor:
    rows = Labels.read(ctx.input(Role.LABELS), Role.LABELS).labels
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise InvalidRequest(
            "LABELS must hold the same number of classes, at least one, a deletion", f"inputs.{Role.LABELS}"
        )
    return torch.tensor(rows)
