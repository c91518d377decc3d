"""/audits/{id}/result: the report of an audit, with its pictures, as far as one wants to see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import structlog
from flask import Response, request
from jinja2 import TemplateError

from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_store
from services.gateway.report_reading import ReportReader, UnreadableReport, find_report
from services.gateway.submission import AUDIT_ID, require_id_format
from shared.errors import InvalidRequest
from shared.jobs.records import Artifact, Audit
from shared.reporting.chosen_rows import BY_AUDIT, ORDERS, ROWS_PER_PAGE, RowChoice, RowIndex
from shared.reporting.overview import OUTCOMES
from shared.reporting.page import Excerpt, Parts, render_parts
from shared.reporting.picture_file import ReportPictures
from shared.reporting.pictures import Key, get_row_key
from shared.roles import Role

pages = make_pages("result")
log = structlog.get_logger()

MAX_VALUE_CHARS = 500  # of a filter: names of methods have their parameters in them
MAX_NUMBER = 2**63 - 1
FIELDS = ("unlearning", "defense", "attack", "outcome", "seed", "sort")
MALFORMED = (KeyError, TypeError, AttributeError, ValueError, IndexError, TemplateError)
IN_PAGE = "they are in the HTML report, which you can download"


@dataclass(frozen=True)
class Result:
    """What the page shows.

    pictures_note: why pictures are missing, or why some are; None if none are.
    pages: of the rows, how many.
    """

    audit: Audit
    index: RowIndex
    choice: RowChoice
    excerpt: Excerpt
    total: int
    parts: Parts
    pictures_note: str | None

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // ROWS_PER_PAGE))

    def link(self, **changes: str | int | None) -> str:
        """The address of this page with other values of the filters."""
        choice = self.choice
        values = {
            "unlearning": choice.unlearning,
            "defense": choice.defense,
            "attack": choice.attack,
            "outcome": choice.outcome,
            "seed": choice.seed,
            "sort": None if choice.order == BY_AUDIT else choice.order,
            "page": None if choice.page == 1 else choice.page,
        } | changes
        query = urlencode({name: value for name, value in values.items() if value is not None})
        return f"/audits/{self.audit.id}/result" + (f"?{query}" if query else "")


def read_choice(args: Mapping[str, str]) -> RowChoice:
    """The filters of an address; empty ones ask for nothing.

    Raises:
        InvalidRequest: unknown, too long, or no number.
    """
    for name in args:
        if name not in (*FIELDS, "page"):
            raise InvalidRequest("there is no such filter", name[:40])
    values = {name: args.get(name, "") for name in (*FIELDS, "page")}
    for name, value in values.items():
        if len(value) > MAX_VALUE_CHARS:
            raise InvalidRequest(f"longer than {MAX_VALUE_CHARS} characters", name)
    page = _read_number("page", values["page"])
    return RowChoice(
        unlearning=values["unlearning"] or None,
        defense=values["defense"] or None,
        attack=values["attack"] or None,
        outcome=values["outcome"] or None,
        seed=_read_number("seed", values["seed"]),
        order=values["sort"] or BY_AUDIT,
        page=1 if page is None else page,
    )


def _read_number(field: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > MAX_NUMBER:
        raise InvalidRequest("give a whole number", field)
    return int(text)


@pages.get("/audits/<audit_id>/result")
def show(audit_id: str) -> Response:
    """The page."""
    store = current_store()
    audit = store.get_audit(require_id_format(audit_id, AUDIT_ID, "audit"))
    choice = read_choice(request.args)
    by_audit = find_report(store, audit.id)
    reader = ReportReader.of_request()
    result, problem = None, None
    if Role.REPORT in by_audit.artifacts:
        try:
            index = reader.read(by_audit.artifacts[Role.REPORT])
            with reader.limit_large(len(index.report.rows)):
                result = build_result(audit, index, choice, reader, by_audit.artifacts)
        except UnreadableReport as error:
            problem = str(error)
    return render_page(
        "result.html",
        HTTPStatus.OK,
        audit=audit,
        report_job=by_audit.job,
        artifacts=by_audit.artifacts,
        roles=Role,
        result=result,
        problem=problem,
        orders=ORDERS,
        outcome_names=OUTCOMES,
        rows_per_page=ROWS_PER_PAGE,
    )


def build_result(
    audit: Audit,
    index: RowIndex,
    choice: RowChoice,
    reader: ReportReader,
    artifacts: Mapping[str, Artifact],
) -> Result:
    """What the page shows of a report.

    Raises:
        InvalidRequest: the report has no such rows.
        UnreadableReport: its parts do not fit together.
        TransientError: the artifact store did not answer.
    """
    excerpt, total = index.choose(choice)
    pictures, note = load_pictures(reader, artifacts, want_pictures(index, excerpt))
    try:
        parts = render_parts(index.report, pictures.galleries, pictures.unscored, excerpt)
    except MALFORMED as error:  # parts of any shape: parameters, threat models, the audit itself
        log.warning("a report cannot be shown", audit=audit.id, error=repr(error))
        raise UnreadableReport("its parts do not fit together") from error
    return Result(audit, index, choice, excerpt, total, parts, note)


def want_pictures(index: RowIndex, excerpt: Excerpt) -> Callable[[Key], bool]:
    """Which pictures to read: of the rows that are shown, and of the one that the verdict
    describes."""
    keys = {get_row_key(row)[1:] for _, row in excerpt.rows}
    place = index.report.verdict.row
    if place is not None and place <= len(index.report.rows):
        keys.add(get_row_key(index.report.rows[place - 1])[1:])
    return lambda key: key[1:] in keys


def load_pictures(
    reader: ReportReader, artifacts: Mapping[str, Artifact], is_wanted: Callable[[Key], bool]
) -> tuple[ReportPictures, str | None]:
    """The pictures, or none and the reason.

    Raises:
        TransientError: the artifact store did not answer.
    """
    artifact, page = artifacts.get(Role.REPORT_PICTURES), artifacts.get(Role.REPORT_HTML)
    has_page = page is not None and page.expired_at is None
    if artifact is None:
        if not has_page:
            return ReportPictures(), None
        return (
            ReportPictures(),
            f"This report was made by an older version: if it has pictures, {IN_PAGE}.",
        )
    if artifact.expired_at is not None:
        return (
            ReportPictures(),
            "The pictures have expired: this service keeps them for a limited time.",
        )
    try:
        pictures = reader.read_pictures(artifact, is_wanted)
    except UnreadableReport as error:
        where = f"; {IN_PAGE}" if has_page else ""
        return ReportPictures(), f"The pictures cannot be shown: {error}{where}."
    if pictures.left_out:
        return (
            pictures,
            f"The pictures of {pictures.left_out} rows are too many to be shown here; {IN_PAGE}.",
        )
    return pictures, None
