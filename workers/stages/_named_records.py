"""Records that deletions name: their positions in the training set, and their removal from
PUBLIC."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.forget_sets import KINDS, Kind
from shared.ml.records import PublicSets, TrainingSet
from shared.ml.samples import (
    Dataset,
    HasRecords,
    Samples,
    compute_digest,
    find_deletable,
    open_dataset,
)
from shared.plugin_ref import PluginRef


def find_in_training(
    dataset: Dataset, training: TrainingSet, kind: Kind, names: Sequence[int | str], field: str
) -> list[int]:
    """Positions in the training set of the records with these names.

    Raises:
        InvalidRequest: the data set has no such records, or one is not in the training set.
    """
    if not isinstance(dataset, HasRecords):
        raise InvalidRequest(
            f"samples of {training.dataset.name} cannot be named by {kind}: use indices", field
        )
    places = {index: place for place, index in enumerate(training.indices)}
    positions = []
    for name, index in zip(names, dataset.find(kind, names, field), strict=True):
        if index not in places:
            raise InvalidRequest(
                f"{name!r} is not in this training set: list it in the data set's parameter "
                f"deletable_{kind} when training the base and the original model (an audit does "
                "this automatically)",
                field,
            )
        positions.append(places[index])
    return positions


def public_record(
    choice: PluginRef, dataset: Dataset, split: Samples, sets: Sequence[Sequence[int]]
) -> PublicSets:
    """PUBLIC without a trace of the records that deletions name: it refers to the data set without
    those parameters.

    Args:
        sets: positions in `split`, the train split, none of a record that deletions may name.
    """
    if not find_deletable(dataset):
        return PublicSets(
            dataset=choice, digest=compute_digest(split), sets=[[*one] for one in sets]
        )
    deletable = {f"deletable_{kind}" for kind in KINDS}
    plain = PluginRef(
        name=choice.name,
        params={n: value for n, value in choice.params.items() if n not in deletable},
    )
    other = open_dataset(plain)
    assert isinstance(dataset, HasRecords)
    assert isinstance(other, HasRecords)
    there = _inverse(other.origins)
    moved = [there[dataset.origins[torch.tensor(one, dtype=torch.int64)]].tolist() for one in sets]
    return PublicSets(dataset=plain, digest=compute_digest(other.load("train")), sets=moved)


def _inverse(origins: Tensor) -> Tensor:
    """The position of each record in the train split; -1 if it has none."""
    places = torch.full((int(origins.max()) + 1,), -1)
    places[origins] = torch.arange(len(origins))
    return places
