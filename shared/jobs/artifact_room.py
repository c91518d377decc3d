"""Whether a tenant's quota of bytes has room, before they come. It is checked again when they are
stored."""

from __future__ import annotations

from shared.jobs.database import Database
from shared.jobs.quotas import require_room


def check_room(db: Database, tenant: str, more_bytes: int) -> None:
    """Refuse bytes that will not be stored.

    Raises:
        StorageFull: all artifacts of the tenant together would hold more than its quota.
        TransientError: the job store does not answer.
    """
    with db.read() as connection:
        require_room(connection, tenant, more_bytes)
