"""Labels and metadata of an audit, changed after it was submitted. Its jobs do not depend on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from shared.errors import InvalidRequest, NotFound
from shared.jobs.database import Database
from shared.jobs.labels import AUDIT_LABELS
from shared.jobs.mapping import to_json
from shared.jobs.tables import audits

MAX_METADATA_BYTES = 16 << 10  # of one audit, as JSON


def require_small_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata of more than `MAX_METADATA_BYTES`.

    Raises:
        InvalidRequest: says how large it is.
    """
    size = len(to_json(metadata).encode())
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(
            f"the metadata has {size:,} bytes as JSON, above the limit of "
            f"{MAX_METADATA_BYTES:,}: store it elsewhere and refer to it here",
            "metadata",
        )


def annotate_audit(
    db: Database,
    tenant: str,
    audit_id: str,
    *,
    labels: Mapping[str, str | None] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Change labels and metadata of an audit, both by a JSON merge patch (RFC 7396): None removes.

    Raises:
        NotFound: no such audit of this tenant.
        Conflict: it would have too many labels.
        InvalidRequest: its metadata would be too large.
    """

    def change(connection: Connection) -> None:
        mine = (audits.c.id == audit_id) & (audits.c.tenant == tenant) & ~audits.c.deleting
        row = connection.execute(select(audits).where(mine).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(f"there is no audit {audit_id}")
        AUDIT_LABELS.change(connection, audit_id, labels or {}, f"audit {audit_id}")
        merged = merge_patch(json.loads(row.metadata), metadata or {})
        require_small_metadata(merged)
        connection.execute(update(audits).where(mine).values(metadata=to_json(merged)))

    db.run_transaction(change)


def merge_patch(value: Any, patch: Any) -> Any:
    """What a JSON merge patch (RFC 7396) makes of a value."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(value) if isinstance(value, Mapping) else {}
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), change)
    return merged
