"""/audits/{id}: how far one audit is, what has failed in it, its graph, and its attacks as they
run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response

from services.gateway.audit_body import describe_submission
from services.gateway.console._actions import describe_done
from services.gateway.console._pages import make_pages, render_page
from services.gateway.console.graph_drawing import Drawing, draw_graph
from services.gateway.console.live import find_revision, read_now, respond_changes
from services.gateway.console.remedies import find_remedy
from services.gateway.console.sparkline import Sparkline, draw_sparkline
from services.gateway.console.troubles import Trouble, find_waiting_troubles
from services.gateway.deps import current_store
from services.gateway.submission import AUDIT_ID, require_id_format
from shared.jobs.audit_graph import AuditFailures, AuditGraph
from shared.jobs.filters import JobFilter
from shared.jobs.records import Artifact, Audit, Job, JobPreview
from shared.jobs.revisions import Topic
from shared.jobs.states import LIVE, UNSUCCESSFUL, Failure, State
from shared.reporting.as_yaml import to_yaml
from shared.roles import Role

pages = make_pages("audit")

MAX_RUNNING = 12
MAX_FAILURES = 6
MAX_PREVIEWS = 24
CURVE_POINTS = 60
ATTACK, REPORT = "attack", "report"  # stages that this page shows in a way of their own


@dataclass(frozen=True)
class AuditPage:
    """What the page shows.

    failures: why jobs have failed.
    previews: the latest pictures of attacks, by seed and method.
    curves: the matching loss of these attacks, by job.
    attacks: those that run and have no picture yet, the newest first.
    running: the other jobs that run, the newest first.
    behind: of these attacks, by job, the methods that it attacks, with their stages.
    report: the artifacts of the report, by role; empty while there is none.
    troubles: why jobs of it wait longer than for their turn.
    now: by the database's clock.
    """

    audit: Audit
    revision: str
    drawing: Drawing
    failures: AuditFailures
    previews: list[JobPreview]
    curves: dict[str, Sparkline | None]
    attacks: list[Job]
    running: list[Job]
    behind: dict[str, tuple[tuple[str, str], ...]]
    report: dict[str, Artifact]
    troubles: list[Trouble]
    now: float

    @property
    def total(self) -> int:
        return sum(self.audit.counts.values())

    @property
    def ended(self) -> int:
        return sum(n for state, n in self.audit.counts.items() if state not in LIVE)

    @property
    def is_live(self) -> bool:
        """Whether jobs of it have not ended."""
        return self.ended < self.total

    @property
    def can_retry(self) -> bool:
        is_failed = any(self.audit.counts.get(state) for state in UNSUCCESSFUL)
        return is_failed and self.audit.cancelled_at is None and not self._is_invalid

    @property
    def _is_invalid(self) -> bool:
        """Whether all of it failed for what was asked, which another run does not change."""
        causes = self.failures.causes
        return (
            0 < len(causes) < MAX_FAILURES
            and not self.audit.counts.get(State.CANCELLED)
            and all(one.failure == Failure.INVALID for one in causes)
        )

    @property
    def has_measured(self) -> bool:
        """Whether its report says more than that jobs have failed."""
        verdict = self.audit.verdict
        return verdict is not None and (
            self.audit.state != "failed" or verdict["level"] != "inconclusive"
        )


def find_audit(audit_id: str) -> Audit:
    """An audit of the tenant. Raises NotFound."""
    return current_store().get_audit(require_id_format(audit_id, AUDIT_ID, "audit"))


def read_audit_page(audit_id: str) -> AuditPage:
    """All of it, in a fixed number of queries.

    Raises:
        NotFound: the tenant has no such audit.
    """
    store = current_store()
    audit = find_audit(audit_id)
    revision = find_revision(Topic(store.tenant, audit.id))

    def list_running(stage: str | None) -> list[Job]:
        filters = JobFilter(audit=audit.id, state=State.RUNNING, stage=stage)
        return store.list_jobs(filters=filters, limit=MAX_RUNNING).items

    previews = store.list_previews(audit.id, MAX_PREVIEWS)
    seen = [one.job for one in previews]
    attacks = [job for job in list_running(ATTACK) if job.id not in seen]
    reports = store.list_jobs(filters=JobFilter(audit=audit.id, stage=REPORT), limit=1).items
    graph = store.read_audit_graph(audit.id)
    return AuditPage(
        audit,
        revision,
        draw_graph(graph),
        store.read_audit_failures(audit.id, MAX_FAILURES),
        previews,
        {
            job: draw_sparkline(points)
            for job, points in store.list_curves(seen, points=CURVE_POINTS).items()
        },
        attacks,
        [job for job in list_running(None) if job.stage != ATTACK],
        store.find_methods_behind([*seen, *(job.id for job in attacks)]),
        {a.role: a for job in reports if job.state is State.SUCCEEDED for a in job.artifacts},
        find_waiting_troubles(count_queued(graph)),
        read_now(),
    )


def count_queued(graph: AuditGraph) -> dict[str, int]:
    """How many jobs of each stage could be taken now."""
    queued: Counter[str] = Counter()
    for group in graph.groups:
        queued[group.stage] += group.counts.get("queued", 0)
    return queued


def list_numbers(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a job measures as it runs, such as its loss, in words."""
    return [
        (name.replace("_", " "), f"{value:.4g}")
        for name, value in progress.items()
        if name not in ("done", "total") and isinstance(value, int | float)
    ]


def estimate_left(job: Job, now: float) -> float | None:
    """For how many seconds a running job goes on at its rate so far; None if nobody can say, as of
    one that went on from a checkpoint."""
    done, total = job.progress.get("done"), job.progress.get("total")
    if job.state is not State.RUNNING or job.started_at is None or job.attempt != 1:
        return None
    if not isinstance(done, int) or not isinstance(total, int) or not 0 < done < total:
        return None
    return max(0.0, now - job.started_at) * (total - done) / done


def merge_step(one: JobPreview) -> dict[str, Any]:
    """The progress of an attack, whichever is newer: what it reported, or the step of its picture."""
    done = one.progress.get("done")
    reported = (
        done if isinstance(done, int) and one.progress.get("total") == one.preview.total else 0
    )
    return {"done": max(reported, one.preview.step), "total": one.preview.total}


def render_audit(audit_id: str, refused: str = "", status: int = 200) -> Response:
    """The page.

    refused: why what a button says was not done.
    """
    return render_page(
        "audit.html",
        status,
        page=read_audit_page(audit_id),
        find_remedy=find_remedy,
        numbers=list_numbers,
        merge_step=merge_step,
        estimate_left=estimate_left,
        refused=refused,
        done=describe_done(),
        roles={"page": Role.REPORT_HTML, "report": Role.REPORT},
    )


@pages.get("/audits/<audit_id>")
def show(audit_id: str) -> Response:
    """The page."""
    return render_audit(audit_id)


@pages.get("/audits/<audit_id>/live")
def follow(audit_id: str) -> Response:
    """Changes of the audit's jobs."""
    return respond_changes(Topic(current_store().tenant, find_audit(audit_id).id))


@pages.get("/audits/<audit_id>/spec.yaml")
def get_spec(audit_id: str) -> Response:
    """What submits this audit again, to be edited and given to `palimpsest audit`."""
    audit = find_audit(audit_id)
    response = Response(
        to_yaml(describe_submission(audit)), content_type="application/yaml; charset=utf-8"
    )
    response.headers["Content-Disposition"] = f'attachment; filename="{audit.id}.yaml"'
    return response
