"""Which samples the shadow deletions forget: never one that a tested deletion forgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.splits import pretraining_and_pool
from shared.roles import Role


class ShadowSet(NamedTuple):
    """A training set and the forget sets in it, disjoint."""

    training: Tensor  # int64 [N], positions in the train split
    forget: Tensor  # int64 [n, k], positions in `training`
    own: bool  # whether it is the training set of the tested deletions


def shadow_sets(
    count: int,
    training: Sequence[int],
    tested: Sequence[Sequence[int]],
    labels: Tensor,
    of_one_class: bool,
    generator: torch.Generator,
) -> list[ShadowSet]:
    """Training sets, each with as many forget sets of k samples as are tested, together at least `count`.

    The tested training set comes first, as often as what nobody tests in it suffices for. The others hold as many
    samples of each class as it does, of the pool without what tested deletions forget; they may overlap. What a
    deletion of a retrained model looks like depends on what else was in its training set, so it is not enough to look
    at one; and an attacker who compares deletions must have as many to compare.

    Args:
        training, tested: positions in the train split; tested [D][k].
        labels: of the whole train split.
        of_one_class: whether the k samples of a deletion are of one class.

    Raises:
        InvalidRequest: the pool has too few samples.
    """
    own, gone = torch.tensor(training), {place for row in tested for place in row}
    k, size = len(tested[0]), min(len(tested), count)
    kept = torch.tensor([place for place, index in enumerate(training) if index not in gone], dtype=torch.int64)
    left = _forget(kept, labels[own[kept]], k, of_one_class, generator)
    sets = [ShadowSet(own, left[i : i + size], True) for i in range(0, len(left) - size + 1, size)]
    pool = pretraining_and_pool(len(labels))[1]
    pool = pool[torch.tensor([index not in gone for index in pool.tolist()])]
    needed = -(-count // size)
    while len(sets) < needed:
        drawn = _like(own, pool, labels, generator)
        every = torch.arange(len(drawn))
        sets.append(ShadowSet(drawn, _forget(every, labels[drawn], k, of_one_class, generator)[:size], False))
    return sets[:needed]


def _like(own: Tensor, pool: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """A training set of the pool with as many of each class, in random order."""
    drawn = []
    for label, wanted in sorted(Counter(labels[own].tolist()).items()):
        members = pool[labels[pool] == label]
        if len(members) < wanted:
            raise InvalidRequest(
                f"shadow training sets need {wanted} samples of class {label}, and the pool has {len(members)} that no "
                "tested deletion forgets: train on fewer, forget fewer, or leave p-values out",
                f"inputs.{Role.TRAINING_SET}",
            )
        drawn.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
    together = torch.cat(drawn)
    return together[torch.randperm(len(together), generator=generator)]


def _forget(places: Tensor, labels: Tensor, k: int, of_one_class: bool, generator: torch.Generator) -> Tensor:
    """Disjoint sets of k of these places, whose labels are given, drawn without looking, in random order; [n, k]."""
    order = torch.randperm(len(places), generator=generator)
    groups = [order[labels[order] == c] for c in sorted({*labels.tolist()})] if of_one_class else [order]
    sets = [group[i : i + k] for group in groups for i in range(0, len(group) - k + 1, k)]
    if not sets:
        return torch.empty(0, k, dtype=torch.int64)
    return places[torch.stack(sets)[torch.randperm(len(sets), generator=generator)]]
