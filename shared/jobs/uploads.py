"""Uploads: bytes that a tenant brings. Recording, listing, deleting and expiring them.

The order of a write is: bytes into a draft, then, in one transaction, their place in the store and
their row. The order of a deletion is: the row, with a note in `deleted_artifacts`, then the bytes.
Each of these transactions first takes a lock on the digest, so that uploads and deletions of the
same bytes wait for each other: a row never promises bytes that a deletion takes away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, literal, or_, select, tuple_, update

from shared.artifacts import ArtifactStore, StoredArtifact
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.failpoints import failpoint
from shared.jobs.bulk_delete import list_unneeded
from shared.jobs.database import Database
from shared.jobs.locks import lock_name
from shared.jobs.mapping import build_ownership_filter
from shared.jobs.paging import Page, apply_page, split_page
from shared.jobs.quotas import require_room
from shared.jobs.removal import note_unneeded
from shared.jobs.states import LIVE
from shared.jobs.tables import (
    NEVER,
    UPLOAD_ORIGIN,
    artifacts,
    audits,
    declarations,
    declared_uploads,
    deleted_artifacts,
    job_artifacts,
    job_inputs,
    jobs,
)
from shared.jobs.tenants import require_enabled
from shared.uploaded_files import PREFIX

BATCH = 100
Position = tuple[float, str, str]  # of an upload: when it expires, its tenant and its digest
START: Position = (-1.0, "", "")
BYTES_BATCH = 20  # artifacts that are removed in one transaction: one takes about 20 ms on S3
SEARCHED_AUDITS = 200  # of a tenant, for the uploads that they name
KIND_NAMES = {"model": "model", "dataset": "data set"}  # of declarations, in messages


class QuotaExceeded(InvalidRequest):
    """The tenant's uploads would hold more bytes than they may."""


@dataclass(frozen=True)
class Upload:
    """Bytes that a tenant has brought. Times are seconds since 1970."""

    sha256: str
    size: int
    media_type: str
    created_at: float
    expires_at: float | None


def has_artifact(db: Database, tenant: str, sha256: str) -> bool:
    """Whether the tenant has these bytes, from a job or an upload that has not expired."""
    owned = build_ownership_filter(tenant, db.now) & (artifacts.c.sha256 == sha256)
    with db.read() as connection:
        return connection.execute(select(exists().where(owned))).scalar_one()


def measure_uploads(db: Database, tenant: str) -> int:
    """Bytes of all uploads of a tenant, expired ones that are not removed yet included."""
    with db.read() as connection:
        return _measure(connection, tenant)


def _measure(connection: Connection, tenant: str) -> int:
    total = select(func.sum(artifacts.c.size)).where(
        artifacts.c.tenant == tenant, artifacts.c.origin == UPLOAD_ORIGIN
    )
    return int(connection.execute(total).scalar_one() or 0)


def check_quota(used_bytes: int, more_bytes: int, quota_bytes: int) -> None:
    """Refuse an upload for which there is no room.

    Raises:
        QuotaExceeded: with the figures.
    """
    if used_bytes + more_bytes > quota_bytes:
        raise QuotaExceeded(
            f"uploads may hold {quota_bytes:,} bytes; {used_bytes:,} are used, and this one needs "
            f"at least {more_bytes:,}: delete some that are no longer needed"
        )


