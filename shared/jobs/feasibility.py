"""Checks combinations of training set, forget sets and methods at planning time, before a worker
would refuse them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from shared.catalog_entry import CatalogEntry
from shared.errors import InvalidRequest
from shared.forget_sets import PLACES, list_forget_sets
from shared.jobs.planner import JobTemplate
from shared.plugins import DatasetTraits, UnlearningTraits
from shared.probes import describe_query_cost
from shared.shadows import find_unrepeatable_role


def check_forget_sets(
    train: Mapping[str, Any], unlearn: Mapping[str, Any], path: str = "forget"
) -> None:
    """Forget sets are disjoint parts of the training set, all of one size. Given are all parameters
    of both stages.

    Args:
        path: where the parameters of unlearn are.

    Raises:
        InvalidRequest: they are not.
    """
    n, deletions, k = train["size"], unlearn["deletions"], unlearn["size"]
    if (indices := list_forget_sets(unlearn)) is not None:
        _check_listed_sets(*indices, n, path)
        return
    if unlearn.get("forget") == "class":
        return  # how many a class has is known when the training set is drawn
    size = "train.size" if path == "forget" else "the size of the training set"
    if k > n:
        raise InvalidRequest(
            f"a forget set of {k} samples does not fit into a training set of {n}: raise {size} or "
            f"lower {path}.size",
            f"{path}.size",
        )
    if deletions * k > n:
        raise InvalidRequest(
            f"{deletions} disjoint forget sets of {k} need a training set of at least "
            f"{deletions * k}, not {n}: "
            f"raise {size} or lower {path}.deletions",
            f"{path}.deletions",
        )


def _check_listed_sets(field: str, sets: list[list[Any]], n: int, path: str) -> None:
    names = [name for one in sets for name in one]
    if field == PLACES:
        if beyond := [place for place in names if place >= n]:
            raise InvalidRequest(
                f"there is no sample {beyond[0]} in a training set of {n}: samples are numbered "
                f"from 0 to {n - 1}",
                f"{path}.{field}",
            )
        return
    if len({len(one) for one in sets}) > 1:
        raise InvalidRequest(
            "all deletions must forget the same number of samples", f"{path}.{field}"
        )
    if len({*names}) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise InvalidRequest(f"{twice!r} is listed twice: remove one of the two", f"{path}.{field}")
    if len(names) > n:
        raise InvalidRequest(
            f"{len(names)} samples are named, but the training set has only {n}: raise its size",
            f"{path}.{field}",
        )


def check_retain(train: Mapping[str, Any], unlearn: JobTemplate, field: str) -> None:
    """A method that needs samples to keep is left some by each deletion.

    Raises:
        InvalidRequest: there are none.
    """
    assert unlearn.method is not None
    n, forget = train["size"], unlearn.params
    indices = list_forget_sets(forget)
    k = len(indices[1][0]) if indices else forget["size"]
    if (
        (indices or forget.get("forget") != "class")
        and k == n
        and unlearn.method.get_traits(UnlearningTraits).retain == "needed"
    ):
        raise InvalidRequest(
            f"{unlearn.method.name} needs retained samples, but forget sets of {n} leave none of a "
            f"training set of {n}: lower their size",
            field,
        )


def check_repeatable(template: JobTemplate, field: str) -> None:
    """The deletions that p-values rest on can be made again.

    Raises:
        InvalidRequest: the method needs what shadow deletions are not made with, or starts from
            many models.
    """
    assert template.method is not None
    lacking = find_unrepeatable_role(template.method.list_needs(template.params))
    why = f"needs {lacking}" if lacking else None
    if template.params.get("successive"):
        why = "starts from many models when deletions are successive"
    if why:
        raise InvalidRequest(
            f"no p-values for {template.method.name}: it {why}, but shadow deletions start from "
            "one model and repeat its recipe; leave out p_values, or this method",
            field,
        )


def check_probes(probe: Mapping[str, Any], dataset: CatalogEntry | None) -> None:
    """A search may ask as much as it is allowed to, as far as the shape of the data set is known.

    Raises:
        InvalidRequest: it may ask more.
    """
    if "preset" in probe and dataset is not None:
        describe_query_cost(probe, dataset.get_traits(DatasetTraits))


def forgets_multiple(unlearn: Mapping[str, Any]) -> bool:
    """Whether a deletion forgets several samples, or a share of a class, which may be several."""
    indices = list_forget_sets(unlearn)
    return (
        len(indices[1][0]) > 1
        if indices
        else unlearn["size"] != 1 or unlearn.get("forget") == "class"
    )
