"""Deletions that do not start from one and the same network are attacked apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks._estimate import parameters
from shared.ml.attacks._observation import Answers, Observation, Reconstruction
from shared.ml.attacks._resuming import Group, packed, resumed
from shared.ml.context import Context
from shared.roles import Role

Attack = Callable[[Observation, Context], Reconstruction | Answers]


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


def attack_apart(attack: Attack, observation: Observation, ctx: Context) -> Reconstruction | Answers:
    """Run an attack on each group; what it found, in the order of the deletions.

    A checkpoint holds what the finished groups found and where the group that was at work stood.
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
    rows = [row for group, _ in groups for row in group]
    back = torch.tensor(rows).argsort()
    compares = max(r.compares for r in results)
    if isinstance(results[0], Answers):
        labels, scores = (torch.cat([getattr(r, name) for r in results])[back] for name in ("labels", "scores"))
        return Answers(labels, scores, compares)
    made = [r for r in results if isinstance(r, Reconstruction)]
    images, labels, loss = (
        torch.cat([getattr(r, n) for r in made])[back] for n in ("images", "labels", "matching_loss")
    )
    explanations = [e for r in made for e in r.explanations]
    return Reconstruction(images, labels, loss, [explanations[i] for i in back], _controls(groups, made), compares)


def _controls(groups: list[tuple[list[int], Observation]], made: list[Reconstruction]) -> dict[str, Tensor]:
    """Each group made controls for its first deletions: those that stand for the first of all are kept."""
    controls: dict[str, Tensor] = {}
    for name in made[0].controls:
        by_row = {
            row: image for (rows, _), r in zip(groups, made, strict=True)
            for row, image in zip(rows, r.controls[name], strict=False)
        }  # fmt: skip
        first = next(row for row in range(len(by_row) + 1) if row not in by_row)
        controls[name] = torch.stack([by_row[row] for row in range(first)])
    return controls
