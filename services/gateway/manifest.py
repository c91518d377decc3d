"""The manifest of an audit's report: what it consists of, what it was made from, and how to repeat
a row, as an in-toto statement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from services.gateway.schemas import format_rfc3339, serialize_job
from shared import VERSION
from shared.errors import Conflict
from shared.jobs.records import Audit, Job
from shared.jobs.tenant_store import TenantStore
from shared.reporting.as_yaml import shorten_choices, to_yaml
from shared.roles import ArtifactFormat, Role

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:palimpsest:manifest:1"
FILE_NAMES = {Role.REPORT: "report.json", Role.REPORT_HTML: "report.html"}
DATA_ROLES = frozenset({Role.TRAINING_SET, Role.FORGET_SETS, Role.PUBLIC, Role.CANDIDATES})
JOB_FIELDS = (
    "id", "stage", "method", "params", "seed", "inputs", "state", "failure", "reused_from", "code",
    "data", "request_key", "cache_key",
)  # fmt: skip
JOBS_PER_PAGE = 200


def build_manifest(store: TenantStore, audit: Audit) -> bytes:
    """The statement on an audit's report. Equal states of the job store give equal bytes.

    Raises:
        Conflict: the audit has no report yet.
    """
    jobs = sorted(_list_jobs(store, audit.id), key=lambda job: job.id)
    report = _find_report(jobs, audit.id)
    digests = {artifact.role: artifact.sha256 for artifact in report.artifacts}
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digests[role]}}
            for role, name in FILE_NAMES.items()
            if role in digests
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "audit": {
                "id": audit.id,
                "name": audit.name,
                "submitted_at": format_rfc3339(audit.created_at),
                "yaml": to_yaml(shorten_choices(dict(audit.spec))),
            },
            "report": {"job": report.id, "finished_at": format_rfc3339(report.finished_at)},
            "palimpsest": VERSION,
            "models": _list_artifacts(
                jobs, {role for role in Role if role.artifact_format is ArtifactFormat.NETWORKS}
            ),
            "data": {
                "sets": _list_artifacts(jobs, DATA_ROLES),
                "files": dict(report.data_digests),
            },
            "self_test": _list_artifacts(jobs, {Role.SELF_TEST}),
            "jobs": [_describe_job(job) for job in jobs],
        },
    }
    return json.dumps(statement, separators=(",", ":"), allow_nan=False).encode()


def _list_jobs(store: TenantStore, audit_id: str) -> Iterator[Job]:
    token: str | None = None
    while True:
        page = store.list_jobs(audit=audit_id, limit=JOBS_PER_PAGE, page=token)
        yield from page.items
        if (token := page.next) is None:
            return


def _find_report(jobs: Sequence[Job], audit_id: str) -> Job:
    for job in jobs:
        if any(artifact.role == Role.REPORT for artifact in job.artifacts):
            return job
    raise Conflict(f"audit {audit_id} has no report yet: its manifest exists once it has one")


def _list_artifacts(
    jobs: Sequence[Job], roles: set[Role] | frozenset[Role]
) -> list[dict[str, str]]:
    return [
        {"role": artifact.role, "job": job.id, "sha256": artifact.sha256}
        for job in jobs
        for artifact in job.artifacts
        if artifact.role in roles
    ]


def _describe_job(job: Job) -> dict[str, Any]:
    serialized = serialize_job(job)
    artifacts = {artifact.role: artifact.sha256 for artifact in job.artifacts}
    return {name: serialized[name] for name in JOB_FIELDS} | {"artifacts": artifacts}