def record_upload(
    db: Database,
    tenant: str,
    stored: StoredArtifact,
    media_type: str,
    *,
    lifetime_s: float,
    quota_bytes: int,
    place: Callable[[], None],
    is_registered: bool = False,
) -> tuple[Upload, bool]:
    """Make sealed bytes an upload of the tenant; returns it, and whether it is new.

    Bytes that the tenant has already are not counted twice: an upload is kept for another
    `lifetime_s`, and what a job made becomes one if that job goes earlier.

    Args:
        place: puts the bytes under their address; called once or, after a lock conflict, again.
        is_registered: see `shared.jobs.tenant_store.TenantStore`.

    Raises:
        Conflict: the tenant was disabled or deleted.
        QuotaExceeded: the tenant's uploads would hold more than `quota_bytes`.
        StorageFull: all its artifacts together would hold more than its quota.
        TransientError: a store did not answer.
    """

    def record(connection: Connection) -> tuple[Upload, bool]:
        if is_registered:
            require_enabled(connection, tenant)
        # so that uploads of one tenant do not pass the quota together
        lock_name(db, connection, f"uploads of {tenant}")
        lock_name(db, connection, stored.sha256)
        connection.execute(
            delete(deleted_artifacts).where(deleted_artifacts.c.sha256 == stored.sha256)
        )
        row = _find(connection, tenant, stored.sha256)
        if row is None:
            check_quota(_measure(connection, tenant), stored.size, quota_bytes)
        if row is None or row.expired_at is not None:
            require_room(connection, tenant, stored.size)
        place()
        if row is None:
            connection.execute(
                artifacts.insert().values(
                    tenant=tenant,
                    sha256=stored.sha256,
                    size=stored.size,
                    media_type=media_type,
                    origin=UPLOAD_ORIGIN,
                    created_at=db.now,
                    expires_at=compute_expiry(db, lifetime_s),
                )
            )
        elif row.origin != UPLOAD_ORIGIN or row.expires_at is not None:
            connection.execute(
                update(artifacts)
                .where(_is(tenant, stored.sha256))
                .values(expires_at=_compute_new_expiry(db, row, lifetime_s), expired_at=None)
            )
        written = _find(connection, tenant, stored.sha256)
        assert written is not None
        return _build_upload(written), row is None

    return db.run_transaction(record)


def list_uploads(
    db: Database, tenant: str, *, limit: int = 50, page: str | None = None
) -> Page[Upload]:
    """Uploads of a tenant that have not expired, newest first."""
    query = select(artifacts).where(
        artifacts.c.tenant == tenant,
        artifacts.c.origin == UPLOAD_ORIGIN,
        or_(artifacts.c.expires_at.is_(None), artifacts.c.expires_at > db.now),
    )
    with db.read() as connection:
        ordered = apply_page(query, artifacts.c.created_at, artifacts.c.sha256, page, limit)
        rows, token = split_page(connection.execute(ordered).all(), limit, "sha256")
    return Page([_build_upload(row) for row in rows], token)


def get_upload(db: Database, tenant: str, sha256: str) -> Upload:
    """One upload that has not expired. Raises NotFound."""
    query = select(artifacts).where(
        _is(tenant, sha256),
        artifacts.c.origin == UPLOAD_ORIGIN,
        or_(artifacts.c.expires_at.is_(None), artifacts.c.expires_at > db.now),
    )
    with db.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no upload {sha256}")
    return _build_upload(row)


def delete_upload(db: Database, tenant: str, store: ArtifactStore, sha256: str) -> None:
    """Remove an upload for good: its row, and its bytes if nobody else has them.

    Raises:
        NotFound: the tenant has no such upload.
        Conflict: jobs that have not ended need it, or a declaration refers to it.
        TransientError: a store did not answer. The upload may be gone; its bytes go soon.
    """

    def remove(connection: Connection) -> None:
        lock_name(db, connection, sha256)
        row = _find(connection, tenant, sha256)
        if row is None or row.origin != UPLOAD_ORIGIN:
            raise NotFound(f"there is no upload {sha256}")
        if job := find_live_reader(connection, tenant, sha256):
            raise Conflict(
                f"job {job} needs upload {sha256}: wait until it has ended, or cancel it first"
            )
        if declaration := find_declaration_with(connection, tenant, sha256):
            raise Conflict(
                f"the {declaration} refers to upload {sha256}: delete that declaration first"
            )
        _remove_row(db, connection, row)

    db.run_transaction(remove)
    remove_deleted_bytes(db, store)


def expire_uploads(db: Database, after: Position = START) -> tuple[list[str], Position | None]:
    """Remove uploads that have expired and that no job needs any more, of the next few after a
    position; their bytes are left to `remove_deleted_bytes`. Returns the digests of those that went,
    and the position after the last one that was looked at, None at the end: those that a job still
    needs do not keep others from being looked at."""
    place = (artifacts.c.expires_at, artifacts.c.tenant, artifacts.c.sha256)
    expired = (
        select(artifacts)
        .where(artifacts.c.origin == UPLOAD_ORIGIN, artifacts.c.expires_at <= db.now)
        .where(tuple_(*place) > tuple_(*map(literal, after)))
        .order_by(*place)
        .limit(BATCH)
    )
    with db.read() as connection:
        rows = connection.execute(expired).all()

    def remove(row: Row[Any], connection: Connection) -> bool:
        lock_name(db, connection, row.sha256)
        current = _find(connection, row.tenant, row.sha256)
        if (
            current is None
            or current.expires_at != row.expires_at
            or find_live_reader(connection, row.tenant, row.sha256)
        ):
            return False
        _remove_row(db, connection, current)
        return True

    removed = [row.sha256 for row in rows if db.run_transaction(partial(remove, row))]
    last = rows[-1] if len(rows) == BATCH else None
    return removed, last and (last.expires_at, last.tenant, last.sha256)


