"""Which differences between two reports of one audit count."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.compose.numbers import SECTIONS, ReportNumbers, find_differences

CONDITIONS = {
    "cpu_capability": "AVX2",
    "device": "cpu",
    "machine": "x86_64",
    "python": "3.11.2",
    "threads": 1,
    "torch": "2.14.1",
}
REPORT: dict[str, Any] = {
    **{section: [] for section in SECTIONS},
    "rows": [{"metrics": {"psnr": {"mean": 20.25, "n": 2}}, "evaluation": "a" * 64}],
    "verdict": {"level": "leaks", "headline": "1 of 2"},
    "provenance": {
        "conditions": [CONDITIONS],
        "inputs": {"ORIGINAL": ["b" * 64]},
        "submission": {"audit": "aud_1"},
    },
}


def changed(*path: Any, value: Any) -> ReportNumbers:
    report = copy.deepcopy(REPORT)
    place: Any = report
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return ReportNumbers.from_report(report)


def test_two_runs_of_the_same_code_are_equal_whatever_their_ids_and_python() -> None:
    one = ReportNumbers.from_report(REPORT)
    for other in (
        changed("rows", 0, "evaluation", value="c" * 64),
        changed("provenance", "submission", "audit", value="aud_2"),
        changed("provenance", "conditions", 0, "python", value="3.12.0"),
    ):
        assert find_differences(one, other) == []
        assert (one.digest, one.conditions) == (other.digest, other.conditions)
    assert one.count == 2


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("rows", 0, "metrics", "psnr", "mean"), 20.250000000000004, "rows[0].metrics.psnr.mean"),
        (("verdict", "headline"), "2 of 2", "verdict.headline"),
        (("rows", 0, "metrics"), {}, "rows[0].metrics.psnr.mean"),
        (("provenance", "inputs", "ORIGINAL"), ["d" * 64], "ORIGINAL"),
    ],
)
def test_the_last_bit_of_a_number_a_text_and_a_model_count(
    path: tuple[Any, ...], value: Any, line: str
) -> None:
    one, other = ReportNumbers.from_report(REPORT), changed(*path, value=value)
    assert any(text.startswith(f"{line}: ") for text in find_differences(one, other))
    assert one.digest != other.digest


def test_other_threads_are_other_conditions() -> None:
    one = ReportNumbers.from_report(REPORT)
    assert changed("provenance", "conditions", 0, "threads", value=2).conditions != one.conditions
