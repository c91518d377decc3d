"""Keys to the gateway: whose they are, what they may do, and until when.

The store has the SHA-256 of a secret, not the secret. A slow hash with a salt, as for passwords,
would gain nothing: a secret is 256 random bits, so nobody can guess it from its digest, and a plain
digest is found by an index.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, insert, or_, select, update

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs.database import Database
from shared.jobs.job_insert import generate_id
from shared.jobs.locks import lock_name
from shared.jobs.mapping import slices, to_json
from shared.jobs.paging import Page, apply_page, split_page
from shared.jobs.tables import keys, tenants

READ, SUBMIT, ADMIN, WORKER = "read", "submit", "admin", "worker"
SCOPES = (READ, SUBMIT, ADMIN, WORKER)
KEY_ID = re.compile(r"key_[0-9a-f]{20}")
SECRET = re.compile(r"pal_[A-Za-z0-9_-]{43}")
LABEL = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,100}")
SECRET_BYTES = 32
MIN_LIFETIME_S, MAX_LIFETIME_S = 60.0, 10 * 366 * 24 * 3600.0
LAST_USE_INTERVAL_S = 60.0  # between two notes of when a key was used


@dataclass(frozen=True)
class Key:
    """One key, without its secret. Times are seconds since 1970 by the database's clock.

    expires_in_s: seconds from when it was read; None: it does not expire.
    is_disabled: its tenant is.
    """

    id: str
    tenant: str
    label: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    expires_in_s: float | None
    is_disabled: bool
    is_use_noted: bool  # `last_used_at` is recent enough

    @property
    def is_expired(self) -> bool:
        return self.expires_in_s is not None and self.expires_in_s <= 0

    @property
    def state(self) -> str:
        """valid, revoked, disabled (its tenant is) or expired."""
        if self.revoked_at is not None:
            return "revoked"
        if self.is_disabled:
            return "disabled"
        return "expired" if self.is_expired else "valid"

    @property
    def is_valid(self) -> bool:
        return self.state == "valid"


def compute_digest(secret: str) -> str:
    """What the store has of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def create_key(
    db: Database,
    tenant: str,
    label: str,
    scopes: Collection[str],
    lifetime_s: float | None = None,
) -> tuple[Key, str]:
    """A new key and its secret, which cannot be read again.

    Args:
        label: up to 100 printable characters.
        lifetime_s: a minute to ten years; None: it does not expire.

    Raises:
        InvalidRequest: by field: one of these is wrong.
        NotFound: there is no such tenant.
    """
    _check(label, scopes, lifetime_s)
    secret = f"pal_{secrets.token_urlsafe(SECRET_BYTES)}"
    key_id = generate_id("key")
    with db.write() as connection:
        if not connection.execute(select(tenants.c.name).where(tenants.c.name == tenant)).first():
            raise NotFound("there is no such tenant: create it first")
        connection.execute(
            insert(keys).values(
                id=key_id,
                tenant=tenant,
                label=label,
                digest=compute_digest(secret),
                scopes=to_json(sorted(scopes)),
                created_at=db.now,
                expires_at=None if lifetime_s is None else db.now + lifetime_s,
            )
        )
    return get_key(db, key_id), secret


def _check(label: str, scopes: Collection[str], lifetime_s: float | None) -> None:
    if not LABEL.fullmatch(label):
        raise InvalidRequest(
            "a label may have at most 100 characters and no control characters", "label"
        )
    if not scopes or not set(scopes) <= set(SCOPES):
        raise InvalidRequest(f"give one or more of {', '.join(SCOPES)}", "scopes")
    if lifetime_s is not None and not MIN_LIFETIME_S <= lifetime_s <= MAX_LIFETIME_S:
        raise InvalidRequest(
            "a key must be valid for at least a minute and at most ten years", "lifetime_s"
        )


def get_key(db: Database, key_id: str) -> Key:
    """One key. Raises NotFound."""
    key = find_key(db, id=key_id)
    if key is None:
        raise NotFound("there is no such key")
    return key


def find_key(db: Database, **by: str) -> Key | None:
    """The key with this `id` or `digest`, valid or not; one read by an index."""
    ((column, value),) = by.items()
    with db.read() as connection:
        row = connection.execute(_select(db).where(keys.c[column] == value)).one_or_none()
    return None if row is None else _build_key(row)


