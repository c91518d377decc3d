"""In which parameters the specs of several audits differ, defaults filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.catalog import Catalog
from shared.errors import InvalidRequest

PLUGIN_FIELDS = {"dataset": "dataset", "model": "model"}
PLUGIN_LISTS = {"unlearning": "unlearning", "defenses": "defense", "attacks": "attack"}
# fields of an audit that are parameters of a stage
STAGE_FIELDS = {
    "pretrain": "pretrain",
    "train": "train",
    "forget": "unlearn",
    "ingest": "ingest",
    "defend": "defend",
    "probe": "probe",
    "candidates": "candidates",
    "shadow": "shadow",
    "retraining": "retraining",
    "forgetting": "forgetting",
    "evaluate": "evaluate",
}
LEFT_OUT = frozenset({"name", "priority", "time_limit", "declared"})  # they change no result
MAX_TEXT = 160  # characters of a value that is shown
MAX_PATHS = 20_000  # parameters of one audit that are compared


@dataclass(frozen=True)
class SpecDifference:
    """A parameter that is not the same in all audits.

    values: as text, one per audit; None where the audit has no such parameter.
    """

    path: str
    values: tuple[str | None, ...]


def find_differences(
    specs: Sequence[Mapping[str, Any]], catalog: Catalog
) -> tuple[list[SpecDifference], int]:
    """The parameters that differ, in the order of the specs, and how many are the same."""
    flat = [dict(_flatten_spec(spec, catalog)) for spec in specs]
    paths = list(dict.fromkeys(path for one in flat for path in one))
    differing = [
        SpecDifference(path, tuple(one.get(path) for one in flat))
        for path in paths
        if len({one.get(path) for one in flat}) > 1
    ]
    return differing, len(paths) - len(differing)


def _flatten_spec(spec: Mapping[str, Any], catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Path and value of each parameter, at most `MAX_PATHS`."""
    for number, item in enumerate(_iter_parameters(spec, catalog)):
        if number >= MAX_PATHS:
            return
        yield item


def _iter_parameters(spec: Mapping[str, Any], catalog: Catalog) -> Iterator[tuple[str, str]]:
    for field, value in spec.items():
        if field in LEFT_OUT:
            continue
        if field in PLUGIN_FIELDS and value is not None:
            yield from _flatten_choice(field, PLUGIN_FIELDS[field], value, catalog)
        elif field in PLUGIN_LISTS and isinstance(value, list):
            yield from _flatten_choices(field, PLUGIN_LISTS[field], value, catalog)
        elif field in STAGE_FIELDS and isinstance(value, Mapping):
            filled = _get_defaults(STAGE_FIELDS[field], catalog) | dict(value)
            yield from _flatten(field, filled)
        else:
            yield from _flatten(field, value)


def _flatten_choices(
    field: str, kind: str, choices: Sequence[Any], catalog: Catalog
) -> Iterator[tuple[str, str]]:
    """Choices by name, as their order says little; of several with one name, by number."""
    seen: dict[str, int] = {}
    for choice in choices:
        name = str(choice.get("name")) if isinstance(choice, Mapping) else str(choice)
        seen[name] = seen.get(name, 0) + 1
        path = f"{field}.{name}" + (f" ({seen[name]})" if seen[name] > 1 else "")
        yield path, "yes"
        params = _complete(kind, choice, catalog).get("params", {})
        yield from _flatten(path, params)


def _flatten_choice(
    field: str, kind: str, choice: Any, catalog: Catalog
) -> Iterator[tuple[str, str]]:
    completed = _complete(kind, choice, catalog)
    yield field, str(completed.get("name"))
    yield from _flatten(f"{field}.{completed.get('name')}", completed.get("params", {}))


def _complete(kind: str, choice: Any, catalog: Catalog) -> Mapping[str, Any]:
    """A choice with all its parameters; as it is if the catalog does not know it any more."""
    try:
        return catalog.complete_ref(kind, choice, kind)
    except InvalidRequest:
        return choice if isinstance(choice, Mapping) else {"name": str(choice)}


def _get_defaults(stage: str, catalog: Catalog) -> dict[str, Any]:
    if ("stage", stage) not in catalog:
        return {}
    properties = catalog.get("stage", stage, stage).properties
    return {
        name: schema["default"]
        for name, schema in properties.items()
        # choices that the audit itself makes for the stage are no parameters of the audit
        if "default" in schema and "x-plugin" not in schema
    }


def _flatten(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(f"{path}.{name}", inner)
    elif isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        for number, inner in enumerate(value, start=1):
            yield from _flatten(f"{path}.{number}", inner)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        yield path, text


def shorten(text: str) -> str:
    """A value as far as a table shows it."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
