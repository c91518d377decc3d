"""Declarations: what an upload is, said once and referred to by name. A name has versions.

The row says what was declared; whether that is ready, the job says that checks it. The job is stored
before the row: if the process dies in between, the same declaration finds the same job again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from shared.artifacts import ArtifactStore
from shared.errors import Conflict, NotFound
from shared.jobs.access_log import hide_declarations
from shared.jobs.database import Database
from shared.jobs.erasure import Erasure, ErasurePlan, erase, plan_erasure
from shared.jobs.job_insert import generate_id
from shared.jobs.labels import DECLARATION_LABELS
from shared.jobs.locks import lock_name
from shared.jobs.mapping import to_json
from shared.jobs.paging import Page, apply_page, split_page
from shared.jobs.states import LIVE, Failure, State
from shared.jobs.tables import (
    declarations,
    declared_uploads,
    job_artifacts,
    jobs,
)
from shared.jobs.tenants import require_enabled
from shared.jobs.uploads import (
    KIND_NAMES,
    find_live_reader,
    keep_uploads,
    release_uploads,
)
from shared.roles import Role

MAX_DECLARATIONS = 1000  # versions of all names of a tenant


class Kind(StrEnum):
    """What is declared."""

    MODEL = "model"
    DATASET = "dataset"

    @property
    def noun(self) -> str:
        """The kind in a sentence."""
        return KIND_NAMES[self]


class DeclarationState(StrEnum):
    """What its check has come to."""

    CHECKING = "checking"
    READY = "ready"
    REJECTED = "rejected"  # it is not what was declared: declare it otherwise
    FAILED = "failed"  # the check has ended without a result: declare it again


@dataclass(frozen=True)
class NewDeclaration:
    """What is to be declared.

    spec: everything that it is made of, with defaults filled in.
    uploads: sha256 of each upload that it refers to.
    """

    kind: Kind
    name: str
    spec: Mapping[str, Any]
    uploads: frozenset[str]


@dataclass(frozen=True)
class Declaration:
    """One version of a declared model or data set. Times are seconds since 1970."""

    id: str
    kind: Kind
    name: str
    version: int
    spec: Mapping[str, Any]
    created_at: float
    job: str  # that checks it
    job_state: State
    failure: str | None  # of that job, a word of `Failure`
    message: str | None  # of that job
    request_key: str  # of that job
    inspection: str | None  # sha256 of what the check has found
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and version, as audits and reports give them."""
        return f"{self.name}@{self.version}"

    @property
    def state(self) -> DeclarationState:
        if self.job_state in LIVE:
            return DeclarationState.CHECKING
        if self.job_state is State.SUCCEEDED:
            return DeclarationState.READY
        if self.failure == Failure.INVALID:
            return DeclarationState.REJECTED
        return DeclarationState.FAILED

    @property
    def reason(self) -> str | None:
        """Why it is not ready, in a sentence; None while it may still be, and if it is."""
        if self.state is DeclarationState.REJECTED:
            return self.message
        if self.state is DeclarationState.FAILED:
            ended = self.message or f"job {self.job} was {self.job_state}"
            return f"the check has ended without a result ({ended}): declare it again to repeat it"
        return None


def find_equal(
    db: Database, tenant: str, new: NewDeclaration, request_key: str
) -> Declaration | None:
    """The newest version of the name, if it declares the same and needs no other check.

    Args:
        request_key: of the job that would check it.

    Raises:
        Conflict: there is none, and the tenant has as many declarations as it may.
    """
    with db.read() as connection:
        newest = connection.execute(_select_versions(tenant, new.kind, new.name)).first()
        if newest is None or newest.spec != to_json(new.spec):
            _require_room(connection, tenant)
            return None
        equal = _load(connection, [newest])[0]
    return None if _needs_new_check(equal, request_key) else equal


