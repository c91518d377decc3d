"""Runs an attack on all deletions at once. The truth is not among its inputs."""

from __future__ import annotations

import torch

from shared.catalog import CatalogEntry
from shared.errors import InvalidRequest
from shared.ml.attack_io import CandidateView, ProbeView, Result, WhiteBoxView
from shared.ml.attacks.api import run_per_start_model
from shared.ml.defense_knowledge import apply_defense_knowledge
from shared.ml.networks import Architecture, Networks, read_networks
from shared.ml.oracles import Oracle
from shared.ml.records import DeletionSizes, LabelsRecord
from shared.ml.samples import Samples
from shared.ml.tensors import read_tensors
from shared.plugins import AttackPlugin, Params
from shared.roles import Role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry


@registry.register(
    "attack",
    params=Params,
    needs=(Role.UNLEARNED,),
    methods="attack",
    runs=("defense",),  # an adaptive attacker runs the defense's adaptive view
    wiring=Wiring(
        scopes=(Scope.ATTACK,),
        group=WorkerGroup.ATTACK,
        methods="attacks",
        multi_sample_roles=(Role.DELETION_SIZES,),
    ),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Reconstruct or infer what was forgotten, from the roles that the attack declares."""
    assert isinstance(ctx.method, AttackPlugin)
    roles = _select_visible_roles(ctx, ctx.method)
    black_box = ctx.method.access == "black_box"
    view = _read_black_box_view(ctx, roles) if black_box else _read_white_box_view(ctx, roles)
    if not isinstance(view, WhiteBoxView):
        result: Result = ctx.method.target(view, ctx.method_params, ctx)
    else:
        attack, params = ctx.method.target, ctx.method_params
        result = run_per_start_model(lambda seen, part: attack(seen, params, part), view, ctx)
    threat_model = {
        "attack": ctx.method.name,
        "params": ctx.method_params.model_dump(mode="json"),
        "observes": sorted(roles),
        "batch_norm": "eval",
        "queries": 0,
        "access": ctx.method.access,
    }
    if result.releases_compared > 1:
        threat_model["released_models"] = result.releases_compared
    if result.batch_size:
        threat_model["batch_size"] = result.batch_size
    if reasons := sorted({reason for reason in result.fallbacks or () if reason}):
        threat_model["computed_image_by_image"] = "; ".join(reasons)
    if not isinstance(view, WhiteBoxView):
        probe_queries = Role.PROBES in roles and {
            "probing": read_tensors(ctx.read_input(Role.PROBES), Role.PROBES)[1].get("queries")
        }
        threat_model["queries"] = {**(probe_queries or {}), "attack": view.query_count}
    return {result.role: StageOutput(result.write(threat_model), result.media_type)}


def _select_visible_roles(ctx: JobContext, method: AttackPlugin) -> set[str]:
    """The roles that the method needs with these parameters, and the supplied ones that it can
    use."""
    needed = CatalogEntry.from_plugin(method).list_needs(ctx.method_params.model_dump())
    return {*needed, Role.UNLEARNED} | {role for role in method.uses if role in ctx.inputs}


def _read_white_box_view(ctx: JobContext, roles: set[str]) -> WhiteBoxView:
    original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)

    base = (
        read_networks(
            ctx.read_input(Role.BASE), Role.BASE, like=original.architecture.member_architecture
        )
        if Role.BASE in roles
        else None
    )
    view = WhiteBoxView(
        original=original,
        unlearned=read_networks(
            ctx.read_input(Role.UNLEARNED), Role.UNLEARNED, like=original.architecture
        ),
        base=base,
        deletion_sizes=_read_sizes(ctx) if Role.DELETION_SIZES in roles else None,
        labels=_read_labels(ctx) if Role.LABELS in roles else None,
        candidates=_read_samples(ctx, Role.CANDIDATES, original.architecture)
        if Role.CANDIDATES in roles
        else None,
    )
    return apply_defense_knowledge(ctx, view) if Role.DEFENSE in roles else view


def _read_black_box_view(ctx: JobContext, roles: set[str]) -> ProbeView | CandidateView:
    return (
        _read_candidate_view(ctx, roles)
        if Role.CANDIDATES in roles
        else _read_probe_view(ctx, roles)
    )


def _read_candidate_view(ctx: JobContext, roles: set[str]) -> CandidateView:
    unlearned = read_networks(ctx.read_input(Role.UNLEARNED), Role.UNLEARNED)
    candidates = _read_samples(ctx, Role.CANDIDATES, unlearned.architecture)
    population = (
        _read_samples(ctx, Role.POPULATION, unlearned.architecture)
        if Role.POPULATION in roles
        else None
    )
    before: list[Oracle] = []
    if Role.ORIGINAL in roles:
        original = read_networks(
            ctx.read_input(Role.ORIGINAL), Role.ORIGINAL, like=unlearned.architecture
        )
        before = _build_oracles_before(ctx, original, unlearned)
    return CandidateView(candidates, _build_oracles(ctx, unlearned), before, population)


def _read_samples(ctx: JobContext, role: str, architecture: Architecture) -> Samples:
    tensors = read_tensors(ctx.read_input(role), role)[0]
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
            f"{role} must hold float32 'images' [n, "
            f"{', '.join(map(str, architecture.input_shape))}] and int64 'labels' [n] below "
            f"{architecture.num_classes}, n at least 1",
            f"inputs.{role}",
        )
    return Samples(images, labels)


def _build_oracles(ctx: JobContext, networks: Networks) -> list[Oracle]:
    return [
        Oracle(networks.load_network(which), ctx.device, ctx.method_params)
        for which in range(networks.count)
    ]


def _build_oracles_before(ctx: JobContext, original: Networks, unlearned: Networks) -> list[Oracle]:
    """The model that each deletion started from: one for all, or one each if successive."""
    if original.count not in (1, unlearned.count):
        raise InvalidRequest(
            f"ORIGINAL holds {original.count} models, but must hold 1, or one per model of "
            f"UNLEARNED ({unlearned.count})",
            f"inputs.{Role.ORIGINAL}",
        )
    return _build_oracles(ctx, original) * (unlearned.count // original.count)


def _read_probe_view(ctx: JobContext, roles: set[str]) -> ProbeView:
    original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
    unlearned = read_networks(
        ctx.read_input(Role.UNLEARNED), Role.UNLEARNED, like=original.architecture
    )
    probes = read_tensors(ctx.read_input(Role.PROBES), Role.PROBES)[0].get("images")
    architecture = original.architecture
    shape = (architecture.num_classes, *architecture.input_shape)
    if (
        probes is None
        or probes.dim() != 5
        or (probes.shape[0], *probes.shape[2:]) != shape
        or not probes.numel()
    ):
        raise InvalidRequest(
            f"PROBES must hold float32 'images' [{shape[0]}, m, *{shape[1:]}]",
            f"inputs.{Role.PROBES}",
        )

    return ProbeView(
        before=_build_oracles_before(ctx, original, unlearned),
        after=_build_oracles(ctx, unlearned),
        probes=probes.float(),
        deletion_sizes=_read_sizes(ctx) if Role.DELETION_SIZES in roles else None,
    )


def _read_sizes(ctx: JobContext) -> DeletionSizes:
    return DeletionSizes.read(ctx.read_input(Role.DELETION_SIZES), Role.DELETION_SIZES)


def _read_labels(ctx: JobContext) -> torch.Tensor:
    rows = LabelsRecord.read(ctx.read_input(Role.LABELS), Role.LABELS).labels
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise InvalidRequest(
            "LABELS must hold the same number of classes, at least one, for each deletion",
            f"inputs.{Role.LABELS}",
        )
    return torch.tensor(rows)
