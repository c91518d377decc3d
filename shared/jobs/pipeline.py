"""The stages of an audit in their order, from what each declares of itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from shared.catalog import Catalog
from shared.catalog_entry import Entry
from shared.errors import InvalidRequest
from shared.wiring import Scope, Wiring


class Place(NamedTuple):
    """Where methods stand in the audit's lists; None where a job is of none."""

    unlearning: int | None = None
    defense: int | None = None
    attack: int | None = None


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Entries and wirings by stage; `stages` has those of each scope that run undemanded, makers before takers."""

    entries: Mapping[str, Entry]
    wirings: Mapping[str, Wiring]
    outputs: Mapping[str, frozenset[str]]  # all that a stage may make, with any of its methods
    stages: Mapping[Scope, tuple[str, ...]]
    makers: Mapping[str, str]  # role -> the stage that makes it on demand

    @classmethod
    def of(cls, catalog: Catalog, fields: Collection[str]) -> Pipeline:
        """The stages of a catalog that are wired.

        Args:
            fields: what an audit has.

        Raises:
            InvalidRequest: no stage is wired, one wants a field that audits do not have, or stages wait for each other.
        """
        entries = {entry.name: entry for entry in catalog if entry.kind == "stage" and entry.wiring is not None}
        wirings = {name: entry.wiring for name, entry in entries.items() if entry.wiring is not None}
        if not wirings:
            raise InvalidRequest(_nothing_runs(catalog))
        for name, wiring in wirings.items():
            for field in (wiring.params, wiring.methods, wiring.flag, wiring.seed, *wiring.shared_params):
                if field is not None and field not in fields:
                    raise InvalidRequest(f"the stage {name} reads {field!r} of an audit, which has no such field")
        methods = {name: [e for e in catalog if e.kind == entry.methods] for name, entry in entries.items()}
        outputs = {n: frozenset(r for e in (entry, *methods[n]) for r in e.makes) for n, entry in entries.items()}
        takes = {n: frozenset(r for e in (entry, *methods[n]) for r in e.takes) for n, entry in entries.items()}
        on_demand = [name for name, wiring in wirings.items() if wiring.on_demand]
        makers = {role: name for name in on_demand for role in outputs[name]}
        makers |= {role: name for name, wiring in wirings.items() for role in wiring.twins}
        stages = {
            scope: _ordered(
                [n for n, wiring in wirings.items() if scope in wiring.scopes and n not in on_demand], outputs, takes
            )
            for scope in Scope
        }
        return cls(entries, wirings, outputs, stages, makers)

    def relevant(self, stage: str, place: Place) -> Place:
        """The part of a place that a stage's method and parameters depend on."""
        wiring = self.wirings[stage]
        attack = place.attack if wiring.methods == "attacks" else None
        by_release = wiring.trained_for_methods
        defense = place.defense if by_release or wiring.methods in ("defenses", "attacks") else None
        unlearning = place.unlearning if by_release or wiring.methods == "unlearning" else None
        return place._replace(unlearning=unlearning, defense=defense, attack=attack)


def _nothing_runs(catalog: Catalog) -> str:
    if not catalog.names("stage"):
        return "no worker has published any stage yet: start a worker, then look at /v1/catalog"
    return (
        "none of the published stages says how an audit runs it: start workers of the gateway's version, then look at "
        "/v1/catalog"
    )


def _ordered(
    names: Collection[str], outputs: Mapping[str, Collection[str]], takes: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """Each stage after those whose outputs it may take; otherwise by name."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    for name in sorted(names):
        before = [other for other in sorted(names) if other != name and set(outputs[other]) & set(takes[name])]
        graph.add(name, *before)
    try:
        return tuple(graph.static_order())
    except CycleError as error:
        raise InvalidRequest(f"the stages {' and '.join(sorted(set(error.args[1])))} wait for each other") from error
