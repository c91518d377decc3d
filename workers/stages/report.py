"""Builds an audit's report from its evaluations: report.json, one HTML page, and its pictures."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from shared import VERSION
from shared.jobs.spec import MAX_JOBS, PlannedMeasurement, PlannedRetention, PlannedRow
from shared.jobs.summaries import make_verdict_summary
from shared.plugins import Params
from shared.reporting.build import build_report
from shared.reporting.comparisons import read_comparison
from shared.reporting.forgetting import read_forgetting
from shared.reporting.kept import count_samples, list_kept
from shared.reporting.loading import read_evaluation
from shared.reporting.measurements import read_metrics
from shared.reporting.models import ReportSubmission
from shared.reporting.page import render_page
from shared.reporting.picture_file import MEDIA_TYPE, write_pictures
from shared.reporting.pictures import Gallery, UnscoredGallery, select_galleries
from shared.reporting.selftests import read_self_test
from shared.roles import Role
from shared.wiring import RunWhen, Scope, Wiring
from workers.context import JobContext, StageOutput, Submission
from workers.stages import registry
from workers.stages._galleries import draw_gallery
from workers.stages._pictures import read_pictures


class ReportParams(Params):
    audit: dict[str, Any] = Field(description="the audit as submitted")
    rows: list[PlannedRow] = Field(
        max_length=MAX_JOBS,
        description=(
            "the rows of the audit, in the order of the report; evaluations that no row names "
            "come last"
        ),
    )
    measurements: list[PlannedMeasurement] = Field(
        default_factory=list,
        max_length=MAX_JOBS,
        description="measurements of further stages, and the methods they belong to",
    )
    retention: PlannedRetention | None = Field(
        None, description="for how many days the service keeps what the report tells of"
    )


@registry.register(
    "report",
    params=ReportParams,
    uses=(Role.SELF_TEST,),
    many=(Role.EVALUATION, Role.PICTURES, Role.METRICS, Role.FORGETTING, Role.COMPARISON),
    produces=(Role.REPORT, Role.REPORT_HTML, Role.REPORT_PICTURES),
    run_when=RunWhen.ALL_FINISHED,
    wiring=Wiring(scopes=(Scope.REPORT,), optional_needs=(Role.SELF_TEST,)),
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Combine all evaluations of an audit into a verdict with caveats, and list missing rows.

    Raises:
        InvalidRequest: `audit` is not valid, a row names a method that it does not have, or an
            input is not what its role says.
    """
    params: ReportParams = ctx.params
    evaluations = {
        role: read_evaluation(ctx.inputs[role], role)
        for role in _list_numbered_roles(ctx, Role.EVALUATION)
    }
    self_test = (
        read_self_test(ctx.inputs[Role.SELF_TEST], Role.SELF_TEST)
        if Role.SELF_TEST in ctx.inputs
        else None
    )
    metrics = {
        role: read_metrics(ctx.inputs[role], role)
        for role in _list_numbered_roles(ctx, Role.METRICS)
    }
    pictures = [
        read_pictures(ctx.inputs[role], role) for role in _list_numbered_roles(ctx, Role.PICTURES)
    ]
    forgetting = {
        hashlib.sha256(ctx.inputs[role]).hexdigest(): read_forgetting(ctx.inputs[role], role)
        for role in _list_numbered_roles(ctx, Role.FORGETTING)
    }
    left_out = list(dict.fromkeys(reason for one in pictures for reason in one.left_out))
    submission = ctx.load_submission()
    report = build_report(
        evaluations,
        params.audit,
        params.rows,
        VERSION,
        self_test,
        params.measurements,
        metrics,
        left_out,
        submission=_describe_submission(submission) if submission else None,
        data_files=submission.data_files if submission else {},
        forgetting=forgetting,
        comparisons=[
            read_comparison(ctx.inputs[role], role)
            for role in _list_numbered_roles(ctx, Role.COMPARISON)
        ],
    )
    selected = select_galleries(report.rows, [each for one in pictures for each in one.shown])
    drawn = []
    for _, of_one in selected:
        drawn.append(draw_gallery(of_one))
        ctx.report_progress(len(drawn), len(selected) + 1)
    shown = [one for one in drawn if isinstance(one, Gallery | UnscoredGallery)]
    samples = count_samples([one.pictures for one in shown])
    report = report.model_copy(
        update={"kept": list_kept(params.retention, params.audit, samples, len(report.rows))}
    )
    galleries = [one for one in drawn if isinstance(one, Gallery)]
    unscored = [one for one in drawn if isinstance(one, UnscoredGallery)]
    page = render_page(report, galleries, unscored)
    picture_archive = write_pictures(galleries, unscored)
    ctx.report_progress(len(selected) + 1, len(selected) + 1)
    ctx.set_summary(make_verdict_summary(report.verdict.level, report.verdict.headline))
    return {
        Role.REPORT: StageOutput.of_json(report.to_dict()),
        Role.REPORT_HTML: StageOutput(page.encode(), "text/html"),
        Role.REPORT_PICTURES: StageOutput(picture_archive, MEDIA_TYPE),
    }


def _describe_submission(submission: Submission) -> ReportSubmission:
    at = datetime.fromtimestamp(submission.submitted_at, UTC).isoformat(timespec="seconds")
    return ReportSubmission(
        job=submission.job, audit=submission.audit, submitted_at=at.replace("+00:00", "Z")
    )


def _list_numbered_roles(ctx: JobContext, role: str) -> list[str]:
    """The available ones of ROLE_1, ROLE_2, ..., in that order."""
    numbers = [name.removeprefix(f"{role}_") for name in ctx.inputs if name.startswith(f"{role}_")]
    return [f"{role}_{number}" for number in sorted(numbers, key=int)]
