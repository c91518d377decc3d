"""Reports of audits as the gateway shows them: found by their audit, read once, and bounded.

A report is a worker's bytes: it is refused if it is too large or not of its shape. Parsing 10,000
rows takes seconds of CPU, so one request at a time does it, and parsed reports are kept until
others need the place. Pictures of samples are never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from services.gateway.artifact_repair import stream_verified
from services.gateway.deps import GatewayDeps, current_gateway, current_store
from services.gateway.planning_limiter import PlanningLimiter
from services.gateway.report_cache import ReportCache
from shared.errors import DamagedArtifact, InvalidRequest, NotFound, TransientError
from shared.jobs.filters import JobFilter
from shared.jobs.records import Artifact, Job
from shared.jobs.tenant_store import TenantStore
from shared.reporting import picture_file
from shared.reporting.chosen_rows import RowIndex
from shared.reporting.evaluations import parse_record
from shared.reporting.models import Report
from shared.reporting.picture_file import ReportPictures, read_pictures
from shared.reporting.pictures import Key
from shared.roles import Role

REPORT_STAGE = "report"
MAX_REPORT_BYTES = 48 << 20  # 10,000 rows take about 30 MiB
QUICK_BYTES = 256 << 10  # parsed in a few milliseconds, which nobody has to wait for

QUICK_ROWS = 2500  # a page of as many takes a quarter of a second of CPU


class UnreadableReport(Exception):
    """A report, or its pictures, cannot be shown: the message says why."""


@dataclass(frozen=True)
class FoundReport:
    """The report job of an audit, and its artifacts by role; none before it has ended."""

    job: Job | None
    artifacts: dict[str, Artifact]


def find_report(store: TenantStore, audit_id: str) -> FoundReport:
    """The report of an audit, in one query."""
    jobs = store.list_jobs(filters=JobFilter(audit=audit_id, stage=REPORT_STAGE), limit=8).items
    by_job = [(job, {one.role: one for one in job.artifacts}) for job in jobs]
    for job, artifacts in by_job:
        if Role.REPORT in artifacts:
            return FoundReport(job, artifacts)
    return FoundReport(jobs[0] if jobs else None, {})


@dataclass(frozen=True)
class ReportReader:
    """Reads the reports of one tenant."""

    deps: GatewayDeps
    store: TenantStore
    cache: ReportCache
    limiter: PlanningLimiter

    @classmethod
    def of_request(cls) -> ReportReader:
        """That of the tenant of this request."""
        gateway = current_gateway()
        return cls(gateway.deps, current_store(), gateway.report_cache, gateway.planning_limiter)

    def read(self, artifact: Artifact) -> RowIndex:
        """A report, with an index of its rows.

        Raises:
            UnreadableReport: too large, no report that this version can read, or lost.
            TransientError: the store did not answer, it is being rebuilt, or the gateway is busy.
        """
        cached = self.cache.get(self.store.tenant, artifact.sha256)
        if cached is not None:
            return cached
        if artifact.size > MAX_REPORT_BYTES:
            raise UnreadableReport(
                f"it has {artifact.size >> 20} MiB, and pages show at most {MAX_REPORT_BYTES >> 20}"
            )
        data = self._read_bytes(artifact)
        if artifact.size > QUICK_BYTES:
            with self.limiter.acquire():
                index = self.cache.get(self.store.tenant, artifact.sha256) or _parse(data)
        else:
            index = _parse(data)
        self.cache.put(self.store.tenant, artifact.sha256, index, artifact.size)
        return index

    def limit_large(self, rows: int) -> AbstractContextManager[None]:
        """To be held while a page of so many rows is made: of large ones, one at a time.

        Raises:
            TransientError: too many others wait.
        """
        return self.limiter.acquire() if rows > QUICK_ROWS else nullcontext()

    def read_pictures(self, artifact: Artifact, is_wanted: Callable[[Key], bool]) -> ReportPictures:
        """The pictures of the rows that are wanted.

        Raises:
            UnreadableReport, TransientError: as `read`.
        """
        if artifact.size > picture_file.MAX_BYTES + picture_file.MAX_INDEX_BYTES:
            raise UnreadableReport("they are too many")
        data = self._read_bytes(artifact)
        try:
            return read_pictures(data, is_wanted)
        except InvalidRequest as error:
            raise UnreadableReport(str(error)) from error

    def read_small(self, artifact: Artifact, max_bytes: int) -> bytes | None:
        """The bytes of an artifact; None if there are too many of them, or they cannot be had."""
        if artifact.size > max_bytes:
            return None
        try:
            return self._read_bytes(artifact)
        except (UnreadableReport, TransientError):
            return None

    def _read_bytes(self, artifact: Artifact) -> bytes:
        try:
            return b"".join(stream_verified(self.deps, self.store, artifact))
        except DamagedArtifact as error:
            raise TransientError(f"{artifact.role} is being rebuilt") from error
        except NotFound as error:  # lost, or expired meanwhile
            raise UnreadableReport(str(error)) from error


def _parse(data: bytes) -> RowIndex:
    try:
        return RowIndex(parse_record(Report, data, Role.REPORT, MAX_REPORT_BYTES))
    except InvalidRequest as error:
        raise UnreadableReport(str(error)) from error
