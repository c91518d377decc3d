"""Which jobs, and which audits: the filters of lists, and of what is done to many jobs at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select

from shared.jobs.labels import AUDIT_LABELS
from shared.jobs.mapping import is_deleting
from shared.jobs.records import Audit
from shared.jobs.states import State
from shared.jobs.tables import audit_jobs, audit_labels, audits, jobs

Label = tuple[str, str | None]  # key, and value unless any will do


@dataclass(frozen=True)
class JobFilter:
    """Jobs for which all of this holds; None: whatever it is.

    audit: of this audit.
    label: of an audit with this label.
    created_after, created_before, finished_after: seconds since 1970; the first and the last
        include the time itself.
    """

    stage: str | None = None
    method: str | None = None
    state: State | None = None
    audit: str | None = None
    label: Label | None = None
    created_after: float | None = None
    created_before: float | None = None
    finished_after: float | None = None

    def build_conditions(self, tenant: str, table: Any = jobs) -> list[ColumnElement[bool]]:
        """What holds of the tenant's rows of `table`, which is `jobs` or an alias of it."""
        its = table.c
        equal = {"stage": self.stage, "method": self.method, "state": self.state}
        conditions = [its.tenant == tenant]
        if self.audit is not None or self.label is not None:
            # Not by an index of all jobs of the tenant: by the list of the audit's, which is short.
            conditions = [its.tenant.concat("") == tenant]
        conditions += [its[name] == value for name, value in equal.items() if value is not None]
        if self.audit is not None:
            is_this = audit_jobs.c.audit == self.audit
            members = select(audit_jobs.c.job).where(is_this, ~is_deleting(audit_jobs.c.audit))
            conditions.append(its.id.in_(members))
        if self.label is not None:
            conditions.append(its.id.in_(_select_labelled_jobs(tenant, *self.label)))
        if self.created_after is not None:
            conditions.append(its.created_at >= self.created_after)
        if self.created_before is not None:
            conditions.append(its.created_at < self.created_before)
        if self.finished_after is not None:
            conditions.append(its.finished_at >= self.finished_after)
        return conditions


def _select_labelled_jobs(tenant: str, key: str, value: str | None) -> Any:
    joined = audit_labels.join(audits, audits.c.id == audit_labels.c.audit).join(
        audit_jobs, audit_jobs.c.audit == audits.c.id
    )
    query = select(audit_jobs.c.job).select_from(joined)
    query = query.where(audit_labels.c.key == key, audits.c.tenant == tenant, ~audits.c.deleting)
    return query if value is None else query.where(audit_labels.c.value == value)


@dataclass(frozen=True)
class AuditFilter:
    """Audits for which all of this holds; None: whatever it is.

    name: a part of the name, in upper or lower case.
    state: as `Audit.state`.
    """

    name: str | None = None
    state: str | None = None
    label: Label | None = None
    created_after: float | None = None
    created_before: float | None = None
    finished_after: float | None = None

    def build_conditions(self, tenant: str) -> list[ColumnElement[bool]]:
        """What holds of the tenant's rows of `audits`, as far as their columns tell."""
        conditions: list[ColumnElement[bool]] = [audits.c.tenant == tenant, ~audits.c.deleting]
        if self.name is not None:
            conditions.append(audits.c.name.icontains(self.name, autoescape=True))
        if self.label is not None:
            conditions += AUDIT_LABELS.build_filter(audits.c.id, [self.label])
        if self.created_after is not None:
            conditions.append(audits.c.created_at >= self.created_after)
        if self.created_before is not None:
            conditions.append(audits.c.created_at < self.created_before)
        if self.state == "cancelled":
            conditions.append(audits.c.cancelled_at.is_not(None))
        return conditions

    @property
    def needs_jobs(self) -> bool:
        """Whether the jobs of an audit decide."""
        return self.finished_after is not None or self.state not in (None, "cancelled")

    def is_met(self, audit: Audit) -> bool:
        """Whether the rest holds, which the jobs of the audit decide."""
        if self.state is not None and audit.state != self.state:
            return False
        return self.finished_after is None or (
            audit.finished_at is not None and audit.finished_at >= self.finished_after
        )


ALL_JOBS, ALL_AUDITS = JobFilter(), AuditFilter()
