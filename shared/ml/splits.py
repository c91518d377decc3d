"""Splits of a data set: pretraining, the pool (samples that may be forgotten), and the public.

The split never depends on a job's seed: no sample that may be forgotten was ever pretrained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.context import make_generator

MAX_DEFAULT_POOL = 5000


def split_pretraining_and_pool(
    labels: Tensor, pool: int | None = None, named: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Positions of the train split, int64, disjoint, together all.

    Training sets are drawn from the pool. The test split is neither: it is public (class means,
    decoys) and measures accuracy.

    Args:
        labels: int64 [n], of the train split.
        pool: its size, of each class the same share up to rounding; None: `draw_default_pool`.
        named: positions that deletions name: the pool always holds them.

    Raises:
        InvalidRequest: the train split has fewer samples than the pool, or the pool cannot hold the
            named ones.
    """
    n, kept = len(labels), torch.tensor(sorted(named), dtype=torch.int64)
    if pool is None:
        members = draw_default_pool(n)
        if not bool(torch.isin(kept, members).all()):
            raise InvalidRequest(
                f"deletions name {len(kept)} samples, but the pool has only {len(members)} of {n} "
                "(an eighth): set pool, or name fewer",
                "params.pool",
            )
    else:
        members = _draw_pool(labels, pool, kept)
    rest = torch.ones(n, dtype=torch.bool)
    rest[members] = False
    return rest.nonzero().flatten(), members


def draw_default_pool(n: int) -> Tensor:
    """The pool of a train split of `n` samples if its size is not given: positions, int64 and in
    order, of min(5000, n // 8) random samples."""
    return _draw_order(n)[: min(MAX_DEFAULT_POOL, n // 8)].sort().values


def _draw_pool(labels: Tensor, pool: int, kept: Tensor) -> Tensor:
    """Positions, in order: those that are kept, and of the others of each class the same share."""
    n = len(labels)
    if pool > n:
        raise InvalidRequest(
            f"the train split has {n} samples, fewer than a pool of {pool}: lower pool",
            "params.pool",
        )
    if len(kept) > pool:
        raise InvalidRequest(
            f"deletions name {len(kept)} samples, but the pool has only {pool}: raise pool, or "
            "name fewer",
            "params.pool",
        )
    order = _draw_order(n)
    order = order[~torch.isin(order, kept)]
    classes = sorted({*labels[order].tolist()})
    members = [order[labels[order] == label] for label in classes]
    counts = _apportion(pool - len(kept), [len(positions) for positions in members])
    drawn = [positions[:count] for positions, count in zip(members, counts, strict=True)]
    return torch.cat([kept, *drawn]).sort().values


def _apportion(total: int, sizes: list[int]) -> list[int]:
    """Of parts of these sizes `total` in all, of each the same share: by largest remainders."""
    whole = max(1, sum(sizes))
    counts = [total * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(total * sizes[i] % whole), i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _draw_order(n: int) -> Tensor:
    return torch.randperm(n, generator=make_generator(0, "data set roles"))


def split_train_and_test(labels: Tensor, purpose: str) -> dict[str, Tensor]:
    """Positions, int64 and in order, of the splits `train` and `test` of data that have no splits.

    A fifth of each class, at least one where it has two, is the test split. Drawn with a fixed
    seed; `purpose` names the draw.
    """
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=make_generator(0, f"{purpose} {label}"))
        test[members[order[: max(len(members) // 5, min(1, len(members) - 1))]]] = True
    return {"train": (~test).nonzero().flatten(), "test": test.nonzero().flatten()}