def record_declaration(
    db: Database,
    tenant: str,
    new: NewDeclaration,
    job: str,
    request_key: str,
    labels: Mapping[str, str] | None,
    *,
    is_registered: bool = False,
) -> Declaration:
    """Store a declaration, which that job checks.

    The newest version of the name stays the newest if it declares the same, and gets the job only
    if its own has ended without a result, or was made by other code. Its labels are replaced if any
    are given.

    Args:
        is_registered: see `shared.jobs.tenant_store.TenantStore`.

    Raises:
        InvalidRequest: the tenant does not have one of the uploads.
        Conflict: the tenant has as many declarations as it may, or was disabled or deleted.
    """

    def record(connection: Connection) -> str:
        if is_registered:
            require_enabled(connection, tenant)
        lock_name(db, connection, f"declarations of {tenant}")
        keep_uploads(db, connection, tenant, new.uploads, "")
        newest = connection.execute(_select_versions(tenant, new.kind, new.name)).first()
        if newest is not None and newest.spec == to_json(new.spec):
            if _needs_new_check(_build_declaration(newest), request_key):
                connection.execute(
                    update(declarations).where(declarations.c.id == newest.id).values(job=job)
                )
            if labels is not None:
                DECLARATION_LABELS.replace(connection, newest.id, labels)
            return str(newest.id)
        _require_room(connection, tenant)
        declaration_id = generate_id("dec")
        connection.execute(
            insert(declarations).values(
                id=declaration_id,
                tenant=tenant,
                kind=new.kind,
                name=new.name,
                version=1 if newest is None else newest.version + 1,
                spec=to_json(new.spec),
                job=job,
                created_at=db.now,
            )
        )
        references = [
            {"declaration": declaration_id, "sha256": sha256} for sha256 in sorted(new.uploads)
        ]
        if references:
            connection.execute(insert(declared_uploads), references)
        DECLARATION_LABELS.replace(connection, declaration_id, labels or {})
        return declaration_id

    declaration_id = db.run_transaction(record)
    with db.read() as connection:
        query = _select(tenant, new.kind).where(declarations.c.id == declaration_id)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"the {new.kind.noun} {new.name} was deleted while it was declared")
        return _load(connection, [row])[0]


def _needs_new_check(declaration: Declaration, request_key: str) -> bool:
    """Whether another job should check it: its own has not ended well, and another one may."""
    if declaration.state is DeclarationState.REJECTED:
        return declaration.request_key != request_key
    return declaration.state is DeclarationState.FAILED


def get_declaration(
    db: Database, tenant: str, kind: Kind, name: str, version: int | None = None
) -> Declaration:
    """One version, by default the newest. Raises NotFound."""
    with db.read() as connection:
        row = connection.execute(_select_versions(tenant, kind, name, version).limit(1)).first()
        if row is None:
            raise _build_not_found(kind, name, version)
        return _load(connection, [row])[0]


def list_declarations(
    db: Database,
    tenant: str,
    kind: Kind,
    *,
    name: str | None = None,
    labels: Mapping[str, str | None] | None = None,
    limit: int = 50,
    page: str | None = None,
) -> Page[Declaration]:
    """All versions of all names, newest first.

    Args:
        name: only the versions of this name.
        labels: only those that have each of these labels, with the value if there is one.
    """
    query = _select(tenant, kind)
    if name is not None:
        query = query.where(declarations.c.name == name)
    query = query.where(*DECLARATION_LABELS.build_filter(declarations.c.id, (labels or {}).items()))
    with db.read() as connection:
        ordered = apply_page(query, declarations.c.created_at, declarations.c.id, page, limit)
        rows, token = split_page(connection.execute(ordered).all(), limit)
        return Page(_load(connection, rows), token)


def change_labels(
    db: Database,
    tenant: str,
    kind: Kind,
    name: str,
    version: int | None,
    changes: Mapping[str, str | None],
) -> Declaration:
    """Set labels of one version, by default the newest; None removes one.

    Raises:
        NotFound: there is no such declaration.
        Conflict: it would have more labels than it may.
    """

    def change(connection: Connection) -> None:
        lock_name(db, connection, f"declarations of {tenant}")
        row = connection.execute(_select_versions(tenant, kind, name, version).limit(1)).first()
        if row is None:
            raise _build_not_found(kind, name, version)
        DECLARATION_LABELS.change(connection, row.id, changes, f"{kind.noun} {name}@{row.version}")

    db.run_transaction(change)
    return get_declaration(db, tenant, kind, name, version)


def delete_declarations(
    db: Database, tenant: str, kind: Kind, name: str, version: int | None, *, lifetime_s: float
) -> None:
    """Delete one version of a name, or all of them. The uploads stay, for `lifetime_s` if no other
    declaration refers to them; so does what jobs have made.

    Raises:
        NotFound: there is no such declaration.
        Conflict: jobs that have not ended need one of its uploads.
    """

    def remove(connection: Connection) -> None:
        lock_name(db, connection, f"declarations of {tenant}")
        rows = _find_versions(connection, tenant, kind, name, version)
        for row in rows:
            if row.job_state in LIVE:
                raise Conflict(
                    f"{kind.noun} {name}@{row.version} is still being checked: wait until job "
                    f"{row.job} has ended, or cancel it first"
                )
        for sha256 in sorted(_list_uploads(connection, rows)):
            lock_name(db, connection, sha256)
            if job := find_live_reader(connection, tenant, sha256):
                raise Conflict(
                    f"job {job} needs upload {sha256} of the {kind.noun} {name}: wait until it has "
                    "ended, or cancel it first"
                )
        _remove_rows(db, connection, tenant, rows, lifetime_s)

    db.run_transaction(remove)


