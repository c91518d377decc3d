"""What no wiring of a stage may be: found when a worker loads the stage, and again before an audit
is planned with it.

A stage that audits would run in a wrong way is refused with what to do, and not by whatever its
first audit runs into. No stage imports this: results do not depend on what is checked here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import get_origin

from shared.catalog_entry import CatalogEntry
from shared.jobs.spec import AuditSpec
from shared.plugin_ref import PluginRef
from shared.roles import Role
from shared.wiring import Scope, Wiring

# of methods: the audit's list of them
KINDS = {"unlearning": "unlearning", "defense": "defenses", "attack": "attacks"}
# scopes in which unlearning method and defense are known
OF_RELEASES = frozenset({Scope.RELEASE, Scope.ATTACK})
_SCOPES = {"unlearning": OF_RELEASES, "defenses": OF_RELEASES, "attacks": frozenset({Scope.ATTACK})}
POOL = "pool"  # the only shared field that is neither a choice of a plugin nor parameters
_TOLD = frozenset({"audit", "rows"})  # what a stage of scope report is told


def find_fault(entry: CatalogEntry) -> str | None:
    """What is wrong with the wiring of a stage: the first thing, as it is said of the stage; None
    if nothing is."""
    if entry.wiring is None:
        return None
    return next(_faults(entry, entry.wiring), None)


def _faults(entry: CatalogEntry, wiring: Wiring) -> Iterator[str]:
    yield from _faults_in_fields(wiring)
    yield from _faults_in_scopes(entry, wiring)
    yield from _faults_on_demand(wiring)
    yield from _faults_in_twins(entry, wiring)
    yield from _faults_in_reports(entry, wiring)


def _faults_in_fields(wiring: Wiring) -> Iterator[str]:
    shareable = [*_fields_of(PluginRef), *_fields_of(dict), POOL]
    read: list[tuple[str, str | None, Collection[str]]] = [
        ("params", wiring.params, _fields_of(dict)),
        ("methods", wiring.methods, _SCOPES.keys()),
        ("flag", wiring.flag, _fields_of(bool)),
        ("seed", wiring.seed, _fields_of(int)),
        *(("shared_params", name, shareable) for name in wiring.shared_params),
    ]
    for what, name, fitting in read:
        if name is None:
            continue
        if name not in AuditSpec.model_fields:
            yield f"reads the field {name!r} of an audit, which does not exist"
        elif name not in fitting:
            yield (
                f"reads the field {name!r} of an audit as its {what}, but must use one of "
                f"{', '.join(fitting)}"
            )


def _fields_of(kind: type) -> Collection[str]:
    annotations = {name: field.annotation for name, field in AuditSpec.model_fields.items()}
    return [
        name
        for name, annotation in annotations.items()
        if kind in (annotation, get_origin(annotation)) or annotation == kind | None
    ]


def _faults_in_scopes(entry: CatalogEntry, wiring: Wiring) -> Iterator[str]:
    if wiring.methods != (wanted := KINDS.get(entry.methods or "")):
        yield (
            f"has {f'methods of the kind {entry.methods}' if entry.methods else 'no methods'}: "
            + (
                f"give its wiring methods={wanted!r}"
                if wanted
                else "remove methods from its wiring"
            )
        )
    if wiring.methods and wiring.trained_for_methods:
        yield (
            "has methods and is trained for those of other stages: remove methods or "
            "trained_for_methods from its wiring"
        )
    known = (
        OF_RELEASES
        if wiring.trained_for_methods
        else _SCOPES.get(wiring.methods or "", frozenset(Scope))
    )
    if not known.issuperset(wiring.scopes):
        yield (
            f"runs once per {' and '.join(wiring.scopes)}, but its method, or what it is trained "
            "for, is not known there: choose the scopes of its wiring among "
            f"{', '.join(sorted(known))}"
        )
    if Scope.REPORT in wiring.scopes and not (
        len(wiring.scopes) == 1 and entry.properties.keys() >= _TOLD
    ):
        yield (
            "runs with the report, so it must have the parameters audit and rows, and no other "
            "scope in its wiring"
        )


def _faults_on_demand(wiring: Wiring) -> Iterator[str]:
    if not wiring.on_demand:
        return
    if len(wiring.scopes) > 1:
        yield (
            "runs on demand, which works in one scope only: choose the widest scope that has what "
            "the stage needs"
        )
    if wiring.flag:
        yield "runs both on demand and by a flag: remove one of them from its wiring"
    if wiring.reported:
        yield (
            "runs on demand and is reported, but reported stages always run: remove one of them "
            "from its wiring"
        )


def _faults_in_twins(entry: CatalogEntry, wiring: Wiring) -> Iterator[str]:
    if not wiring.twins:
        return
    if wiring.scopes != (Scope.AUDIT,) or wiring.seed is None:
        yield (
            "has twins, which use the seed after that of the audit: set scopes=(Scope.AUDIT,) and "
            "a seed in its wiring, otherwise the twin is the same model"
        )
    for role, output in wiring.twins.items():
        if output not in entry.produces:
            yield (
                f"has a twin {role} of {output}, which it does not always produce: use a role in "
                "its produces"
            )


def _faults_in_reports(entry: CatalogEntry, wiring: Wiring) -> Iterator[str]:
    if not wiring.reported:
        return
    if Scope.REPORT in wiring.scopes:
        yield "is reported but runs with the report: remove reported from its wiring"
    if find_report_role(entry) is None:
        yield (
            "is reported, but does not always produce a role that reports take: let it produce "
            "METRICS (or, once per release or attack, EVALUATION or FORGETTING), or remove "
            "reported from its wiring"
        )


def find_report_role(entry: CatalogEntry) -> Role | None:
    """The role of a reported stage that the report takes: an evaluation becomes a row, a release's
    forgetting a part of its rows; metrics are shown as they are."""
    if entry.wiring and OF_RELEASES.issuperset(entry.wiring.scopes):
        for role in (Role.EVALUATION, Role.FORGETTING):
            if role in entry.produces:
                return role
    return Role.METRICS if Role.METRICS in entry.produces else None
