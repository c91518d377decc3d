"""The auditor's p-values in a report: in its data, in words beside the row, and marked where there
is no answer."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.ml.statistics import wilson
from shared.reporting.page import render_page
from tests.support.reports import (
    build_report,
    make_audit,
    make_label_evaluation,
    make_utility_evaluation,
)

ASKED = make_audit(attacks=["label_inference"], p_values=True)


def claiming(**change: Any) -> dict[str, Any]:
    """Eight deletions, six named rightly; five are answered, one of them wrongly."""
    told = make_label_evaluation(6, (0.41, 0.93))
    p = [[0.005]] * 4 + [[0.4]] * 2 + [[0.03], [0.9]]
    (low, high), (right_low, right_high) = wilson(1, 8) or (0, 1), wilson(4, 5) or (0, 1)
    told["answers"]["claims"] = {
        "alpha": 0.05, "shadows": 199, "trainings": 22, "p_values": p, "n": 8, "answered": 5, "correct": 4, "wrong": 1,
        "wrong_low": low, "wrong_high": high, "correct_low": right_low, "correct_high": right_high, **change,
    }  # fmt: skip
    return told


def test_a_row_says_how_many_are_answered_and_how_many_wrongly_beside_alpha() -> None:
    made = build_report(ASKED, claiming(), make_utility_evaluation())
    (row,) = made.rows
    assert row.answers is not None
    assert row.answers.claims is not None
    assert row.answers.claims.p_values[6] == [0.03]
    assert row.note is not None
    for words in (
        "from 199 shadow deletions, at alpha 0.05: 5 of 8 deletions answered",
        "4 of them correctly [0.38, 0.96]",
        "1 of 8 incorrectly [0.022, 0.47]",
        "no answer on the other 3.",
    ):
        assert words in row.note
    assert any(
        "P-values of label attacks are computed by the auditor" in limit for limit in made.caveats
    )
    html = render_page(made, [])
    assert html.count("→3?") == 2  # right, and yet no answer
    assert html.count("→5?") == 1
    assert "no answer at alpha 0.05" in html


def test_without_p_values_nothing_is_said_of_them() -> None:
    made = build_report(
        make_audit(attacks=["label_inference"]),
        make_label_evaluation(6, (0.41, 0.93)),
        make_utility_evaluation(),
    )
    assert made.rows[0].note is None or "p-values" not in made.rows[0].note
    assert not any("P-values" in limit for limit in made.caveats)
    assert "→3?" not in render_page(made, [])


@pytest.mark.parametrize(
    "change",
    [
        {"wrong": 2},
        {"answered": 9, "correct": 8},
        {"p_values": [[0.1]] * 7},
        {"p_values": [[0.1, 0.2]] * 8},
        {"alpha": 2},
    ],
)
def test_claims_that_contradict_themselves_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        build_report(ASKED, claiming(**change), make_utility_evaluation())