def erase_declarations(
    db: Database,
    tenant: str,
    store: ArtifactStore,
    kind: Kind,
    name: str,
    version: int | None,
    *,
    lifetime_s: float,
) -> Erasure:
    """Delete one version of a name, or all of them, with what is declared and everything that was
    made of it. The test data of a model are another's: they stay.

    Raises:
        NotFound: there is no such declaration, or its weights are no upload.
        Conflict: jobs that were made of it have not ended, or another declaration refers to it.
        TransientError: see `erase`.
    """
    with db.read() as connection:
        rows = _find_versions(connection, tenant, kind, name, version)
        digests = _list_own_uploads(connection, kind, rows)

    def remove(connection: Connection) -> None:
        _remove_rows(db, connection, tenant, rows, lifetime_s)
        hide_declarations(connection, tenant, {row.name for row in rows})

    return erase(db, tenant, store, digests, also=remove)


def plan_declaration_erasure(
    db: Database, tenant: str, kind: Kind, name: str, version: int | None = None
) -> ErasurePlan:
    """What `erase_declarations` would remove, besides the declarations.

    Raises:
        NotFound: there is no such declaration, or its weights are no upload.
    """
    with db.read() as connection:
        rows = _find_versions(connection, tenant, kind, name, version)
        digests = _list_own_uploads(connection, kind, rows)
    return plan_erasure(db, tenant, digests)


def _list_own_uploads(connection: Connection, kind: Kind, rows: Sequence[Row[Any]]) -> set[str]:
    """The uploads that go with these declarations. The test data of a model are another's."""
    if kind is Kind.DATASET:
        return _list_uploads(connection, rows)
    return {str(json.loads(row.spec).get("weights", "")) for row in rows}


def _find_versions(
    connection: Connection, tenant: str, kind: Kind, name: str, version: int | None
) -> Sequence[Row[Any]]:
    rows = connection.execute(_select_versions(tenant, kind, name, version)).all()
    if not rows:
        raise _build_not_found(kind, name, version)
    return rows


def _list_uploads(connection: Connection, rows: Sequence[Row[Any]]) -> set[str]:
    """The uploads that declarations refer to."""
    its = declared_uploads.c
    query = select(its.sha256).where(its.declaration.in_([row.id for row in rows]))
    return set(connection.execute(query).scalars())


def _remove_rows(
    db: Database, connection: Connection, tenant: str, rows: Sequence[Row[Any]], lifetime_s: float
) -> None:
    referred = _list_uploads(connection, rows)
    connection.execute(delete(declarations).where(declarations.c.id.in_([row.id for row in rows])))
    release_uploads(db, connection, tenant, referred, lifetime_s)


def _select(tenant: str, kind: Kind) -> Select[Any]:
    """Declarations with what their jobs say."""
    is_inspection = (job_artifacts.c.job == jobs.c.id) & (job_artifacts.c.role == Role.INSPECTION)
    return (
        select(
            declarations,
            jobs.c.state.label("job_state"),
            jobs.c.failure,
            jobs.c.message,
            jobs.c.request_key,
            job_artifacts.c.sha256.label("inspection"),
        )
        .select_from(
            declarations.join(jobs, jobs.c.id == declarations.c.job).outerjoin(
                job_artifacts, is_inspection
            )
        )
        .where(declarations.c.tenant == tenant, declarations.c.kind == kind)
    )


def _select_versions(tenant: str, kind: Kind, name: str, version: int | None = None) -> Select[Any]:
    """Versions of a name, newest first; or the one."""
    query = _select(tenant, kind).where(declarations.c.name == name)
    if version is not None:
        query = query.where(declarations.c.version == version)
    return query.order_by(declarations.c.version.desc())


def _build_not_found(kind: Kind, name: str, version: int | None) -> NotFound:
    return NotFound(f"there is no {kind.noun} {name}{f'@{version}' if version else ''}")


def _require_room(connection: Connection, tenant: str) -> None:
    mine = select(func.count()).select_from(declarations).where(declarations.c.tenant == tenant)
    if connection.execute(mine).scalar_one() >= MAX_DECLARATIONS:
        raise Conflict(
            f"you have {MAX_DECLARATIONS:,} declarations of models and data sets, which is "
            "the limit: delete some"
        )


def _load(connection: Connection, rows: Sequence[Row[Any]]) -> list[Declaration]:
    labels = DECLARATION_LABELS.load(connection, [row.id for row in rows])
    return [_build_declaration(row, labels[row.id]) for row in rows]


def _build_declaration(row: Row[Any], labels: Mapping[str, str] | None = None) -> Declaration:
    return Declaration(
        id=row.id,
        kind=Kind(row.kind),
        name=row.name,
        version=row.version,
        spec=json.loads(row.spec),
        created_at=row.created_at,
        job=row.job,
        job_state=State(row.job_state),
        failure=row.failure,
        message=row.message,
        request_key=row.request_key,
        inspection=row.inspection,
        labels=labels or {},
    )
