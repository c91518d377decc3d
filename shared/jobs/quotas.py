"""What a tenant's quotas refuse at submission. The quota of running jobs is kept by claims
(`shared.jobs.dispatch`), those of requests and event streams by the gateway."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, func, select

from shared.errors import QuotaReached
from shared.jobs.database import Database
from shared.jobs.locks import lock_name
from shared.jobs.states import State
from shared.jobs.tables import artifacts, jobs, tenants

PENDING = frozenset({State.WAITING, State.QUEUED, State.PAUSED})


@dataclass(frozen=True)
class Quotas:
    """What a tenant may have at most; None is no limit."""

    max_queued_jobs: int | None = None
    max_running_jobs: int | None = None
    max_artifact_bytes: int | None = None
    max_event_streams: int | None = None
    max_requests_per_minute: int | None = None


QUOTA_NAMES = tuple(asdict(Quotas()))


class StorageFull(QuotaReached):
    """The artifacts of the tenant hold as many bytes as they may."""


def get_quotas(connection: Connection, name: str) -> Quotas:
    """The quotas of a tenant; none for one that does not exist."""
    columns = [tenants.c[quota] for quota in QUOTA_NAMES]
    row = connection.execute(select(*columns).where(tenants.c.name == name)).one_or_none()
    return Quotas() if row is None else Quotas(**row._mapping)


def load_quotas(db: Database, tenant: str) -> Quotas:
    """The quotas of a tenant; none for one that does not exist."""
    with db.read() as connection:
        return get_quotas(connection, tenant)


def require_pending_quota(db: Database, connection: Connection, tenant: str) -> None:
    """Refuse the jobs that this transaction has stored if the tenant has more of them now than may
    wait. Submissions of a tenant with such a quota wait for each other.

    Raises:
        QuotaReached: nothing may be committed.
    """
    quota = get_quotas(connection, tenant).max_queued_jobs
    if quota is None:
        return
    lock_name(db, connection, f"waiting jobs of {tenant}")
    pending = select(jobs.c.id).where(jobs.c.tenant == tenant, jobs.c.state.in_(sorted(PENDING)))
    count = select(func.count()).select_from(pending.limit(quota + 1).subquery())
    if connection.execute(count).scalar_one() > quota:
        raise QuotaReached(
            f"at most {quota:,} of your jobs may wait at a time, and this submission would "
            "exceed that: nothing was stored. Wait until some have run, or cancel some"
        )


def require_room(connection: Connection, tenant: str, more_bytes: int = 0) -> None:
    """Refuse more work or uploads of a tenant whose artifacts hold all the bytes they may.

    Raises:
        StorageFull: see `StorageFull`.
    """
    quota = get_quotas(connection, tenant).max_artifact_bytes
    if quota is None:
        return
    has_bytes = (artifacts.c.tenant == tenant, artifacts.c.expired_at.is_(None))
    total = select(func.coalesce(func.sum(artifacts.c.size), 0)).where(*has_bytes)
    used = int(connection.execute(total).scalar_one())
    if used + more_bytes > quota or used >= quota:
        raise StorageFull(
            f"your artifacts hold {used:,} of at most {quota:,} bytes: delete audits or "
            "uploads that are no longer needed"
        )
