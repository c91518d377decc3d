"""Draws the forget sets of shadow deletions, from samples that no tested deletion forgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.samples import Samples
from shared.roles import Role
from shared.shadows import MIN_RETAINED_SHADOWS
from workers.stages._retained_copies import hash_image


class ShadowSet(NamedTuple):
    """A training set and the forget sets in it, disjoint."""

    training: Tensor  # int64 [N], positions in the train split
    forget: Tensor  # int64 [n, k], positions in `training`
    is_tested_set: bool  # whether it is the training set of the tested deletions


class DeletionsUnderTest(NamedTuple):
    """The deletions that shadow deletions repeat."""

    training: Sequence[int]  # [N], positions in the train split
    forget: Sequence[Sequence[int]]  # [D][k], positions in the train split
    split: Samples  # the whole train split
    is_of_one_class: bool  # whether the k samples of a deletion share one class

    @property
    def forgotten(self) -> set[int]:
        """Positions in the train split of all samples that some deletion forgets."""
        return {place for row in self.forget for place in row}


def draw_shadow_sets(
    count: int, tested: DeletionsUnderTest, pool: Tensor | None, generator: torch.Generator
) -> list[ShadowSet]:
    """Draw training sets with as many forget sets of k samples each as are tested, together at
    least `count`.

    The tested training set is used first, as often as its untested samples suffice. The others have
    the same number of samples per class, from the pool without the samples of tested deletions;
    they may overlap. The effect of a deletion depends on the rest of the training set, so one
    training set is not enough; and an attacker who compares deletions must have the same number to
    compare.

    Args:
        pool: positions in the train split that training sets are drawn from; None: there is only
            the tested one, so there may be fewer than `count`, and copies of tested samples are not
            drawn.

    Raises:
        InvalidRequest: the pool or the tested training set has too few samples.
    """
    tested_set, labels = torch.tensor(tested.training), tested.split.labels
    size = min(len(tested.forget), count)
    kept = [n for n, index in enumerate(tested.training) if index not in tested.forgotten]
    if pool is None:
        kept = _leave_out_copies(kept, tested)
    retained = torch.tensor(kept, dtype=torch.int64)
    untested = _draw_forget_sets(retained, labels[tested_set[retained]], tested, generator)
    sets = [
        ShadowSet(tested_set, untested[i : i + size], True)
        for i in range(0, len(untested) - size + 1, size)
    ]
    needed = -(-count // size)
    if pool is None:
        _require_retained(len(sets) * size, len(kept), tested, size)
        return sets[:needed]
    pool = pool[torch.tensor([index not in tested.forgotten for index in pool.tolist()])]
    while len(sets) < needed:
        drawn = _draw_training_set(tested_set, pool, labels, generator)
        positions = torch.arange(len(drawn))
        sets.append(
            ShadowSet(
                drawn,
                _draw_forget_sets(positions, labels[drawn], tested, generator)[:size],
                False,
            )
        )
    return sets[:needed]


def _leave_out_copies(kept: list[int], tested: DeletionsUnderTest) -> list[int]:
    """Positions in the training set of samples that equal no tested one: deleting a copy of what
    was forgotten would not be another deletion."""
    images = tested.split.images
    forgotten = {hash_image(images[place]) for place in tested.forgotten}
    return [n for n in kept if hash_image(images[tested.training[n]]) not in forgotten]


def _require_retained(drawn: int, retained: int, tested: DeletionsUnderTest, size: int) -> None:
    """
    Args:
        drawn: shadow deletions that the retained samples suffice for, in sets of `size`.

    Raises:
        InvalidRequest: too few.
    """
    if drawn >= MIN_RETAINED_SHADOWS:
        return
    k = len(tested.forget[0])
    needed = -(-MIN_RETAINED_SHADOWS // size) * size * k
    of_one_class = " of as many samples of one class each" if tested.is_of_one_class else ""
    raise InvalidRequest(
        f"{retained} retained samples are too few for p-values: {MIN_RETAINED_SHADOWS} shadow "
        f"deletions{of_one_class} are the fewest, in sets of {size} deletions of {k}, as they were "
        f"tested. That takes at least {needed} retained samples, not counting copies of deleted "
        "ones: bring more, or turn p-values off",
        f"inputs.{Role.TRAINING_SET}",
    )


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
    positions: Tensor, labels: Tensor, tested: DeletionsUnderTest, generator: torch.Generator
) -> Tensor:
    """Disjoint random sets of k of these positions, [n, k]; `labels` are those of the positions."""
    k = len(tested.forget[0])
    order = torch.randperm(len(positions), generator=generator)
    groups = (
        [order[labels[order] == c] for c in sorted({*labels.tolist()})]
        if tested.is_of_one_class
        else [order]
    )
    sets = [group[i : i + k] for group in groups for i in range(0, len(group) - k + 1, k)]
    if not sets:
        return torch.empty(0, k, dtype=torch.int64)
    return positions[torch.stack(sets)[torch.randperm(len(sets), generator=generator)]]
