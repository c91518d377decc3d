"""Tells of all evaluations of an audit: as data, and as one page."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from shared import VERSION
from shared.jobs.spec import MAX_JOBS, PlannedMeasurement, PlannedRow
from shared.plugins import Params
from shared.reporting.build import build
from shared.reporting.loading import read_evaluation
from shared.reporting.measurements import read_metrics
from shared.reporting.page import render
from shared.reporting.pictures import shown
from shared.reporting.selftests import read_self_test
from shared.roles import Role
from shared.wiring import Scope, Wiring
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._galleries import draw_gallery
from workers.stages._pictures import read_pictures


class ReportParams(Params):
    audit: dict[str, Any] = Field(description="the audit as posted")
    rows: list[PlannedRow] = Field(
        max_length=MAX_JOBS,
        description="the rows that it asks for, in the order of the report; evaluations that none names come last",
    )
    measurements: list[PlannedMeasurement] = Field(
        default_factory=list, max_length=MAX_JOBS, description="what further stages measure, and of what"
    )


@registry.register(
    "report",
    params=ReportParams,
    uses=(Role.SELF_TEST,),
    many=(Role.EVALUATION, Role.PICTURES, Role.METRICS),
    produces=(Role.REPORT, Role.REPORT_HTML),
    tolerant=True,
    wiring=Wiring(scopes=(Scope.REPORT,), asks_for=(Role.SELF_TEST,)),
)
def run(ctx: JobContext) -> dict[str, Output]:
    """Join all evaluations of an audit into a verdict with its limits; rows that did not arrive are listed.

    Raises:
        InvalidRequest: `audit` is none, a row is of a method that it does not have, or an input is not what its role
            says.
    """
    params: ReportParams = ctx.params
    found = {role: read_evaluation(ctx.inputs[role], role) for role in _numbered(ctx, Role.EVALUATION)}
    tested = read_self_test(ctx.inputs[Role.SELF_TEST], Role.SELF_TEST) if Role.SELF_TEST in ctx.inputs else None
    metrics = {role: read_metrics(ctx.inputs[role], role) for role in _numbered(ctx, Role.METRICS)}
    pictures = [read_pictures(ctx.inputs[role], role) for role in _numbered(ctx, Role.PICTURES)]
    left_out = list(dict.fromkeys(reason for one in pictures for reason in one.left_out))
    report = build(found, params.audit, params.rows, VERSION, tested, params.measurements, metrics, left_out)
    picked = shown(report.rows, [each for one in pictures for each in one.shown])
    galleries = []
    for _, of_one in picked:
        galleries.append(draw_gallery(of_one))
        ctx.progress(len(galleries), len(picked) + 1)
    page = render(report, galleries)
    ctx.progress(len(picked) + 1, len(picked) + 1)
    return {Role.REPORT: Output.of_json(report.json_value()), Role.REPORT_HTML: Output(page.encode(), "text/html")}


def _numbered(ctx: JobContext, role: str) -> list[str]:
    """ROLE_1, ROLE_2, ... as far as they came, in that order."""
    numbers = [name.removeprefix(f"{role}_") for name in ctx.inputs if name.startswith(f"{role}_")]
    return [f"{role}_{number}" for number in sorted(numbers, key=int)]
