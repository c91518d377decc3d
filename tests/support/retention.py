"""A job store whose clock goes as fast as a test wants, and the collector of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import literal_column

from shared.artifacts import ArtifactStore
from shared.errors import NotFound
from shared.jobs import completion
from shared.jobs.collector import Collector
from shared.jobs.database import NOW_SQL, Database
from shared.jobs.records import Artifact, Input
from shared.jobs.retention import DAY_S, Retention
from shared.jobs.submit import AuditRequest
from tests.support.job_store import (
    ALICE,
    CODE_DIGEST,
    JobStore,
    compute_sha256,
    make_planned_job,
)

# as the defaults, but that audits end too
RETENTION = Retention(
    uploads_s=30 * DAY_S,
    idempotency_s=DAY_S,
    checkpoints_s=7 * DAY_S,
    events_s=30 * DAY_S,
    previews_s=DAY_S,
    reconstructions_s=30 * DAY_S,
    jobs_s=90 * DAY_S,
    audits_s=365 * DAY_S,
    log_s=365 * DAY_S,
    catalogs_s=30 * DAY_S,
)


class Shelf:
    """A job store and an artifact store, the days of which a test counts."""

    def __init__(self, store: JobStore, retention: Retention = RETENTION) -> None:
        self.jobs, self.db, self.days = store, store.db, 0.0
        self.artifacts = ArtifactStore.from_url("memory://")
        self.collector = make_collector(self.db, self.artifacts, retention)

    def set_day(self, days: float) -> None:
        """So many days after the start of the test."""
        self.db.now = literal_column(f"({NOW_SQL[self.db.dialect]} + {days * DAY_S})")

    def collect_on(self, days: float) -> dict[str, int]:
        """Everything that is old enough on that day; how many of each kind."""
        self.set_day(days)
        return collect_all(self.collector)

    def submit(
        self, *tags: str, audit: bool = True, parents: Sequence[str] = (), tenant: str = ALICE
    ) -> list[str]:
        """Jobs, each of which takes the result of the one before it; ids."""
        inputs: list[str | Input] = [*parents]
        planned = []
        for tag in tags:
            planned.append(make_planned_job(tag, *inputs))
            inputs = [Input("IN0", planned[-1].request_key, "OUT")]
        asked = AuditRequest(f"audit {tags}", {}) if audit else None
        result = self.jobs.submit(*planned, audit=asked, tenant=tenant)
        return [result.jobs[one.request_key] for one in planned] + (
            [str(result.audit)] if audit else []
        )

    def run(self, role: str = "OUT", data: bytes | None = None) -> str:
        """The next job of the queue succeeds; its artifact's digest."""
        claim = self.jobs.claim_one()
        made = data or f"bytes of {claim.job.params['tag']}".encode()
        sha256 = self.artifacts.put(made)
        stored = Artifact(role, sha256, len(made), "text/plain")
        completion.finish_job(
            self.db, claim.job.id, claim.fence, [stored],
            cache_key=compute_sha256(f"content of {claim.job.request_key}"), code=CODE_DIGEST,
        )  # fmt: skip
        return sha256

    def has_bytes(self, sha256: str) -> bool:
        try:
            self.artifacts.get(sha256)
        except NotFound:
            return False
        return True


def make_collector(db: Database, artifacts: ArtifactStore, retention: Retention) -> Collector:
    """One with time enough for everything in one round."""
    return Collector(db, artifacts, retention, round_s=3600)


def collect_all(collector: Collector) -> dict[str, int]:
    """As a reconciler that was just started: nothing is passed over."""
    fresh = replace(collector, _walks={}, _rare_at=-float("inf"), round_s=3600)
    return fresh.collect()