def remove_deleted_bytes(db: Database, store: ArtifactStore) -> None:
    """Remove from the store what deletions have left there, unless somebody has it again.

    Raises:
        TransientError: a store did not answer; the next call goes on.
    """
    with db.read() as connection:
        digests = list(
            connection.execute(select(deleted_artifacts.c.sha256).limit(BATCH)).scalars()
        )

    digests.sort()  # all take locks in the same order
    for start in range(0, len(digests), BYTES_BATCH):
        some = digests[start : start + BYTES_BATCH]
        db.run_transaction(partial(_remove_noted_bytes, db, store, some))


def _remove_noted_bytes(
    db: Database, store: ArtifactStore, digests: Sequence[str], connection: Connection
) -> None:
    for sha256 in digests:
        lock_name(db, connection, sha256)
    noted = delete(deleted_artifacts).where(deleted_artifacts.c.sha256.in_(digests))
    # what is not noted any more, somebody has brought again, or removed
    left = set(connection.execute(noted.returning(deleted_artifacts.c.sha256)).scalars())
    for sha256 in sorted(list_unneeded(connection, left)):
        store.delete(sha256)
        failpoint("uploads.after_bytes")


def count_deleted_bytes(db: Database) -> int:
    """How many artifacts deletions have left in the store."""
    with db.read() as connection:
        return int(
            connection.execute(select(func.count()).select_from(deleted_artifacts)).scalar_one()
        )


def compute_expiry(db: Database, lifetime_s: float) -> Any:
    """When an upload that comes or is released now ends; None: never."""
    return None if math.isinf(lifetime_s) else db.now + lifetime_s


def _compute_new_expiry(db: Database, row: Row[Any], lifetime_s: float) -> Any:
    """As `compute_expiry`, of a row that is there. That of a job says by it that the bytes were
    brought too."""
    expiry = compute_expiry(db, lifetime_s)
    return NEVER if expiry is None and row.origin != UPLOAD_ORIGIN else expiry


def _is(tenant: str, sha256: str) -> Any:
    return (artifacts.c.tenant == tenant) & (artifacts.c.sha256 == sha256)


def _find(connection: Connection, tenant: str, sha256: str) -> Row[Any] | None:
    return connection.execute(
        select(artifacts).where(_is(tenant, sha256)).with_for_update()
    ).one_or_none()


