"""The numbers of two reports of the same audit, compared.

Left out is what differs between two runs of the same code: ids, times, and the digests of
evaluations, which name the version of Python that made them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# all that a report measures or concludes
SECTIONS = (
    "rows", "verdict", "measurements", "sweeps", "missing", "attackers", "privacy_tests",
    "moved_weights", "not_brought",
)  # fmt: skip
OF_EVALUATIONS = frozenset({"evaluation"})  # keys of digests that name the version of Python
# what must be equal for numbers to be equal: processor, threads, torch
CONDITIONS = ("cpu_capability", "device", "machine", "threads", "torch")


class ReportNumbers(NamedTuple):
    """The leaves of a report's sections by path, and the digests of the models behind it by role."""

    values: Mapping[str, Any]
    models: Mapping[str, Any]
    conditions: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> ReportNumbers:
        """Read them from a report.json."""
        values = {
            path: value
            for section in SECTIONS
            for path, value in _list_leaves(section, report[section])
        }
        provenance = report["provenance"]
        conditions = tuple({k: one[k] for k in CONDITIONS} for one in provenance["conditions"])
        return cls(values, provenance["inputs"], conditions)

    @property
    def count(self) -> int:
        """How many of the leaves are numbers."""
        return sum(type(value) in (int, float) for value in self.values.values())

    @property
    def digest(self) -> str:
        """sha256 of all values and models: equal numbers, equal digests."""
        text = json.dumps([self.values, self.models], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def find_differences(one: ReportNumbers, other: ReportNumbers) -> list[str]:
    """A line for each path at which the two differ, bit for bit; none if they are equal."""
    lines = []
    pairs = ((one.values, other.values), (one.models, other.models))
    for here, there in pairs:
        for path in sorted(here.keys() | there.keys()):
            left, right = here.get(path, "absent"), there.get(path, "absent")
            if json.dumps(left) != json.dumps(right):
                lines.append(f"{path}: {left} and {right}")
    return lines


def _list_leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key in value.keys() - OF_EVALUATIONS:
            yield from _list_leaves(f"{path}.{key}", value[key])
    elif isinstance(value, list):
        for n, each in enumerate(value):
            yield from _list_leaves(f"{path}[{n}]", each)
    else:
        yield path, value
