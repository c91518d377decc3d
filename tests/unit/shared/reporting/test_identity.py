"""What a signature under a report refers to: audit, date, models and data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.reporting import build
from shared.reporting.loading import read_evaluation
from shared.reporting.models import Report, ReportSubmission
from shared.reporting.page import list_identity, render_page
from tests.support.reports import (
    LEAK,
    build_report,
    load_evaluations,
    make_audit,
    make_defense,
    make_forgetting,
    make_image_evaluation,
    make_utility_evaluation,
    plan_rows,
)

AUDIT = "aud_0123456789abcdef0123"
SUBMISSION = ReportSubmission(
    job="job_0123456789abcdef0123", audit=AUDIT, submitted_at="2026-01-02T03:04:05Z"
)


def digest(digit: str) -> str:
    return digit * 64


def make_report(*releases: str, submission: ReportSubmission | None = SUBMISSION) -> Report:
    """A report on one release for each of these digits, of one original."""
    evaluations = []
    for seed, digit in enumerate(releases):
        inputs = {"ORIGINAL": digest("a"), "UNLEARNED": digest(digit), "FORGET_SETS": digest("f")}
        evaluations += [
            make_image_evaluation(**LEAK, seed=seed) | {"inputs": inputs},
            make_utility_evaluation(seed=seed)
            | {"inputs": {**inputs, "TRAINING_SET": digest("e"), "DEFENSE": digest("d")}},
        ]
    loaded = load_evaluations(*evaluations)
    spec = make_audit(seeds=list(range(len(releases))))
    return build.build_report(
        loaded,
        spec,
        plan_rows(spec, loaded),
        "1.2.3",
        submission=submission,
        data_files={"patients.csv": digest("b")},
    )


def test_the_report_names_audit_date_models_and_data() -> None:
    report = make_report("1", "2")
    provenance = report.to_dict()["provenance"]
    assert provenance["submission"] == {
        "job": SUBMISSION.job, "audit": AUDIT, "submitted_at": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    assert provenance["inputs"] == {
        "ORIGINAL": [digest("a")],
        "UNLEARNED": [digest("1"), digest("2")],
        "TRAINING_SET": [digest("e")],
        "FORGET_SETS": [digest("f")],
    }
    assert provenance["data_files"] == {"patients.csv": digest("b")}
    assert [row.inputs["UNLEARNED"] for row in report.rows] == [digest("1"), digest("2")]
    assert dict(list_identity(report)) == {
        "Audit": AUDIT,
        "Submitted": "2026-01-02 03:04:05 UTC",
        "Original models": "a" * 12,
        "Released models": f"{'1' * 12}, {'2' * 12}",
        "Training sets": "e" * 12,
        "Deleted samples": "f" * 12,
        "Data files": f"patients.csv {'b' * 12}",
    }


def test_the_page_has_a_line_for_a_name_and_every_digest() -> None:
    report = make_report("1", "2")
    page = render_page(report, [])
    beside = page[page.index("What was not tested") : page.index("<nav")]
    for words in (AUDIT, "2026-01-02 03:04:05 UTC", "a" * 12, "Name", "Date and signature"):
        assert words in beside
    assert page.count("Date and signature") == 1
    assert f"palimpsest report {AUDIT}" in page
    assert "palimpsest verify FOLDER --key FILE" in page
    assert f"palimpsest repeat report-{AUDIT} --row 1" in page
    for digit in "aefb12":
        assert digest(digit) in page


def test_retrained_models_that_releases_were_compared_with_are_named() -> None:
    """Once, though both releases were compared with the same."""
    spec = make_audit(defenses=["none", "pruning"])
    pruned = make_defense("pruning", share=0.5)
    compared = {"ORIGINAL": digest("a"), "RETRAINED": digest("c"), "RETRAINING": digest("9")}
    report = build_report(
        spec,
        *(make_image_evaluation(**LEAK, released=released) for released in (None, pruned)),
        forgetting=[
            make_forgetting(1.0, released=released) | {"inputs": compared}
            for released in (None, pruned)
        ],
    )
    assert report.provenance.inputs == {"ORIGINAL": [digest("a")], "RETRAINED": [digest("c")]}
    assert dict(list_identity(report))["Retrained models"] == "c" * 12


def test_many_models_are_counted() -> None:
    identity = dict(list_identity(make_report(*"123456")))
    assert identity["Released models"].endswith(f"{'4' * 12} and 2 more")


def test_a_report_that_no_store_knows_says_nothing_of_it() -> None:
    report = make_report("1", submission=None)
    assert dict(list_identity(report))["Audit"] == "an audit"
    page = render_page(report, [])
    assert "palimpsest repeat" not in page
    by_hand = SUBMISSION.model_copy(update={"audit": None})
    assert dict(list_identity(make_report("1", submission=by_hand)))["Audit"] == (
        f"report job {SUBMISSION.job}"
    )


@pytest.mark.parametrize(
    "inputs",
    [
        {"ORIGINAL": "x" * 64},
        {"ORIGINAL": "a" * 63},
        {"<script>": digest("a")},
        {f"R{i}": digest("a") for i in range(65)},
        [],
    ],
)
def test_what_an_evaluation_says_of_its_inputs_is_bounded(inputs: Any) -> None:
    evaluation = make_image_evaluation(**LEAK) | {"inputs": inputs}
    with pytest.raises(InvalidRequest, match="EVALUATION_1"):
        read_evaluation(json.dumps(evaluation).encode(), "EVALUATION_1")