def find_declaration_with(connection: Connection, tenant: str, sha256: str) -> str | None:
    """A declaration of the tenant that refers to an upload, such as `model before@2`."""
    query = (
        select(declarations)
        .join(declared_uploads, declared_uploads.c.declaration == declarations.c.id)
        .where(declarations.c.tenant == tenant, declared_uploads.c.sha256 == sha256)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else f"{KIND_NAMES[row.kind]} {row.name}@{row.version}"


@dataclass(frozen=True)
class DeclaredUse:
    """A declaration that refers to an upload. `kind` is a key of `KIND_NAMES`."""

    kind: str
    name: str
    version: int


def list_upload_uses(
    db: Database, tenant: str, digests: Iterable[str]
) -> dict[str, list[DeclaredUse]]:
    """By digest, the declarations of the tenant that refer to these uploads, in one query."""
    uses: dict[str, list[DeclaredUse]] = {sha256: [] for sha256 in digests}
    query = (
        select(
            declared_uploads.c.sha256,
            declarations.c.kind,
            declarations.c.name,
            declarations.c.version,
        )
        .join(declarations, declared_uploads.c.declaration == declarations.c.id)
        .where(declarations.c.tenant == tenant, declared_uploads.c.sha256.in_(sorted(uses)))
        .order_by(declarations.c.kind, declarations.c.name, declarations.c.version)
    )
    with db.read() as connection:
        for sha256, *use in connection.execute(query):
            uses[sha256].append(DeclaredUse(*use))
    return uses


@dataclass(frozen=True)
class AuditUse:
    """An audit that names an upload."""

    id: str
    name: str


def list_audit_uses(db: Database, tenant: str, digests: Iterable[str]) -> dict[str, list[AuditUse]]:
    """By digest, which of the tenant's latest `SEARCHED_AUDITS` audits name these uploads, newest
    first, in one query."""
    uses: dict[str, list[AuditUse]] = {sha256: [] for sha256 in digests}
    if not uses:
        return uses
    latest = (
        select(audits.c.id, audits.c.name, audits.c.spec, audits.c.created_at)
        .where(audits.c.tenant == tenant, ~audits.c.deleting)
        .order_by(audits.c.created_at.desc(), audits.c.id.desc())
        .limit(SEARCHED_AUDITS)
        .subquery()
    )
    query = (
        select(latest.c.id, latest.c.name, latest.c.spec)
        .where(or_(*(latest.c.spec.contains(sha256) for sha256 in uses)))
        .order_by(latest.c.created_at.desc(), latest.c.id.desc())
    )
    with db.read() as connection:
        for audit_id, name, spec in connection.execute(query):
            for sha256 in uses:
                if sha256 in spec:
                    uses[sha256].append(AuditUse(audit_id, name))
    return uses


def keep_uploads(
    db: Database, connection: Connection, tenant: str, digests: Iterable[str], field: str
) -> None:
    """Let no upload of these end by itself, as a declaration is about to refer to it. What jobs of
    the tenant have made stays anyway.

    Raises:
        InvalidRequest: the tenant does not have one of them.
    """
    for sha256 in sorted(digests):  # all take locks in the same order
        lock_name(db, connection, sha256)
        owned = build_ownership_filter(tenant, db.now) & (artifacts.c.sha256 == sha256)
        if not connection.execute(select(exists().where(owned))).scalar_one():
            raise InvalidRequest(f"you have no upload {sha256}: push the file first", field)
        brought = (_is(tenant, sha256), artifacts.c.origin == UPLOAD_ORIGIN)
        connection.execute(update(artifacts).where(*brought).values(expires_at=None))


def release_uploads(
    db: Database, connection: Connection, tenant: str, digests: Iterable[str], lifetime_s: float
) -> None:
    """Let uploads end after `lifetime_s` to which no declaration refers any more."""
    for sha256 in sorted(digests):
        lock_name(db, connection, sha256)
        row = _find(connection, tenant, sha256)
        if row is None or find_declaration_with(connection, tenant, sha256) is not None:
            continue
        if row.origin == UPLOAD_ORIGIN or row.expires_at is not None:
            expiry = _compute_new_expiry(db, row, lifetime_s)
            connection.execute(
                update(artifacts).where(_is(tenant, sha256)).values(expires_at=expiry)
            )


def find_live_reader(connection: Connection, tenant: str, sha256: str) -> str | None:
    """A job of the tenant that has not ended and reads these bytes."""
    is_input = exists().where(job_inputs.c.job == jobs.c.id, job_inputs.c.sha256 == sha256)
    query = (
        select(jobs.c.id)
        .where(
            jobs.c.tenant == tenant,
            jobs.c.state.in_(sorted(LIVE)),
            or_(is_input, jobs.c.data.contains(f"{PREFIX}{sha256}")),
        )
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def _remove_row(db: Database, connection: Connection, row: Row[Any]) -> None:
    """Remove an upload's row, and note its bytes if it was the last. What a job has made too
    becomes that job's."""
    producers = select(job_artifacts.c.job).where(
        job_artifacts.c.tenant == row.tenant, job_artifacts.c.sha256 == row.sha256
    )
    producer = connection.execute(
        producers.order_by(job_artifacts.c.job).limit(1)
    ).scalar_one_or_none()
    if producer is not None:
        connection.execute(
            update(artifacts)
            .where(_is(row.tenant, row.sha256))
            .values(origin=producer, expires_at=None)
        )
        return
    connection.execute(delete(artifacts).where(_is(row.tenant, row.sha256)))
    note_unneeded(db, connection, [row.sha256])


def _build_upload(row: Row[Any]) -> Upload:
    expires_at = None if row.expires_at == NEVER else row.expires_at
    return Upload(row.sha256, row.size, row.media_type, row.created_at, expires_at)
