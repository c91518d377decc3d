"""/audits: all audits, newest first."""

from __future__ import annotations

from flask import Response
from pydantic import Field

from services.gateway.console._actions import describe_done
from services.gateway.console._forms import TIMES, make_list_url, read_query, to_local_time
from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_store
from services.gateway.filters import AuditFields
from shared.errors import InvalidRequest
from shared.jobs.filters import AuditFilter
from shared.jobs.paging import PAGE_TOKEN, Page
from shared.jobs.records import Audit

pages = make_pages("audits")

PAGE_SIZE = 25
STATES = ("queued", "running", "succeeded", "failed", "cancelled")


class AuditsQuery(AuditFields):
    """Which audits, and which page of them."""

    page: str | None = Field(None, pattern=PAGE_TOKEN)


@pages.get("/audits")
def show() -> Response:
    """The list. A wrong filter is said beside its field, and nothing is listed."""
    form = read_query(AuditsQuery)
    filters, page = AuditFilter(), Page[Audit]([], None)
    if form.values is not None:
        try:
            filters = form.values.to_audit_filter()
            page = current_store().list_audits(
                filters=filters, limit=PAGE_SIZE, page=form.values.page
            )
        except InvalidRequest as error:
            form.refuse(error)
    return render_page(
        "audits.html",
        422 if form.errors else 200,
        form=form,
        times={name: to_local_time(form.text.get(name, "")) for name in TIMES},
        audits=page.items,
        older=make_list_url("/audits", form, AuditFields, page.next) if page.next else "",
        newest=make_list_url("/audits", form, AuditFields),
        is_filtered=bool(form.text.keys() & AuditFields.model_fields),
        is_first="page" not in form.text,
        states=STATES,
        done=describe_done(),
    )
