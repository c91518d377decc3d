"""Bytes in the artifact store that no row refers to: an attempt stored them and could not record
them, because it was killed in between or its job had been given to another.

Nobody can fetch them. They are removed on request only: a second database on the same store would
lose what it refers to.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from itertools import islice

from shared.artifacts import ArtifactStore
from shared.artifacts.store import StoredObject
from shared.jobs.bulk_delete import list_unneeded
from shared.jobs.bulk_insert import insert_rows
from shared.jobs.database import Database
from shared.jobs.mapping import VALUES
from shared.jobs.tables import deleted_artifacts
from shared.jobs.uploads import count_deleted_bytes, remove_deleted_bytes

MIN_AGE_S = 86_400.0  # an attempt may wait for the job store before it records what it has stored


def list_orphans(
    db: Database, store: ArtifactStore, min_age_s: float = MIN_AGE_S
) -> Iterator[StoredObject]:
    """What is in the store, unchanged for `min_age_s` seconds, and in no row of any tenant.

    Raises:
        TransientError: a store did not answer.
    """
    limit = time.time() - min_age_s
    old = (one for one in store.list_objects() if one.changed_at <= limit)
    while batch := list(islice(old, VALUES)):
        needed = _list_needed(db, [one.sha256 for one in batch])
        yield from (one for one in batch if one.sha256 not in needed)


def remove_orphans(db: Database, store: ArtifactStore, digests: Collection[str]) -> None:
    """Remove what `list_orphans` has listed, except what a row refers to by now.

    Raises:
        TransientError: a store did not answer; the reconciler goes on.
    """
    rows = [{"sha256": sha256} for sha256 in sorted(digests)]
    db.run_transaction(lambda c: insert_rows(c, deleted_artifacts, rows, ignore_conflicts=True))
    while count_deleted_bytes(db):
        remove_deleted_bytes(db, store)


def _list_needed(db: Database, digests: Collection[str]) -> set[str]:
    with db.read() as connection:
        return set(digests) - list_unneeded(connection, digests)
