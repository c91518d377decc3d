"""services.cli.input.gates: the grammar of --fail-on, and which rows cross."""

from __future__ import annotations

import math
from typing import Any

import pytest

from services.cli.input.gates import (
    Gate,
    check_metrics,
    find_crossings,
    find_unmeasured,
    parse_gates,
)
from services.cli.output.console import UsageError


def row(attack: str = "invert", **metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": 3,
        "unlearning": {"method": "ascent", "params": {}},
        "defense": None,
        "attack": {"method": attack, "params": {}},
        "metrics": metrics,
    }


ROWS = [
    row(psnr={"mean": 20.0, "gain": 7.0}, ssim={"mean": 0.5, "gain": None}),
    row("other", psnr={"mean": 10.0, "gain": -3.0}),
    row("labels", label_accuracy={"mean": 1.0, "low": 0.7}),
]


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("psnr.gain>6", ("psnr", "gain", ">", 6.0)),
        (" psnr . gain >= 1e1 ".replace(" . ", "."), ("psnr", "gain", ">=", 10.0)),
        ("mse<0.01", ("mse", "mean", "<", 0.01)),
        ("decoy_rank_1.low<=.5", ("decoy_rank_1", "low", "<=", 0.5)),
        ("psnr.gain>-2", ("psnr", "gain", ">", -2.0)),
    ],
)
def test_the_grammar(word, read):
    (gate,) = parse_gates([word])
    assert (gate.metric, gate.field, gate.op, gate.number) == read


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("psnr", "expected METRIC"),
        ("psnr.gain", "expected METRIC"),
        ("psnr=6", "expected METRIC"),
        ("psnr>", "expected METRIC"),
        (">6", "expected METRIC"),
        ("psnr.gain.low>6", "expected METRIC"),
        ("psnr>six", "'six' is not a number"),
        ("psnr>>6", "'>6' is not a number"),
        ("psnr>nan", "'nan' is not a number"),
        ("psnr>inf", "'inf' is not a number"),
        ("psnr.gian>6", "did you mean 'gain'"),
        ("", "expected METRIC"),
    ],
)
def test_what_is_no_gate(word, expected):
    with pytest.raises(UsageError, match="--fail-on") as caught:
        parse_gates([word])
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("word", "attacks"),
    [
        ("psnr.gain>6", ["invert"]),
        ("psnr.gain>7", []),
        ("psnr.gain>=7", ["invert"]),
        ("psnr<=10", ["other"]),
        ("psnr<100", ["invert", "other"]),
        ("label_accuracy.low>0.5", ["labels"]),
    ],
)
def test_the_rows_that_cross(word, attacks):
    found = find_crossings(parse_gates([word]), ROWS)
    assert [c.to_json()["attack"] for c in found] == attacks
    for crossing in found:
        assert "unlearning ascent, defense -, attack" in str(crossing)
        assert "seed 3" in str(crossing)


def test_each_gate_is_told_on_its_own():
    both = find_crossings(parse_gates(["psnr>5", "label_accuracy>0.5", "psnr>5"]), ROWS)
    assert [c.gate.text for c in both] == ["psnr>5", "psnr>5", "label_accuracy>0.5"]


@pytest.mark.parametrize(
    "score", [None, {}, {"gain": None}, {"gain": math.nan}, {"gain": math.inf}, {"gain": "7"}]
)
def test_a_row_that_has_the_metric_and_no_value_cannot_be_judged(score):
    rows = [*ROWS, row("broken", psnr=score)]
    assert [c.to_json()["attack"] for c in find_crossings(parse_gates(["psnr.gain>6"]), rows)] == [
        "invert"
    ]
    (found,) = find_unmeasured(parse_gates(["psnr.gain>6", "label_accuracy.low>2"]), rows)
    assert found.to_json() == {
        "gate": "psnr.gain>6", "unlearning": "ascent", "defense": "-", "attack": "broken", "seed": 3, "value": None
    }  # fmt: skip
    assert (
        str(found) == "psnr.gain has no value: unlearning ascent, defense -, attack broken, seed 3"
    )
    assert find_unmeasured(parse_gates(["psnr.gain>6", "label_accuracy.low>2"]), ROWS) == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("psrn>1", "did you mean 'psnr'"),
        ("ssim.gain>1", "no row has ssim.gain"),
        ("psnr.n>1", "no row has psnr.n"),
    ],
)
def test_a_gate_on_what_no_row_has(word, expected):
    with pytest.raises(UsageError, match=expected):
        find_crossings(parse_gates([word]), ROWS)
    assert find_crossings(parse_gates([word]), []) == []


def test_metrics_are_held_against_the_catalog_before_anything_runs():
    known = ["psnr", "decoy_rank"]
    check_metrics(parse_gates(["psnr>1", "decoy_rank_1>0.5"]), known)
    # a gateway that knows no metrics says nothing of them
    check_metrics([Gate("x>1", "x", "mean", ">", 1.0)], [])
    with pytest.raises(UsageError, match="did you mean 'psnr'"):
        check_metrics(parse_gates(["psn>1"]), known)
