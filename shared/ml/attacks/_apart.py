"""Deletions that do not start from one and the same network are attacked apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks._resuming import Group, packed, resumed
from shared.ml.context import Context
from shared.ml.networks import parameters
from shared.ml.observations import Observation, Result
from shared.roles import Role

Attack = Callable[[Observation, Context], Result]


def apart(observation: Observation) -> list[tuple[list[int], Observation]]:
    """Groups of deletions, ascending, and what is seen of each; together all of them.

    Successive deletions start from a model each: ORIGINAL holds as many as there are deletions. Of models that answer
    together (SISA) the one that moved most is attacked: the weights show which was trained again, and each has the
    Nth part of the samples.

    Raises:
        InvalidRequest: ORIGINAL holds neither one model nor one a deletion.
    """
    starts, deletions = observation.original.count, observation.unlearned.count
    if starts not in (1, deletions):
        raise InvalidRequest(f"ORIGINAL holds {starts} models, UNLEARNED {deletions}", f"inputs.{Role.ORIGINAL}")
    members = observation.original.architecture.members
    start = list(range(deletions)) if starts > 1 else [0] * deletions
    member = _moved(observation, start) if members > 1 else [0] * deletions
    keys = list(zip(start, member, strict=True))
    groups = {key: [d for d in range(deletions) if keys[d] == key] for key in dict.fromkeys(keys)}
    if len(groups) == 1 and members == 1:
        return [(list(range(deletions)), observation)]
    return [(rows, _seen(observation, rows, *key)) for key, rows in groups.items()]


def _seen(observation: Observation, rows: list[int], start: int, member: int) -> Observation:
    original, unlearned = observation.original.pick([start]), observation.unlearned.pick(rows)
    members, counts = original.architecture.members, observation.counts
    if members > 1:
        original, unlearned = original.member(member), unlearned.member(member)
    if counts is not None:  # `start` deletions went before
        left = max(counts.k + 1, round((counts.N - start * counts.k) / members))
        counts = counts.model_copy(update={"N": left})
    labels, trust = observation.labels, observation.trust
    if trust is not None:
        start_of = f"members.{member}." if members > 1 else ""
        trust = {n.removeprefix(start_of): t[rows] for n, t in trust.items() if n.startswith(start_of)}
    return replace(
        observation,
        original=original,
        unlearned=unlearned,
        counts=counts,
        labels=None if labels is None else labels[rows],
        trust=trust,
    )


def _moved(observation: Observation, start: list[int]) -> list[int]:
    """The member of each deletion that moved most, as far as its coordinates are trusted."""
    trust = observation.trust or {}

    def distance(which: int) -> Tensor:
        before, after = observation.original.member(which), observation.unlearned.member(which)
        moved = {n: after.state[n].double() - before.state[n][start].double() for n in parameters(before)}
        weighed = [moved[n] * trust.get(f"members.{which}.{n}", torch.ones(())) for n in moved]
        return torch.cat([change.flatten(1) for change in weighed], 1).square().sum(1)

    members = range(observation.original.architecture.members)
    return [int(i) for i in torch.stack([distance(which) for which in members]).argmax(0)]


def attack_apart(attack: Attack, observation: Observation, ctx: Context) -> Result:
    """Run an attack on each group; what it found, in the order of the deletions.

    A checkpoint holds what the finished groups found and where the group that was at work stood.

    Raises:
        TypeError: a field of the results is not what `Result` says, so that the groups' cannot be put together.
    """
    groups = apart(observation)
    if len(groups) == 1 and groups[0][1] is observation:
        return attack(observation, ctx)
    results, standing = resumed(ctx)
    for i, (_, seen) in enumerate(groups[len(results) :], start=len(results)):
        results.append(attack(seen, Group(ctx, i, len(groups), results, standing)))
        standing = None
        if ctx.due():
            ctx.save(len(results), packed(results))
    places = [rows for rows, _ in groups]
    joined = {}
    for each in fields(results[0]):
        try:
            joined[each.name] = _join([getattr(result, each.name) for result in results], places)
        except TypeError as error:
            raise TypeError(f"{type(results[0]).__name__}.{each.name}: {error}") from error
    return replace(results[0], **joined)


def _join(values: list[Any], places: list[list[int]]) -> Any:
    """One field of all groups' results, in the order of the deletions; `places` are those of each group."""
    first = values[0]
    if any(value is None for value in values):
        if any(value is not None for value in values):
            raise TypeError("some groups have none")
        return None
    if isinstance(first, dict):
        return _join_first(values, places)
    if isinstance(first, (Tensor, list, tuple)):
        for value, rows in zip(values, places, strict=True):
            if len(value) != len(rows):
                raise TypeError(f"{len(value)} entries for {len(rows)} deletions")
        order = torch.tensor([row for rows in places for row in rows]).argsort()
        if isinstance(first, Tensor):
            return torch.cat(values)[order]
        every = [entry for value in values for entry in value]
        return type(first)(every[i] for i in order)
    if all(value == first for value in values):
        return first
    if not all(isinstance(value, (int, float)) for value in values):
        raise TypeError("groups differ, and it is no number")
    return max(values)


def _join_first(values: list[dict[str, Tensor]], places: list[list[int]]) -> dict[str, Tensor]:
    """Tensors by name: each group has entries of its first deletions, and kept are those of the first of all."""
    joined = {}
    for name in dict.fromkeys(name for value in values for name in value):
        by_row = {
            row: entry
            for rows, value in zip(places, values, strict=True)
            for row, entry in zip(rows, value.get(name, ()), strict=False)
        }
        first = next(row for row in range(len(by_row) + 1) if row not in by_row)
        if first:
            joined[name] = torch.stack([by_row[row] for row in range(first)])
    return joined
