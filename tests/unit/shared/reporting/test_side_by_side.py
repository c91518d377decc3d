"""Rows of several reports that belong together, and how their scores differ."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.reporting.differences import (
    NO_SEED,
    NO_VALUES,
    OTHER_SAMPLES,
    SAME,
    UNKNOWN_SAMPLES,
    find_difference,
)
from shared.reporting.models import Report, Row
from shared.reporting.side_by_side import (
    ScoreLine,
    draw_scores,
    group_rows,
    match,
    match_rows,
    score_group,
)
from tests.support.reports import (
    LEAK,
    build_report,
    make_audit,
    make_image_evaluation,
    make_method,
)

Thing = tuple[str, int]  # a name, and what tells those of one name apart


def match_things(*audits: Sequence[Thing]) -> list[tuple[dict[int, Thing], bool]]:
    matched = match(audits, lambda thing: thing, lambda thing: thing[0])
    return [(dict(one.items), one.same_params) for one in matched]


def test_equal_things_belong_together_then_those_alone_with_their_name() -> None:
    assert match_things([("a", 1), ("b", 1)], [("b", 2), ("a", 1)]) == [
        ({0: ("a", 1), 1: ("a", 1)}, True),
        ({0: ("b", 1), 1: ("b", 2)}, False),
    ]


def test_what_could_belong_to_two_belongs_to_none() -> None:
    assert match_things([("a", 1), ("a", 2)], [("a", 3)]) == [
        ({0: ("a", 1)}, True),
        ({0: ("a", 2)}, True),
        ({1: ("a", 3)}, True),
    ]


def test_three_audits_are_matched() -> None:
    assert match_things([("a", 1)], [("a", 2), ("c", 1)], [("a", 3)]) == [
        ({0: ("a", 1), 1: ("a", 2), 2: ("a", 3)}, False),
        ({1: ("c", 1)}, True),
    ]


def test_what_is_left_is_matched_by_the_next_name() -> None:
    audits = [[("a", 3, "x"), ("b", 1, "x")], [("a", 2, "x"), ("c", 1, "x")], [("c", 1, "x")]]
    matched = match(audits, lambda t: t, lambda t: t[0], lambda t: t[1:])
    assert [(dict(one.items), one.agreement) for one in matched] == [
        ({0: ("a", 3, "x"), 1: ("a", 2, "x")}, 1),
        ({0: ("b", 1, "x"), 1: ("c", 1, "x"), 2: ("c", 1, "x")}, 2),
    ]


def build(mean: float, samples: str | None = "ab", seed: int = 0, iterations: int = 1) -> Report:
    evaluation = make_image_evaluation(
        **{**LEAK, "psnr": (mean, mean - 1, mean + 1)},
        seed=seed,
        attack=make_method("feature_recovery") | {"params": {"iterations": iterations}},
    )
    evaluation["inputs"] = {"FORGET_SETS": samples * 32} if samples else {}
    attacks = [{"name": "feature_recovery", "params": {"iterations": iterations}}]
    return build_report(make_audit(seeds=[seed], attacks=attacks), evaluation)


def no_values(row: Row, metric: str) -> None:
    return None


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (build(25.0, "cd"), OTHER_SAMPLES),
        (build(25.0, None), UNKNOWN_SAMPLES),
        (build(25.0, seed=1), NO_SEED),
        (build(25.0), NO_VALUES),
    ],
)
def test_what_cannot_be_paired_says_why(second: Report, reason: str) -> None:
    difference = find_difference(build(22.0).rows, second.rows, no_values)
    assert difference is not None
    assert (difference.mean, difference.low, difference.n) == (3.0, None, 0)
    assert difference.reason == reason


def test_an_evaluation_does_not_differ_from_itself() -> None:
    difference = find_difference(build(22.0).rows, build(22.0).rows, no_values)
    assert difference is not None
    assert (difference.mean, difference.reason) == (0.0, SAME)


def test_equal_samples_are_paired() -> None:
    def read_values(row: Row, metric: str) -> list[float]:
        assert metric == "psnr"
        return [row.metrics[metric].mean + noise / 10 for noise in (3, 1, 4, 1, 5, 9, 2, 6)]

    after = build(25.0)

    def read_uneven(row: Row, metric: str) -> list[float]:
        values = read_values(row, metric)
        return values if row is not after.rows[0] else [v + n / 10 for n, v in enumerate(values)]

    difference = find_difference(build(22.0).rows, after.rows, read_uneven)
    assert difference is not None
    assert (difference.n, difference.sign, difference.reason) == (8, 1, None)


def test_attacks_with_other_parameters_are_drawn_together() -> None:
    reports = [build(22.0), build(25.0, iterations=9)]
    (line,) = match_rows([group_rows(report) for report in reports])
    assert not line.same_params
    assert len(group_rows(reports[0])) == 1
    scores = {"A": score_group(line.items[0]), "B": score_group(line.items[1])}
    drawing = draw_scores([ScoreLine("<b>", {k: s for k, s in scores.items() if s is not None})])
    assert "<b>" not in drawing
    assert "A 22.0 dB, B 25.0 dB" in drawing
