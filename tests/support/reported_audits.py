"""Audits that have ended with a report of the test's choice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.jobs import completion
from shared.jobs.records import Artifact
from shared.reporting.models import Report
from shared.reporting.page import render_page
from shared.reporting.picture_file import MEDIA_TYPE, write_pictures
from shared.reporting.pictures import Gallery
from shared.roles import Role
from tests.support.gateway import ManualWorker

JSON_TYPE = "application/json"


def finish_with_report(
    worker: ManualWorker, files: Mapping[Role, bytes], evaluations: Sequence[bytes] = ()
) -> None:
    """Finish every queued job; a report job makes these files, and each job that evaluates the
    next of the evaluations."""
    left = list(evaluations)
    while claim := worker.try_claim():
        if claim.job.stage == "report":
            made = files
        elif claim.job.stage == "evaluate" and left:
            made = {Role.EVALUATION: left.pop(0)}
        else:
            worker.finish(claim, claim.job.id.encode(), "application/octet-stream")
            continue
        types = {Role.REPORT_HTML: "text/html", Role.REPORT_PICTURES: MEDIA_TYPE}
        artifacts = [
            Artifact(role, worker.artifacts.put(data), len(data), types.get(role, JSON_TYPE))
            for role, data in made.items()
        ]
        job = claim.job
        completion.finish_job(
            worker.db, job.id, claim.fence, artifacts, cache_key=job.request_key, code=job.code
        )


def make_files(report: Report, galleries: Sequence[Gallery] = ()) -> dict[Role, bytes]:
    """What a report job makes of a report."""
    return {
        Role.REPORT: json.dumps(report.to_dict()).encode(),
        Role.REPORT_HTML: render_page(report, galleries).encode(),
        Role.REPORT_PICTURES: write_pictures(galleries),
    }


def post_audit(gateway: Any, audit: Mapping[str, Any]) -> str:
    """Submit it to a gateway of the tests' process; its id."""
    answer = gateway.http.post("/v1/audits", json=audit)
    assert answer.status_code == 202, answer.get_data(as_text=True)
    return str(answer.get_json()["id"])
