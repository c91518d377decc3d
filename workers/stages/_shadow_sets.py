"""Draws the forget sets of shadow deletions, from samples that no tested deletion forgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.roles import Role


class ShadowSet(NamedTuple):
    """A training set and the forget sets in it, disjoint."""

    training: Tensor  # int64 [N], positions in the train split
    forget: Tensor  # int64 [n, k], positions in `training`
    is_tested_set: bool  # whether it is the training set of the tested deletions


def draw_shadow_sets(
    count: int,
    training: Sequence[int],
    tested: Sequence[Sequence[int]],
    labels: Tensor,
    pool: Tensor,
    of_one_class: bool,
    generator: torch.Generator,
) -> list[ShadowSet]:
    """Draw training sets with as many forget sets of k samples each as are tested, together at
    least `count`.

    The tested training set is used first, as often as its untested samples suffice. The others have
    the same number of samples per class, from the pool without the samples of tested deletions;
    they may overlap. The effect of a deletion depends on the rest of the training set, so one
    training set is not enough; and an attacker who compares deletions must have the same number to
    compare.

    Args:
        training, tested: positions in the train split; tested [D][k].
        labels: of the whole train split.
        pool: positions in the train split that training sets are drawn from.
        of_one_class: whether the k samples of a deletion share one class.

    Raises:
        InvalidRequest: the pool has too few samples.
    """
    tested_set, forgotten = torch.tensor(training), {place for row in tested for place in row}
    k, size = len(tested[0]), min(len(tested), count)
    retained = torch.tensor(
        [place for place, index in enumerate(training) if index not in forgotten], dtype=torch.int64
    )
    untested = _draw_forget_sets(retained, labels[tested_set[retained]], k, of_one_class, generator)
    sets = [
        ShadowSet(tested_set, untested[i : i + size], True)
        for i in range(0, len(untested) - size + 1, size)
    ]
    pool = pool[torch.tensor([index not in forgotten for index in pool.tolist()])]
    needed = -(-count // size)
    while len(sets) < needed:
        drawn = _draw_training_set(tested_set, pool, labels, generator)
        positions = torch.arange(len(drawn))
        sets.append(
            ShadowSet(
                drawn,
                _draw_forget_sets(positions, labels[drawn], k, of_one_class, generator)[:size],
                False,
            )
        )
    return sets[:needed]


def _draw_training_set(
    tested_set: Tensor, pool: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """A training set from the pool with the same number of samples per class, in random order."""
    drawn = []
    for label, wanted in sorted(Counter(labels[tested_set].tolist()).items()):
        members = pool[labels[pool] == label]
        if len(members) < wanted:
            raise InvalidRequest(
                f"shadow training sets need {wanted} samples of class {label}, but the pool has "
                f"only {len(members)} that no tested deletion forgets; lower train.size, raise "
                "pool, delete fewer samples, or turn p-values off",
                f"inputs.{Role.TRAINING_SET}",
            )
        drawn.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
    together = torch.cat(drawn)
    return together[torch.randperm(len(together), generator=generator)]


def _draw_forget_sets(
    positions: Tensor, labels: Tensor, k: int, of_one_class: bool, generator: torch.Generator
) -> Tensor:
    """Disjoint random sets of k of these positions, [n, k]; `labels` are those of the positions."""
    order = torch.randperm(len(positions), generator=generator)
    groups = (
        [order[labels[order] == c] for c in sorted({*labels.tolist()})] if of_one_class else [order]
    )
    sets = [group[i : i + k] for group in groups for i in range(0, len(group) - k + 1, k)]
    if not sets:
        return torch.empty(0, k, dtype=torch.int64)
    return positions[torch.stack(sets)[torch.randperm(len(sets), generator=generator)]]
