"""Forget sets that an audit lists: by position in the training set, or by names of the data set. No
torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from shared.errors import InvalidRequest
from shared.pool import MAX_SAMPLES

Kind = Literal["rows", "ids", "files"]
KINDS: tuple[Kind, ...] = ("rows", "ids", "files")  # how a data set can name its records
PLACES = "indices"  # positions in a training set, which is drawn
MAX_RECORDS = MAX_SAMPLES
MAX_NAME = 500


def list_forget_sets(forget: Mapping[str, Any]) -> tuple[str, list[list[Any]]] | None:
    """The parameter that lists the forget sets, and each set as a list; None if they are drawn."""
    for field in (PLACES, *KINDS):
        if (given := forget.get(field)) is not None:
            return field, [one if isinstance(one, list) else [one] for one in given]
    return None


def list_named_records(forget: Mapping[str, Any]) -> tuple[Kind, list[Any]] | None:
    """All records that deletions name, without duplicates."""
    listed = list_forget_sets(forget)
    if listed is None or listed[0] == PLACES:
        return None
    return cast(Kind, listed[0]), list(dict.fromkeys(name for one in listed[1] for name in one))


def add_deletable(
    dataset: Mapping[str, Any], forget: Mapping[str, Any], known: Sequence[str]
) -> dict[str, Any]:
    """Add the records that deletions name to the data set's parameters.

    Args:
        dataset: its name and params.
        known: the parameters that it accepts.

    Raises:
        InvalidRequest: the data set cannot name records this way.
    """
    named = list_named_records(forget)
    if named is None:
        return dict(dataset)
    kind, names = named
    parameter = f"deletable_{kind}"
    if parameter not in known:
        others = [other for other in KINDS if f"deletable_{other}" in known]
        way_out = (
            f"use {' or '.join(others)}"
            if others
            else "use indices, which are positions in the training set that is drawn"
        )
        raise InvalidRequest(
            f"samples of {dataset['name']} cannot be named by {kind}: {way_out}", kind
        )
    given = dataset["params"].get(parameter) or []
    return {
        **dataset,
        "params": {**dataset["params"], parameter: [*given, *(n for n in names if n not in given)]},
    }


def check_form(forget: Mapping[str, Any]) -> None:
    """Refuse common mistakes of form, and show the right form.

    Raises:
        InvalidRequest: its field is the parameter's name alone.
    """
    if "class" in forget:
        raise InvalidRequest(
            "there is no parameter 'class'. To forget a class in each deletion, write forget: "
            "{forget: class, deletions: 1}, and the seed selects which; to choose the samples "
            "yourself, name them: forget: {rows: [4711]}",
            "class",
        )
    given = [field for field in (PLACES, *KINDS) if forget.get(field) is not None]
    if len(given) > 1:
        raise InvalidRequest(
            f"{given[0]} and {given[1]} both specify what to forget: remove one of them", given[1]
        )
    for field in given:
        _check_list(field, forget[field])


def _check_list(field: str, value: Any) -> None:
    entries = value if isinstance(value, list) else [value]
    if field == PLACES:
        if loose := [one for one in entries if _is_number(one)]:
            one, other = (*loose, 7)[:2]
            raise InvalidRequest(
                f"indices must hold one list per deletion: write [[{one}], [{other}]] to forget "
                f"two samples in two deletions, or [[{one}, {other}]] to forget both in one",
                field,
            )
        return
    names = [name for one in entries for name in (one if isinstance(one, list) else [one])]
    shown = names[0] if names and isinstance(names[0], (int, str)) else 4711
    if field != "rows" and any(not isinstance(name, str) for name in names):
        raise InvalidRequest(f"{field} must be strings: write {field}: ['{shown}']", field)
    if field == "files" and any(_leads_out(name) for name in names):
        raise InvalidRequest(
            "files are named relative to the data set's folder, such as CLASS/PICTURE: no absolute "
            "path, and no '..'",
            field,
        )
    if field == "rows" and any(not _is_number(name) for name in names):
        raise InvalidRequest(
            "rows must be integers from 0: write rows: [4711], or use ids or files", field
        )
    if not isinstance(value, list):
        raise InvalidRequest(f"write {field}: [{shown!r}], with one entry per deletion", field)


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
