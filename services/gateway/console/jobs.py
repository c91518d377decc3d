"""/jobs: all jobs, newest first; /jobs/cancel: cancel those that a filter selects."""

from __future__ import annotations

from typing import Any, TypeVar

from flask import Response, request
from pydantic import Field
from werkzeug.wrappers import Response as AnyResponse

from services.gateway import job_control
from services.gateway.api.jobs import CancelBody
from services.gateway.console._actions import describe_done, respond_done
from services.gateway.console._forms import TIMES, Form, make_list_url, read_form, read_query
from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_gateway, current_store
from services.gateway.filters import JobFields
from services.gateway.schemas import format_rfc3339
from services.gateway.scopes import require_scope
from shared.errors import InvalidRequest, NotFound
from shared.jobs.bulk_cancel import BulkCancel
from shared.jobs.filters import JobFilter
from shared.jobs.keys import SUBMIT
from shared.jobs.paging import PAGE_TOKEN, Page
from shared.jobs.records import Job
from shared.jobs.states import TERMINAL, State

pages = make_pages("jobs")

PAGE_SIZE = 50
NO_AUDIT = "You have no audit with this id."
Fields = TypeVar("Fields", bound=JobFields)


class JobsQuery(JobFields):
    """Which jobs, and which page of them."""

    page: str | None = Field(None, pattern=PAGE_TOKEN)


def _read_filter(form: Form[Fields]) -> JobFilter | None:
    """The filter of a form; None if something is wrong with it, which the form then says."""
    if form.values is None:
        return None
    try:
        if isinstance(form.values, CancelBody):
            return form.values.to_selection()
        return form.values.to_job_filter()
    except InvalidRequest as error:
        form.refuse(error)
    except NotFound:
        form.errors["audit"] = NO_AUDIT
    return None


@pages.get("/jobs")
def show() -> Response:
    """The list. A wrong filter is said beside its field, and nothing is listed."""
    form, store = read_query(JobsQuery), current_store()
    filters, page = _read_filter(form), Page[Job]([], None)
    if filters is not None and form.values is not None:
        try:
            page = store.list_jobs(filters=filters, limit=PAGE_SIZE, page=form.values.page)
        except InvalidRequest as error:
            form.refuse(error)
    is_filtered = bool(form.text.keys() & JobFields.model_fields)
    return render_page(
        "jobs.html",
        422 if form.errors else 200,
        form=form,
        jobs=page.items,
        behind=store.find_methods_behind([job.id for job in page.items]),
        audit_names=store.find_audit_names(
            {job.audits[0] for job in page.items if job.audits} | _list_audit_ids(form)
        ),
        older=make_list_url("/jobs", form, JobFields, page.next) if page.next else "",
        newest=make_list_url("/jobs", form, JobFields),
        # what ends all that has not ended is a thing to be named
        cancel=make_list_url("/jobs/cancel", form, JobFields)
        if is_filtered and form.text.get("state") not in TERMINAL
        else "",
        is_filtered=is_filtered,
        is_first="page" not in form.text,
        # kept, but not fields of the form
        hidden={n: form.text[n] for n in TIMES if n in form.text},
        stages=current_gateway().catalog_cache.catalog.list_names("stage"),
        states=list(State),
        done=describe_done(),
    )


def _list_audit_ids(form: Form[Fields]) -> set[str]:
    """The audit that a filter names, if it names one."""
    audit = form.text.get("audit")
    return {audit} if audit and not form.errors else set()


def _read_selection(sent: Any) -> Form[CancelBody]:
    return read_form(CancelBody, {n: v for n, v in sent.items() if n in JobFields.model_fields})


@pages.get("/jobs/cancel")
@require_scope(SUBMIT)
def ask_cancel() -> Response:
    """How many jobs the filter selects."""
    form = _read_selection(request.args)
    filters = _read_filter(form)
    return _render_question(form, None if filters is None else job_control.count_selected(filters))


@pages.post("/jobs/cancel")
def cancel() -> AnyResponse:
    """Cancel them. If there are very many, some are left, and the page asks again."""
    form = _read_selection(request.form)
    filters = _read_filter(form)
    if filters is None:
        return _render_question(form, None)
    done = job_control.cancel_selected(filters)
    if done.remaining:
        rest = job_control.count_selected(done.filters)
        return _render_question(form, rest, done.cancelled + done.stopping)
    # the list no longer stops at the last job that there was when the question was asked
    kept = Form[CancelBody]({n: v for n, v in form.text.items() if n != "created_before"})
    list_url = make_list_url("/jobs", kept, JobFields)
    return respond_done(list_url, "jobs_cancelled", n=done.cancelled, more=done.stopping)


def _render_question(
    form: Form[CancelBody], selected: BulkCancel | None, cancelled: int = 0
) -> Response:
    """The page that asks.

    cancelled: how many a first part of the work has cancelled.
    """
    bound = None if selected is None else format_rfc3339(selected.filters.created_before)
    return render_page(
        "jobs_cancel.html",
        422 if form.errors else 200,
        form=form,
        selected=selected,
        audit_names=current_store().find_audit_names(_list_audit_ids(form)),
        cancelled=cancelled,
        sent=dict(form.text) if bound is None else {**form.text, "created_before": bound},
        back=make_list_url("/jobs", form, JobFields),
    )
