"""What further stages measured: it may be anyone's, and it is told of what it is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from shared.jobs.spec import PlannedMeasurement, PlannedRow
from shared.reporting.build import build_report
from shared.reporting.formatting import format_measurement
from shared.reporting.measurements import read_metrics
from shared.reporting.models import Report
from shared.reporting.page import render_page
from tests.support.reports import (
    LEAK,
    load_evaluations,
    make_audit,
    make_image_evaluation,
    make_method,
    make_utility_evaluation,
)

GOOD = b'{"distance":1e9,"share":1e-5,"tensors":4}'
WRONG = {
    b"none": "METRICS_1 is not JSON",
    b"[1]": "METRICS_1: ",
    b'{"a":NaN}': "METRICS_1 is not JSON",
    b'{"a":"\\ud800"}': "METRICS_1 is not JSON",
    b'{"a":1e13}': "METRICS_1.a: ",
    b'{"a":null}': "METRICS_1.a: ",
    b'{"a":true}': "METRICS_1.a: ",
    b'{"a":{"b":1}}': "METRICS_1.a: ",
    json.dumps({"a" * 61: 1}).encode(): "METRICS_1.",
    json.dumps({str(i): i for i in range(65)}).encode(): "METRICS_1: ",
    json.dumps({"a" * 2000: "<b>"}).encode(): "METRICS_1.",
    b'{"a":1}' + b" " * (64 << 10): "METRICS_1 is larger than 64 KiB",
    b"[" * 30_000: "METRICS_1 is not JSON",
}


def told(
    *planned: dict[str, Any],
    spec: dict[str, Any] | None = None,
    rows: list[PlannedRow] | None = None,
    evaluations: tuple[dict[str, Any], ...] = (),
    **metrics: bytes,
) -> Report:
    of = [
        PlannedMeasurement(stage="drift", metrics=f"METRICS_{i}", **one)
        for i, one in enumerate(planned, start=1)
    ]
    read = {role: read_metrics(data, role) for role, data in metrics.items()}
    return build_report(
        load_evaluations(*evaluations), spec or make_audit(), rows or [], "1.2.3", None, of, read
    )


def lines(report: Report) -> list[tuple[str, str]]:
    """What each line of the table is of, and what was measured."""
    page = render_page(report, [])
    section = page[page.index('id="measured"') :]
    section = section[: section.index("</section>")]
    rows = re.findall(
        r'"Subject" class="text"><div>(.*?)</div>.*?"Measured" class="text"><div>(.*?)</div>',
        section,
        re.DOTALL,
    )
    return [(re.sub(r"<[^>]*>", "", of), re.sub("<br>", "; ", numbers)) for of, numbers in rows]


@pytest.mark.parametrize("data", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_read_costs_its_own_line_only_and_says_why(data: bytes) -> None:
    report = told({"seed": 0}, {"seed": 1}, METRICS_1=data, METRICS_2=GOOD)
    wrong, good = report.measurements
    assert wrong.numbers is None
    assert (wrong.reason or "").startswith(f"cannot be read: {WRONG[data]}")
    assert len(wrong.reason or "") < 400
    assert (good.numbers, good.reason) == (json.loads(GOOD), None)
    (_, first), (_, second) = lines(report)
    assert first.startswith("cannot be read: METRICS_1")
    assert second == "distance: 1,000,000,000; share: 1e−05; tensors: 4"
    assert Report.model_validate(json.loads(json.dumps(report.to_dict()))) == report


def test_what_did_not_arrive_is_missing() -> None:
    report = told({"seed": 0})
    assert report.measurements[0].reason == "missing: the job failed or was cancelled"
    assert lines(report) == [("seed 0", "missing: the job failed or was cancelled")]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"), (4.0, "4"), (-4096.0, "−4,096"), (1e12, "1,000,000,000,000"), (12345.6, "12,345.6"),
        (0.00001, "1e−05"), (-0.0004567, "−0.000457"), (0.731, "0.731"), (99.96, "100"), (1.5, "1.5"),
    ],
)  # fmt: skip
def test_numbers_of_any_size_are_formatted(value: float, words: str) -> None:
    assert format_measurement(value) == words


TWO = [{"name": "obfuscation", "params": {"noise": v}} for v in (0.1, 0.3)]


def test_choices_of_one_method_have_different_names() -> None:
    """By the names that the rest of the report has for them where they came, else by what the audit
    says of them."""
    spec = make_audit(
        unlearning=["gradient_ascent", {"name": "gradient_ascent", "params": {"lr": 0.5}}],
        defenses=TWO,
        attacks=["feature_recovery", {"name": "feature_recovery", "params": {"iterations": 9}}],
    )
    unlearnings = [make_method("gradient_ascent", lr=lr, steps=1) for lr in (0.1, 0.5)]
    defenses = [
        make_method("obfuscation", noise=noise, grid=[1]) | {"strength": None}
        for noise in (0.1, 0.3)
    ]
    attacks = [make_method("feature_recovery", iterations=n, controls=0) for n in (100, 9)]
    places = [(u, d, a) for u in (0, 1) for d in (0, 1) for a in (0, 1)]
    planned = [{"seed": 0, "unlearning": u, "defense": d, "attack": a} for u, d, a in places]
    rows = [
        PlannedRow(**one, evaluation=f"EVALUATION_{i}") for i, one in enumerate(planned, start=1)
    ]
    came = tuple(
        make_image_evaluation(**LEAK, released=defenses[d], attack=attacks[a])
        | {"unlearning": unlearnings[u] | {"exact": False}}
        for u, d, a in places
    )
    known = [of for of, _ in lines(told(*planned, spec=spec, rows=rows, evaluations=came))]
    assert len(set(known)) == 8
    assert known[0] == (
        "gradient_ascent (lr 0.1), obfuscation (noise 0.1), feature_recovery (iterations 100), seed 0"
    )
    asked = [of for of, _ in lines(told(*planned, spec=spec))]
    assert len(set(asked)) == 8
    assert asked[-1] == (
        "gradient_ascent lr: 0.5, obfuscation noise: 0.3, feature_recovery iterations: 9, seed 0"
    )


def test_one_release_is_named_as_in_the_rows_where_its_strength_was_chosen() -> None:
    spec = make_audit(defenses=["none", "pruning"])
    chosen = {"name": "share", "value": 0.3, "reason": "it is", "tried": []}
    released = make_method("pruning", share=0.3, grid=[0.3]) | {"strength": chosen}
    rows = [PlannedRow(seed=0, unlearning=0, defense=1, attack=0, evaluation="EVALUATION_1")]
    report = told(
        {"seed": 0, "unlearning": 0, "defense": 1},
        {"unlearning": 0, "defense": 0},
        spec=spec,
        rows=rows,
        evaluations=(make_image_evaluation(**LEAK, released=released), make_utility_evaluation()),
        METRICS_1=GOOD,
    )
    assert [of for of, _ in lines(report)] == [
        "gradient_ascent, pruning, seed 0",
        "gradient_ascent, no defense, all seeds",
    ]
