"""Audits that have ended with a report of the test's choice."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from shared.jobs import completion
from shared.jobs.records import Artifact
from shared.reporting.models import Report
from shared.reporting.page import render_page
from shared.reporting.picture_file import MEDIA_TYPE, write_pictures
from shared.reporting.pictures import Gallery, Picture
from shared.roles import Role
from tests.support.gateway import VERDICT, ManualWorker
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    JSONObject,
    build_report,
    make_audit,
    make_defense,
    make_image_evaluation,
    make_label_evaluation,
    make_utility_evaluation,
)

MEDIA_TYPES: dict[str, str] = {Role.REPORT_HTML: "text/html", Role.REPORT_PICTURES: MEDIA_TYPE}
FORGET_SETS = "ab" * 32


def finish_with_report(
    worker: ManualWorker, files: Mapping[str, bytes], evaluations: Sequence[JSONObject] = ()
) -> None:
    """Finish every queued job; a report job makes these files. The evaluations are artifacts of
    the report job too: whose they are does not matter."""
    encoded = [json.dumps(one).encode() for one in evaluations]
    outputs = {**files, **{f"EVALUATION_{n}": data for n, data in enumerate(encoded, start=1)}}
    while claim := worker.try_claim():
        if claim.job.stage != "report":
            worker.finish(claim, claim.job.id.encode(), "application/octet-stream")
            continue
        artifacts = [
            Artifact(
                role,
                worker.artifacts.put(data),
                len(data),
                MEDIA_TYPES.get(role, "application/json"),
            )
            for role, data in outputs.items()
        ]
        job = claim.job
        completion.finish_job(
            worker.db, job.id, claim.fence, artifacts,
            cache_key=job.request_key, code=job.code, summary=VERDICT,
        )  # fmt: skip


def make_files(report: Report, galleries: Sequence[Gallery] = ()) -> dict[str, bytes]:
    """What a report job makes of a report."""
    return {
        Role.REPORT: json.dumps(report.to_dict()).encode(),
        Role.REPORT_HTML: render_page(report, galleries).encode(),
        Role.REPORT_PICTURES: write_pictures(galleries),
    }


def make_measured_evaluation(
    values: Sequence[float], metric: str = "psnr", **changes: Any
) -> JSONObject:
    """An evaluation with the score of each deletion, of the same deleted samples as others."""
    if metric == "psnr":
        mean = sum(values) / len(values)
        results = LEAK if changes.pop("leaks", True) else NO_LEAK
        results = {**results, "psnr": (mean, mean - 2, mean + 2), **changes}
        evaluation = make_image_evaluation(**results)
    else:
        evaluation = make_label_evaluation(round(sum(values)), (0.4, 0.9), n=len(values), **changes)
    evaluation["metrics"][metric]["values"] = list(values)
    evaluation["inputs"] = {"FORGET_SETS": FORGET_SETS}
    return evaluation


def build_measured_report(
    shift: float = 0.0, **audit: Any
) -> tuple[Report, list[JSONObject], list[Gallery]]:
    """A report on two methods and two defenses whose images are `shift` dB better than those of
    another one, with its evaluations and pictures."""
    before = [20.0, 21.5, 18.7, 22.3, 19.9, 20.4, 23.0, 17.8]
    after = [value + shift * (1 + place / 20) for place, value in enumerate(before)]
    pruned = make_defense("pruning", strength=0.3)
    evaluations = [
        make_measured_evaluation(after),
        make_measured_evaluation([9.0, 8.0, 10.0, 9.5, 8.5, 9.0, 9.2, 8.8], leaks=False, released=pruned),
        make_measured_evaluation(before, unlearning="retrain", leaks=False),
        make_measured_evaluation([1] * 7 + [0], "label_accuracy"),
        make_utility_evaluation(test=0.97 - shift / 100),
        make_utility_evaluation(released=pruned),
    ]  # fmt: skip
    grid = make_audit(
        **{
            "unlearning": ["gradient_ascent", "retrain"],
            "defenses": ["none", "pruning"],
            "attacks": ["feature_recovery", "label_inference"],
            **audit,
        }
    )
    report = build_report(grid, *evaluations)
    galleries = [
        Gallery(row.seed, row.unlearning, row.defense, row.attack, draw_pictures())
        for row in report.rows
        if row.attack.method == "feature_recovery"
    ]
    return report, evaluations, galleries


def build_swept_report() -> Report:
    """A sweep over three strengths of a defense, of which the second one is the operating point."""
    grid = make_audit(
        defenses=[
            "none",
            *({"name": "obfuscation", "params": {"noise": v}} for v in (0.1, 0.3, 1.0)),
        ],
        attacks=["feature_recovery"],
        defend={"max_accuracy_cost": 0.02},
    )
    evaluations = [make_utility_evaluation(test=0.97), make_image_evaluation(**LEAK)]
    for value, test in ((0.1, 0.97), (0.3, 0.96), (1.0, 0.9)):
        released = {
            "method": "obfuscation", "params": {"noise": value, "grid": [1]}, "strength": None,
        }  # fmt: skip
        evaluations += [
            make_utility_evaluation(test=test, forget=0.4, released=released),
            make_image_evaluation(**(LEAK if value == 0.1 else NO_LEAK), released=released),
        ]
    return build_report(grid, *evaluations)


def draw_pictures(count: int = 3) -> list[Picture]:
    """Pictures that a browser can draw: three tones of grey."""
    truth, came_back, baseline = (_draw_tone(tone) for tone in (60, 120, 200))
    return [
        Picture(truth, came_back, baseline, 20.0 + n, 13.0, n, decoys=100, class_name=str(n))
        for n in range(1, count + 1)
    ]


def _draw_tone(tone: int) -> bytes:
    written = io.BytesIO()
    Image.new("L", (28, 28), tone).save(written, "PNG")
    return written.getvalue()
