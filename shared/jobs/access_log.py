"""The log of who has changed what, or tried to.

An entry is written before the change and completed after it, so that no change is without one: where
the status is None, the process ended in between. Subjects that were deleted with everything derived
from them are removed from the log (`hide_subjects`), as they are from everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, and_, exists, func, insert, select, update

from shared.jobs.database import Database
from shared.jobs.job_insert import generate_id
from shared.jobs.mapping import slices
from shared.jobs.paging import Page, apply_page, split_page
from shared.jobs.tables import access_log, audits, jobs, keys

TOKEN_ACTOR, COMMAND_LINE_ACTOR = "token", "command line"
ID_CHARS = 24  # of a job or an audit
_SUBJECT = re.compile(r"[A-Za-z0-9_.:@/-]{0,128}")


@dataclass(frozen=True)
class Entry:
    """One act.

    at: seconds since 1970 by the database's clock.
    tenant: whose key it was; on the command line, whom it concerns, if anyone.
    actor: the key's id, `token` or `command line`.
    action: method and route, or the command.
    subject: what it was done to, "" if that is nothing, or was deleted.
    status: of HTTP, or the exit status of the command; None: not known, the process ended.
    """

    id: str
    at: float
    tenant: str | None
    actor: str
    action: str
    subject: str
    status: int | None


def begin_entry(db: Database, tenant: str | None, actor: str, action: str, subject: str) -> str:
    """Note an act before it happens; the entry's id. Subjects that are no ids are left out."""
    entry_id = generate_id("log")
    with db.write() as connection:
        connection.execute(
            insert(access_log).values(
                id=entry_id,
                at=db.now,
                tenant=tenant,
                actor=actor,
                action=action[:100],
                subject=_clean_subject(subject),
            )
        )
    return entry_id


def finish_entry(db: Database, entry_id: str, status: int, subject: str | None = None) -> None:
    """Note how an act has ended, and its subject if that is known only now."""
    values: dict[str, str | int] = {"status": status}
    if subject is not None:
        values["subject"] = _clean_subject(subject)
    with db.write() as connection:
        connection.execute(update(access_log).where(access_log.c.id == entry_id).values(values))


def list_entries(
    db: Database, *, tenant: str | None = None, limit: int = 50, page: str | None = None
) -> Page[Entry]:
    """Entries, newest first, of all tenants or one."""
    query = select(access_log, access_log.c.at.label("created_at"))
    if tenant is not None:
        query = query.where(access_log.c.tenant == tenant)
    with db.read() as connection:
        ordered = apply_page(query, access_log.c.at, access_log.c.id, page, limit)
        rows, token = split_page(connection.execute(ordered).all(), limit)
    entries = [Entry(r.id, r.at, r.tenant, r.actor, r.action, r.subject, r.status) for r in rows]
    return Page(entries, token)


def hide_subjects(connection: Connection, tenant: str, subjects: Iterable[str]) -> None:
    """Remove ids and digests from the entries of a tenant: what they name is deleted."""
    for batch in slices(sorted(subjects)):
        mine = update(access_log).where(access_log.c.tenant == tenant)
        connection.execute(mine.where(access_log.c.subject.in_(batch)).values(subject=""))


def hide_deleted(connection: Connection, tenant: str) -> None:
    """Remove the ids of jobs and audits that are deleted from the entries of a tenant."""
    subject = access_log.c.subject
    is_job = exists().where(jobs.c.id == subject)
    is_audit = exists().where(audits.c.id == subject, ~audits.c.deleting)
    gone = and_(subject.startswith("job_", autoescape=True), ~is_job) | and_(
        subject.startswith("aud_", autoescape=True), ~is_audit
    )
    mine = update(access_log).where(access_log.c.tenant == tenant, func.length(subject) == ID_CHARS)
    connection.execute(mine.where(gone).values(subject=""))


def hide_tenant(connection: Connection, tenant: str) -> None:
    """Remove the name of a tenant and the ids of its keys from the entries of others, such as who
    created them. To be called before its keys are deleted; its own entries are deleted with it."""
    its_keys = select(keys.c.id).where(keys.c.tenant == tenant)
    # a route of the API, or a page
    is_named = access_log.c.action.like("POST %/tenants") & (access_log.c.subject == tenant)
    named = update(access_log).where(is_named | access_log.c.subject.in_(its_keys))
    connection.execute(named.values(subject=""))


def hide_declarations(connection: Connection, tenant: str, names: Iterable[str]) -> None:
    """Remove names of declarations, and their versions, from the entries of a tenant."""
    for name in names:
        named = (access_log.c.subject == name) | access_log.c.subject.startswith(
            f"{name}/", autoescape=True
        )
        mine = update(access_log).where(access_log.c.tenant == tenant, named)
        connection.execute(mine.values(subject=""))


def _clean_subject(subject: str) -> str:
    return subject if _SUBJECT.fullmatch(subject) else ""
