"""The pool, as far as planning needs it: its bounds, and what fits into it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from shared.errors import InvalidRequest

MAX_SAMPLES = 1_000_000  # of a training set or pool
DESCRIPTION = (
    "samples of the train split that training sets are drawn from, of each class the same share; "
    "null: a random eighth, at most 5,000. All of them only if nothing is pretrained "
    "(pretrain.epochs: 0)"
)
PoolSize = Annotated[int, Field(ge=1, le=MAX_SAMPLES)]


def check_training_size(train: Mapping[str, Any]) -> None:
    """A training set fits into the pool, where that is given.

    Raises:
        InvalidRequest: it does not.
    """
    size, pool = train["size"], train.get("pool")
    if pool is not None and size > pool:
        raise InvalidRequest(
            f"a training set of {size} does not fit into a pool of {pool}: raise pool or lower "
            "train.size",
            "train.size",
        )


def check_feature_network(pretrain: Mapping[str, Any]) -> None:
    """The feature network is trained like the base model, so the base model must be.

    Raises:
        InvalidRequest: nothing is pretrained.
    """
    if pretrain.get("epochs") == 0:
        raise InvalidRequest(
            "feature_network is a base model of another seed, but with pretrain.epochs 0 base "
            "models have learned nothing: pretrain, or leave feature_network out",
            "evaluate.feature_network",
        )