def list_keys(
    db: Database, *, tenant: str | None = None, limit: int = 50, page: str | None = None
) -> Page[Key]:
    """Keys, newest first, also those that are not valid; of all tenants or one."""
    query = _select(db)
    if tenant is not None:
        query = query.where(keys.c.tenant == tenant)
    with db.read() as connection:
        ordered = apply_page(query, keys.c.created_at, keys.c.id, page, limit)
        rows, token = split_page(connection.execute(ordered).all(), limit)
        return Page([_build_key(row) for row in rows], token)


def list_valid(db: Database, ids: Collection[str]) -> set[str]:
    """Which of these keys are valid."""
    valid: set[str] = set()
    with db.read() as connection:
        for batch in slices(sorted(ids)):
            query = _select_valid(db, keys.c.id).where(keys.c.id.in_(batch))
            valid |= set(connection.execute(query).scalars())
    return valid


def count_valid(db: Database) -> tuple[int, int]:
    """How many keys are valid, and how many of these have the scope `admin`."""
    with db.read() as connection:
        scopes = connection.execute(_select_valid(db, keys.c.scopes)).scalars().all()
    return len(scopes), sum(ADMIN in json.loads(one) for one in scopes)


def has_valid(db: Database) -> bool:
    """Whether any key is valid."""
    with db.read() as connection:
        return connection.execute(_select_valid(db, keys.c.id).limit(1)).first() is not None


def revoke_key(db: Database, key_id: str, *, has_token: bool) -> Key:
    """Make a key invalid for good. Repeatable.

    Args:
        has_token: the gateway has a token besides the keys.

    Raises:
        NotFound: there is no such key.
        Conflict: it is the last valid key that may administer, and there is no token.
    """
    with db.write() as connection:
        lock_keys(db, connection)
        if not has_token:
            require_other_admin(db, connection, key_id=key_id)
        one = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        connection.execute(one.values(revoked_at=db.now))
    return get_key(db, key_id)


def note_use(db: Database, key_id: str) -> None:
    """Note that a key was used just now, once in `LAST_USE_INTERVAL_S`."""
    with db.write() as connection:
        its = update(keys).where(keys.c.id == key_id, ~_is_use_noted(db))
        connection.execute(its.values(last_used_at=db.now))


def lock_keys(db: Database, connection: Connection) -> None:
    """Let those that make keys invalid take turns: two that see each other's key as the last one
    but theirs must not both go on."""
    lock_name(db, connection, "keys")


def require_other_admin(
    db: Database, connection: Connection, *, key_id: str = "", tenant: str = ""
) -> None:
    """Refuse to make one key, or those of one tenant, invalid if no other one may administer.

    Raises:
        Conflict: it is so.
    """
    ending = (keys.c.id == key_id) | (keys.c.tenant == tenant)
    admins = _select_valid(db, keys.c.id).where(keys.c.scopes.contains(f'"{ADMIN}"'))
    if (
        connection.execute(admins.where(ending).limit(1)).first()
        and not connection.execute(admins.where(~ending).limit(1)).first()
    ):
        raise Conflict(
            "this would leave no valid key with the scope admin: create another one first "
            "(python -m services.admin keys create --tenant TENANT --scope admin), or set PALIMPSEST_TOKEN"
        )


def _is_use_noted(db: Database) -> Any:
    return and_(
        keys.c.last_used_at.is_not(None),
        keys.c.last_used_at > db.now - LAST_USE_INTERVAL_S,
        keys.c.last_used_at <= db.now + LAST_USE_INTERVAL_S,  # the clock was set back
    )


def _select(db: Database) -> Select[Any]:
    return select(
        keys,
        (keys.c.expires_at - db.now).label("expires_in_s"),
        tenants.c.disabled_at,
        _is_use_noted(db).label("is_use_noted"),
    ).join(tenants, tenants.c.name == keys.c.tenant)


def _select_valid(db: Database, column: Any) -> Select[Any]:
    return (
        select(column)
        .join(tenants, tenants.c.name == keys.c.tenant)
        .where(
            keys.c.revoked_at.is_(None),
            tenants.c.disabled_at.is_(None),
            or_(keys.c.expires_at.is_(None), keys.c.expires_at > db.now),
        )
    )


def _build_key(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        tenant=row.tenant,
        label=row.label,
        scopes=frozenset(json.loads(row.scopes)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        expires_in_s=None if row.expires_in_s is None else float(row.expires_in_s),
        is_disabled=row.disabled_at is not None,
        is_use_noted=bool(row.is_use_noted),
    )
