"""Tenants: who may own jobs and artifacts, and how much of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs.database import Database
from shared.jobs.keys import lock_keys, require_other_admin
from shared.jobs.outbox_reader import OTHER_TENANTS
from shared.jobs.quotas import QUOTA_NAMES, Quotas
from shared.jobs.tables import tenants

MAX_NAME_CHARS = 64
NAME_FORMAT = r"[a-z0-9][a-z0-9._-]{0,63}"
MAX_QUOTA = 2**31 - 1  # of counts
MAX_BYTES = 2**63 - 1


@dataclass(frozen=True)
class Tenant:
    """One tenant. Times are seconds since 1970 by the database's clock."""

    name: str
    created_at: float
    disabled_at: float | None  # since then none of its keys is valid
    quotas: Quotas = field(default_factory=Quotas)


def check_tenant_name(name: str, field_name: str = "name") -> str:
    """The name, if a tenant may have it.

    Raises:
        InvalidRequest: it may not. The message does not repeat the name.
    """
    if not re.fullmatch(NAME_FORMAT, name):
        raise InvalidRequest(
            "a tenant's name has 1 to 64 characters: lower-case letters, digits, and after the "
            "first one also . _ -",
            field_name,
        )
    if name == OTHER_TENANTS:
        raise InvalidRequest(
            "this name stands for the sum of many tenants in metrics: choose a different one",
            field_name,
        )
    return name


def clean_name(text: str) -> str:
    """What may be looked up as a tenant's name: cut, and without control characters."""
    return "".join(char for char in text[:MAX_NAME_CHARS] if char.isprintable())


def create_tenant(db: Database, name: str, quotas: Quotas | None = None) -> Tenant:
    """Create a tenant.

    Raises:
        InvalidRequest: see `check_tenant_name`; a quota is out of range.
        Conflict: it exists.
    """
    values = asdict(quotas or Quotas())
    _check_quotas(values)
    row = {"name": check_tenant_name(name), "created_at": db.now, **values}
    try:
        with db.write() as connection:
            connection.execute(insert(tenants).values(row))
    except IntegrityError as error:
        raise Conflict(f"tenant {name} already exists") from error
    return get_tenant(db, name)


def ensure_tenant(db: Database, name: str) -> None:
    """Create a tenant of any name, if it does not exist."""
    with db.read() as connection:
        if connection.execute(select(tenants.c.name).where(tenants.c.name == name)).first():
            return
    with db.write() as connection:
        new = db.insert(tenants).values(name=name, created_at=db.now)
        connection.execute(new.on_conflict_do_nothing())


def get_tenant(db: Database, name: str) -> Tenant:
    """One tenant. Raises NotFound."""
    with db.read() as connection:
        row = connection.execute(select(tenants).where(tenants.c.name == name)).one_or_none()
    if row is None:
        raise _build_not_found()
    return _build_tenant(row)


def list_tenants(
    db: Database, *, after: str = "", limit: int = 200
) -> tuple[list[Tenant], str | None]:
    """Tenants by name from the first one behind `after` on, at most `limit`, and `after` of the
    next page (None at the end)."""
    query = select(tenants).where(tenants.c.name > after).order_by(tenants.c.name)
    with db.read() as connection:
        rows = connection.execute(query.limit(limit + 1)).all()
    page = [_build_tenant(row) for row in rows[:limit]]
    return page, page[-1].name if len(rows) > limit else None


def set_quotas(db: Database, name: str, changes: Mapping[str, int | None]) -> Tenant:
    """Change quotas, by name; None removes a limit.

    Raises:
        InvalidRequest: there is no such quota, or it is out of range.
        NotFound: there is no such tenant.
    """
    _check_quotas(changes)
    if changes:
        _change(db, name, dict(changes))
    return get_tenant(db, name)


def disable_tenant(db: Database, name: str, *, has_token: bool) -> Tenant:
    """Make all keys of a tenant invalid. Its jobs go on. Repeatable.

    Args:
        has_token: the gateway has a token besides the keys.

    Raises:
        NotFound: there is no such tenant.
        Conflict: it has the last valid key that may administer, and there is no token.
    """
    with db.write() as connection:
        lock_keys(db, connection)
        if not has_token:
            require_other_admin(db, connection, tenant=name)
        of_tenant = update(tenants).where(tenants.c.name == name)
        connection.execute(
            of_tenant.where(tenants.c.disabled_at.is_(None)).values(disabled_at=db.now)
        )
    return get_tenant(db, name)


def require_enabled(connection: Connection, name: str) -> None:
    """Refuse to store anything more for a tenant that was disabled or deleted after the request was
    accepted. Who disables it waits for the transactions that have asked here, and sees what they
    have stored.

    Raises:
        Conflict: nothing may be committed.
    """
    query = select(tenants.c.disabled_at).where(tenants.c.name == name)
    row = connection.execute(query.with_for_update(read=True)).one_or_none()
    if row is None or row.disabled_at is not None:
        raise Conflict("your tenant has been disabled or deleted meanwhile: nothing was stored")


def enable_tenant(db: Database, name: str) -> Tenant:
    """Make the keys of a tenant valid again. Repeatable. Raises NotFound."""
    _change(db, name, {"disabled_at": None})
    return get_tenant(db, name)


def _change(db: Database, name: str, values: Mapping[str, Any]) -> None:
    with db.write() as connection:
        connection.execute(update(tenants).where(tenants.c.name == name).values(values))


def _check_quotas(values: Mapping[str, int | None]) -> None:
    for quota, value in values.items():
        if quota not in QUOTA_NAMES:
            raise InvalidRequest(f"there is no such quota: give {', '.join(QUOTA_NAMES)}", "quotas")
        highest = MAX_BYTES if quota == "max_artifact_bytes" else MAX_QUOTA
        if value is not None and not 0 <= value <= highest:
            raise InvalidRequest(f"must be between 0 and {highest}", quota)


def _build_not_found() -> NotFound:
    return NotFound("there is no such tenant: create it first")


def _build_tenant(row: Row[Any]) -> Tenant:
    return Tenant(
        row.name,
        row.created_at,
        row.disabled_at,
        Quotas(**{quota: getattr(row, quota) for quota in QUOTA_NAMES}),
    )
