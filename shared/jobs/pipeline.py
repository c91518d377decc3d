"""The stages of an audit in their order, from what each declares of itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from shared.catalog import Catalog
from shared.catalog_entry import CatalogEntry
from shared.errors import InvalidRequest
from shared.jobs.wiring_check import find_fault, find_report_role
from shared.wiring import ModelOrigin, Scope, Wiring


class GridCell(NamedTuple):
    """Where methods stand in the audit's lists; None where a job is of none."""

    unlearning: int | None = None
    defense: int | None = None
    attack: int | None = None


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Entries and wirings by stage; `stages` has those of each scope that run undemanded, makers
    before takers."""

    entries: Mapping[str, CatalogEntry]
    wirings: Mapping[str, Wiring]
    outputs: Mapping[str, frozenset[str]]  # all that a stage may make, with any of its methods
    stages: Mapping[Scope, tuple[str, ...]]
    makers: Mapping[str, str]  # role -> the stage that makes it on demand

    @classmethod
    def from_catalog(cls, catalog: Catalog, models: ModelOrigin) -> Pipeline:
        """The stages of a catalog that are wired, for audits whose models come from there.

        Raises:
            TransientError: no worker has published a catalog yet.
            InvalidRequest: no stage is wired, one cannot be run as it says, or stages wait for each
                other.
        """
        catalog.require_published()
        entries = {
            entry.name: entry
            for entry in catalog
            if entry.kind == "stage"
            and entry.wiring is not None
            and entry.wiring.models in (None, models)
        }
        wirings = {
            name: entry.wiring for name, entry in entries.items() if entry.wiring is not None
        }
        if not wirings:
            raise InvalidRequest(
                "no published stage declares how an audit runs it: start workers of the gateway's "
                "version, then check /v1/catalog"
            )
        for name, entry in entries.items():
            if fault := find_fault(entry):
                raise InvalidRequest(f"the stage {name} {fault}")
        methods = {
            name: [e for e in catalog if e.kind == entry.methods] for name, entry in entries.items()
        }
        outputs = {
            n: frozenset(r for e in (entry, *methods[n]) for r in e.makes)
            for n, entry in entries.items()
        }
        takes = {
            n: frozenset(r for e in (entry, *methods[n]) for r in e.takes)
            for n, entry in entries.items()
        }
        on_demand = [name for name, wiring in wirings.items() if wiring.on_demand]
        makers = {role: name for name in on_demand for role in outputs[name]}
        makers |= {role: name for name, wiring in wirings.items() for role in wiring.twins}
        stages = {
            scope: _sort_stages(
                [
                    n
                    for n, wiring in wirings.items()
                    if scope in wiring.scopes and n not in on_demand
                ],
                outputs,
                takes,
            )
            for scope in Scope
        }
        _require_no_circle(
            {name: (entry, *methods[name]) for name, entry in entries.items()}, wirings, makers
        )
        _require_takers(entries, stages)
        return cls(entries, wirings, outputs, stages, makers)

    def reduce_cell(self, stage: str, cell: GridCell) -> GridCell:
        """The part of a place that a stage's method and parameters depend on."""
        wiring = self.wirings[stage]
        attack = cell.attack if wiring.methods == "attacks" else None
        depends_on_release = wiring.trained_for_methods
        defense = (
            cell.defense
            if depends_on_release or wiring.methods in ("defenses", "attacks")
            else None
        )
        unlearning = (
            cell.unlearning
            if depends_on_release or wiring.release or wiring.methods == "unlearning"
            else None
        )
        return cell._replace(unlearning=unlearning, defense=defense, attack=attack)


def _require_no_circle(
    plugins: Mapping[str, Collection[CatalogEntry]],
    wirings: Mapping[str, Wiring],
    makers: Mapping[str, str],
) -> None:
    """Refuse stages on demand that would have each other made without end."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    for name in sorted(set(makers.values())):
        wanted = {role for entry in plugins[name] for role in entry.may_need} | {
            *wirings[name].optional_needs
        }
        graph.add(name, *sorted({makers[role] for role in wanted if role in makers}))
    try:
        graph.prepare()
    except CycleError as error:
        several = sorted(set(error.args[1]))
        what = "stages {} wait for each other" if len(several) > 1 else "stage {} waits for itself"
        raise InvalidRequest(
            f"the {what.format(' and '.join(several))}: each needs a role that another one makes "
            "on demand; remove a role from the needs of one, or on_demand from its wiring"
        ) from error


def _require_takers(
    entries: Mapping[str, CatalogEntry], stages: Mapping[Scope, Collection[str]]
) -> None:
    """Refuse a stage that is reported to nobody."""
    reports = stages[Scope.REPORT]
    taken = {role for name in reports for role in entries[name].many}
    for name, entry in entries.items():
        if (
            reports
            and entry.wiring
            and entry.wiring.reported
            and (role := find_report_role(entry)) not in taken
        ):
            raise InvalidRequest(
                f"the stage {name} is reported, but no stage of scope report takes {role}: add the "
                f"role to the `many` of such a stage, or remove reported from the wiring of {name}"
            )


def _sort_stages(
    names: Collection[str],
    outputs: Mapping[str, Collection[str]],
    takes: Mapping[str, Collection[str]],
) -> tuple[str, ...]:
    """Each stage after those whose outputs it may take; otherwise by name."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    for name in sorted(names):
        before = [
            other
            for other in sorted(names)
            if other != name and set(outputs[other]) & set(takes[name])
        ]
        graph.add(name, *before)
    try:
        return tuple(graph.static_order())
    except CycleError as error:
        raise InvalidRequest(
            f"the stages {' and '.join(sorted(set(error.args[1])))} wait for each other"
        ) from error
