"""Days of a busy service, as rows: what users and workers would have left behind."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Table, func, literal_column, select

from shared.artifacts import ArtifactStore
from shared.jobs.bulk_insert import insert_rows
from shared.jobs.database import Database
from shared.jobs.previews import MEDIA_TYPE, SIGNATURE
from shared.jobs.retention import DAY_S
from shared.jobs.tables import (
    UPLOAD_ORIGIN,
    artifacts,
    audit_jobs,
    audits,
    catalogs,
    events,
    idempotency,
    job_artifacts,
    job_inputs,
    jobs,
    metadata,
    plugin_sets,
    previews,
    workers,
)

START = 1_700_000_000.0
AUDIT_SIZE = 50  # jobs, each of which is made of the one before it
ROLES = ("BASE", "ORIGINAL", "RECONSTRUCTION", "EVALUATION", "REPORT")
TENANTS = ("alice", "bob")


class SimulatedDays:
    """A database whose clock stands at the end of the day that was added last."""

    def __init__(self, db: Database, store: ArtifactStore) -> None:
        self.db, self.store, self.day = db, store, 0

    def add_day(self, job_count: int) -> None:
        """A day on which so many jobs have ended; every second audit's worth was posted by hand."""
        began = START + self.day * DAY_S
        self.day += 1
        rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in metadata.sorted_tables}
        rows[plugin_sets].append({"digest": f"set {self.day}", "stage": "s", "plugins": "[]"})
        rows[catalogs].append({"digest": f"{self.day}", "body": "[]", "published_at": began})
        rows[workers].append({
            "id": f"w{self.day}", "host": "h", "pid": 1, "stages": "[]", "device": "cpu",
            "threads": 1, "versions": "{}", "catalog": f"{self.day}", "started_at": began,
            "seen_at": began, "drain": False,
        })  # fmt: skip
        for n in range(0, job_count, AUDIT_SIZE):
            at = began + n * DAY_S / job_count
            self._add_group(rows, TENANTS[n % 2], at, n // AUDIT_SIZE % 2 == 0)
        with self.db.write() as connection:
            for table, some in rows.items():
                for start in range(0, len(some), 50_000):
                    insert_rows(connection, table, some[start : start + 50_000])
        self.db.now = literal_column(repr(began + DAY_S))

    def _add_group(
        self, rows: dict[Table, list[dict[str, Any]]], tenant: str, at: float, in_audit: bool
    ) -> None:
        audit = f"aud_{secrets.token_hex(8)}"
        if in_audit:
            rows[audits].append(
                {"id": audit, "tenant": tenant, "name": "a", "spec": "{}", "created_at": at}
            )
        key = {"tenant": tenant, "key": audit, "body": "", "answer": f'{{"audit":"{audit}"}}'}
        rows[idempotency].append({**key, "created_at": at})
        upload = self._store_artifact(rows, tenant, UPLOAD_ORIGIN, at, at + DAY_S)
        parent = None
        for n in range(AUDIT_SIZE):
            job, role = f"job_{secrets.token_hex(8)}", ROLES[n % len(ROLES)]
            rows[jobs].append({
                "id": job, "tenant": tenant, "stage": "s", "params": "{}", "seed": 0,
                "produces": "[]", "state": "succeeded", "priority": 0, "request_key": job,
                "dedup_key": job, "cache_key": job, "code": "c", "no_cache": False,
                "pinned": not in_audit, "plugin_set": f"set {self.day}", "fence": 1, "attempt": 1,
                "lost_count": 0, "progress": "{}", "created_at": at + n, "finished_at": at + n,
                "version": 1, "event_seq": 4,
            })  # fmt: skip
            if role == "RECONSTRUCTION":
                rows[previews].append({
                    "job": job, "tenant": tenant, "step": 1, "total": 2, "media_type": MEDIA_TYPE,
                    "body": SIGNATURE, "made_at": at + n,
                })  # fmt: skip
            if in_audit:
                rows[audit_jobs].append({"audit": audit, "job": job, "detached": False})
            rows[job_inputs].append({
                "job": job, "role": "IN", "parent": parent, "parent_role": "OUT",
                "sha256": None if parent else upload,
            })  # fmt: skip
            state = self.store.put(secrets.token_bytes(40)) if n % 10 == 0 else None
            for seq, kind in enumerate(
                ("state", "checkpoint" if state else "progress", "progress", "state")
            ):
                data = f'{{"sha256":"{state}"}}' if kind == "checkpoint" else "{}"
                rows[events].append(
                    {"job": job, "seq": seq + 1, "at": at + n, "kind": kind, "data": data}
                )
            made = self._store_artifact(rows, tenant, job, at + n, None)
            rows[job_artifacts].append({"job": job, "role": role, "tenant": tenant, "sha256": made})
            parent = job

    def _store_artifact(
        self,
        rows: dict[Table, list[dict[str, Any]]],
        tenant: str,
        origin: str,
        at: float,
        expires_at: float | None,
    ) -> str:
        sha256 = self.store.put(secrets.token_bytes(60))
        rows[artifacts].append({
            "tenant": tenant, "sha256": sha256, "size": 60, "media_type": "text/plain",
            "origin": origin, "created_at": at, "expires_at": expires_at,
        })  # fmt: skip
        return sha256

    def measure(self) -> dict[str, int]:
        """Rows of each table; objects and bytes of the artifact store."""
        with self.db.read() as connection:
            sizes = {
                table.name: int(
                    connection.execute(select(func.count()).select_from(table)).scalar_one()
                )
                for table in metadata.sorted_tables
            }
        stored = list(self.store.list_objects())
        return sizes | {"stored": len(stored), "stored bytes": sum(one.size for one in stored)}
