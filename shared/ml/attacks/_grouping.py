"""Groups deletions by start model and attacks one group at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attack_io import Result, WhiteBoxView
from shared.ml.attacks._group_checkpoints import GroupContext, load_results, pack_results
from shared.ml.context import Context
from shared.ml.networks import list_parameter_names
from shared.roles import Role

Attack = Callable[[WhiteBoxView, Context], Result]


def group_by_start_model(view: WhiteBoxView) -> list[tuple[list[int], WhiteBoxView]]:
    """Groups of deletions, in ascending order, and the view of each; together all deletions.

    Successive deletions start from one model each: ORIGINAL holds as many models as there are
    deletions. Of an ensemble (SISA) the member that moved most is attacked: the weights show which
    one was retrained, and each member has an equal part of the samples.

    Raises:
        InvalidRequest: ORIGINAL holds neither one model nor one per deletion.
    """
    starts, deletions = view.original.count, view.unlearned.count
    if starts not in (1, deletions):
        raise InvalidRequest(
            f"ORIGINAL holds {starts} models, but must hold 1, or one per model of UNLEARNED "
            f"({deletions})",
            f"inputs.{Role.ORIGINAL}",
        )
    members = view.original.architecture.members
    start = list(range(deletions)) if starts > 1 else [0] * deletions
    member = _find_moved_members(view, start) if members > 1 else [0] * deletions
    keys = list(zip(start, member, strict=True))
    groups = {key: [d for d in range(deletions) if keys[d] == key] for key in dict.fromkeys(keys)}
    if len(groups) == 1 and members == 1:
        return [(list(range(deletions)), view)]
    return [
        (deletion_rows, _select_group(view, deletion_rows, *key))
        for key, deletion_rows in groups.items()
    ]


def _select_group(view: WhiteBoxView, rows: list[int], start: int, member: int) -> WhiteBoxView:
    original, unlearned = view.original.pick([start]), view.unlearned.pick(rows)
    members, deletion_sizes = original.architecture.members, view.deletion_sizes
    if members > 1:
        original, unlearned = original.select_member(member), unlearned.select_member(member)
    if deletion_sizes is not None:  # after `start` earlier deletions
        remaining = max(
            deletion_sizes.k + 1, round((deletion_sizes.N - start * deletion_sizes.k) / members)
        )
        deletion_sizes = deletion_sizes.model_copy(update={"N": remaining})
    labels, coordinate_weights = view.labels, view.coordinate_weights
    if coordinate_weights is not None:
        prefix = f"members.{member}." if members > 1 else ""
        coordinate_weights = {
            n.removeprefix(prefix): t[rows]
            for n, t in coordinate_weights.items()
            if n.startswith(prefix)
        }
    return replace(
        view,
        original=original,
        unlearned=unlearned,
        deletion_sizes=deletion_sizes,
        labels=None if labels is None else labels[rows],
        coordinate_weights=coordinate_weights,
    )


def _find_moved_members(view: WhiteBoxView, start: list[int]) -> list[int]:
    """The member of each deletion that moved most, by weighted coordinates."""
    coordinate_weights = view.coordinate_weights or {}

    def measure_distance(member: int) -> Tensor:
        before, after = view.original.select_member(member), view.unlearned.select_member(member)
        changes = {
            n: after.state[n].double() - before.state[n][start].double()
            for n in list_parameter_names(before)
        }
        weighted = [
            changes[n] * coordinate_weights.get(f"members.{member}.{n}", torch.ones(()))
            for n in changes
        ]
        return torch.cat([change.flatten(1) for change in weighted], 1).square().sum(1)

    members = range(view.original.architecture.members)
    return [int(i) for i in torch.stack([measure_distance(which) for which in members]).argmax(0)]


def run_per_start_model(attack: Attack, view: WhiteBoxView, ctx: Context) -> Result:
    """Run an attack on each group and join the results in the order of the deletions.

    A checkpoint holds the results of finished groups and the state of the current one.

    Raises:
        TypeError: a field of the results is not as `Result` requires, so groups cannot be joined.
    """
    groups = group_by_start_model(view)
    if len(groups) == 1 and groups[0][1] is view:
        return attack(view, ctx)
    results, checkpoint = load_results(ctx)
    for i, (_, group_view) in enumerate(groups[len(results) :], start=len(results)):
        results.append(attack(group_view, GroupContext(ctx, i, len(groups), results, checkpoint)))
        checkpoint = None
        if ctx.is_checkpoint_due():
            ctx.save_checkpoint(len(results), pack_results(results))
    group_rows = [rows for rows, _ in groups]
    joined = {}
    for each in fields(results[0]):
        try:
            joined[each.name] = _join_field(
                [getattr(result, each.name) for result in results], group_rows
            )
        except TypeError as error:
            raise TypeError(f"{type(results[0]).__name__}.{each.name}: {error}") from error
    return replace(results[0], **joined)


def _join_field(values: list[Any], group_rows: list[list[int]]) -> Any:
    """One field of all groups' results, in the order of the deletions; `group_rows` are those of
    each group."""
    first = values[0]
    if any(value is None for value in values):
        if any(value is not None for value in values):
            raise TypeError("it is missing in some groups")
        return None
    if isinstance(first, dict):
        return _join_first_entries(values, group_rows)
    if isinstance(first, (Tensor, list, tuple)):
        for value, rows in zip(values, group_rows, strict=True):
            if len(value) != len(rows):
                raise TypeError(f"{len(value)} entries for {len(rows)} deletions")
        order = torch.tensor([row for rows in group_rows for row in rows]).argsort()
        if isinstance(first, Tensor):
            return torch.cat(values)[order]
        entries = [entry for value in values for entry in value]
        return type(first)(entries[i] for i in order)
    if all(value == first for value in values):
        return first
    if not all(isinstance(value, (int, float)) for value in values):
        raise TypeError("groups differ, and values that are not numbers cannot be joined")
    return max(values)


def _join_first_entries(
    values: list[dict[str, Tensor]], group_rows: list[list[int]]
) -> dict[str, Tensor]:
    """Tensors by name: each group has entries for its first deletions; those of the overall first
    ones are kept."""
    joined = {}
    for name in dict.fromkeys(name for value in values for name in value):
        by_row = {
            row: entry
            for rows, value in zip(group_rows, values, strict=True)
            for row, entry in zip(rows, value.get(name, ()), strict=False)
        }
        complete = next(row for row in range(len(by_row) + 1) if row not in by_row)
        if complete:
            joined[name] = torch.stack([by_row[row] for row in range(complete)])
    return joined
