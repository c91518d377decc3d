"""Splits of a data set: pretraining, the pool (samples that may be forgotten), and the public.

The split never depends on a job's seed: no sample that may be forgotten was ever pretrained on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared.ml.context import make_generator

MAX_POOL = 5000


def split_pretraining_and_pool(n: int) -> tuple[Tensor, Tensor]:
    """Positions of the train split, int64, disjoint, together all `n`.

    The pool, from which training sets are drawn, has min(5000, n // 8) of them. The test split is
    neither: it is public (class means, decoys) and measures accuracy.
    """
    order = torch.randperm(n, generator=make_generator(0, "data set roles"))
    pool = min(MAX_POOL, n // 8)
    return order[pool:].sort().values, order[:pool].sort().values


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
