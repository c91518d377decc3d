"""/jobs/{id}: one job: what it does, what it is made of and who uses it, its log; and what a user
does to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Response
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from services.gateway import job_control
from services.gateway.console._actions import act, describe_done, read_priority, respond_done
from services.gateway.console._pages import make_pages, render_page
from services.gateway.console.audit import estimate_left, list_numbers
from services.gateway.console.job_log import Line, build_log
from services.gateway.console.live import read_now
from services.gateway.console.remedies import find_remedy
from services.gateway.console.troubles import Trouble, find_waiting_troubles
from services.gateway.deps import current_store
from services.gateway.submission import JOB_ID, require_id_format
from shared.jobs.records import Job
from shared.jobs.relatives import Relatives
from shared.jobs.states import LIVE, UNSUCCESSFUL, State
from shared.reporting.loss_curve import draw_loss_curve
from shared.reporting.threat_models import WHITE_BOX_WORDS

pages = make_pages("job")

MAX_EVENTS = 200  # of the log
MAX_RELATIVES = 30  # of each kind
MAX_FILES = 20
MAX_AUDITS = 3  # that are named
MAX_VALUE_CHARS = 600  # of one parameter: those of a report are megabytes


@dataclass(frozen=True)
class JobPage:
    """What the page shows.

    relatives: the jobs that it takes inputs from, and those that take its outputs.
    audit_names: of the first audits that have it, by id.
    behind: the methods that it is made of, with their stages.
    log: newest first.
    last_seq: of the last event in the log; its stream goes on from there.
    has_more: whether the log has older lines.
    curve: the chart of its matching loss, "" without one.
    troubles: why it waits longer than for its turn.
    now: by the database's clock.
    """

    job: Job
    relatives: Relatives
    audit_names: dict[str, str]
    behind: tuple[tuple[str, str], ...]
    log: list[Line]
    last_seq: int
    has_more: bool
    curve: Markup
    troubles: list[Trouble]
    now: float

    @property
    def is_live(self) -> bool:
        return self.job.state in LIVE

    @property
    def left_s(self) -> float | None:
        """See `estimate_left`."""
        return estimate_left(self.job, self.now)

    @property
    def can_retry(self) -> bool:
        return self.job.state in UNSUCCESSFUL

    @property
    def can_pause(self) -> bool:
        return self.job.state is State.QUEUED

    @property
    def can_resume(self) -> bool:
        return self.job.state is State.PAUSED

    @property
    def params(self) -> list[tuple[str, str]]:
        """Parameters as text."""
        return [(name, _describe_value(value)) for name, value in self.job.params.items()]


def _describe_value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"


def read_job_page(job_id: str) -> JobPage:
    """All of it, in a fixed number of queries.

    Raises:
        NotFound: the tenant has no such job.
    """
    store = current_store()
    valid_id = require_id_format(job_id, JOB_ID, "job")
    job, events = store.list_last_events(valid_id, MAX_EVENTS)
    return JobPage(
        job,
        store.read_relatives(job, MAX_RELATIVES),
        store.find_audit_names(job.audits[:MAX_AUDITS]),
        store.find_methods_behind([job.id])[job.id],
        build_log(events),
        events[-1].seq if events else 0,
        bool(events) and events[0].seq > 1,
        draw_loss_curve(store.list_progress(job.id), _read_total(job)),
        find_waiting_troubles({job.stage: int(job.state is State.QUEUED)}),
        read_now(),
    )


def _read_total(job: Job) -> float | None:
    """How many steps there will be, if the worker says a number."""
    total = job.progress.get("total")
    return total if isinstance(total, int | float) else None


def render_job(job_id: str, refused: str = "", status: int = 200) -> Response:
    """The page.

    refused: why what a button says was not done.
    """
    page = read_job_page(job_id)
    return render_page(
        "job.html",
        status,
        page=page,
        files=list(page.job.data_digests.items())[:MAX_FILES],
        max_files=MAX_FILES,
        roles=WHITE_BOX_WORDS,
        max_relatives=MAX_RELATIVES,
        curve=page.curve,
        remedy=find_remedy(page.job.failure or ""),
        numbers=list_numbers(page.job.progress),
        refused=refused,
        done=describe_done(),
    )


@pages.get("/jobs/<job_id>")
def show(job_id: str) -> Response:
    """The page."""
    return render_job(job_id)


def _act(job_id: str, do: Callable[[str], object], done: str) -> AnyResponse:
    """Do it to a job of the tenant; what keeps it from being done is said on its page."""
    valid_id = require_id_format(job_id, JOB_ID, "job")

    def do_and_return() -> AnyResponse:
        do(valid_id)
        return respond_done(f"/jobs/{valid_id}", done)

    return act(do_and_return, lambda text, status: render_job(valid_id, text, status))


@pages.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> AnyResponse:
    """Cancel it: at once if it is not running, within seconds if it is."""
    return _act(job_id, job_control.cancel_job, "job_cancelled")


@pages.post("/jobs/<job_id>/retry")
def retry(job_id: str) -> AnyResponse:
    """Run it again, from its checkpoint if it has one."""
    return _act(job_id, job_control.retry_job, "job_retried")


@pages.post("/jobs/<job_id>/pause")
def pause(job_id: str) -> AnyResponse:
    """Keep it from being claimed."""
    return _act(job_id, current_store().pause_job, "job_paused")


@pages.post("/jobs/<job_id>/resume")
def resume(job_id: str) -> AnyResponse:
    """Let it be claimed again."""
    return _act(job_id, job_control.resume_job, "job_resumed")


@pages.post("/jobs/<job_id>/priority")
def set_priority(job_id: str) -> AnyResponse:
    """Change its priority."""

    def do(job_id: str) -> None:
        current_store().set_job_priority(job_id, read_priority())

    return _act(job_id, do, "job_priority")
