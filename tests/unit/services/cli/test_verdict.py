"""services.cli.output.verdict: a report as lines, also one with holes."""

from __future__ import annotations

from typing import Any

from services.cli.output import verdict
from services.client import Report

ROW: dict[str, Any] = {
    "seed": 0,
    "unlearning": {"method": "retrain", "params": {}, "exact": True},
    "defense": {"method": "none", "params": {}},
    "attack": {"method": "feature_recovery", "params": {"iterations": 200, "gradient_from": "base"}},
    "metrics": {
        "mse": {"mean": 0.01, "unit": "1"},
        "psnr": {
            "mean": 23.26, "low": 19.0, "high": 27.5, "baseline": 13.3, "baseline_name": "class_mean", "unit": "dB",
            "gain": 9.96, "gain_low": 3.6, "gain_high": 14.0,
        },
    },
    "identification": {"n": 8, "rank_1": 7},
    "finding": {"outcome": "leak", "reason": "Identification is significantly above chance."},
}  # fmt: skip


def shown(capsys: Any, **data: Any) -> str:
    verdict.print_report(Report("job_1", {"rows": [], **data}, b""))
    return str(capsys.readouterr().out)


def test_a_row_stands_beside_its_null(capsys):
    out = shown(
        capsys,
        rows=[ROW],
        verdict={"level": "leaks", "headline": "7 of 8 [digits] were read back."},
    )
    assert out.startswith("leaks: 7 of 8 [digits] were read back.\n")
    for cell in (
        "retrain",
        "feature_recovery ",
        "psnr 23.3 dB",
        "13.3 class mean",
        "+9.96 [+3.6, +14.0]",
        "7 of 8",
    ):
        assert cell in out
    assert out.splitlines()[1].split() == [
        "unlearning",
        "attack",
        "score",
        "baseline",
        "gain",
        "identified",
        "shows",
    ]
    assert "a leak" in out
    assert "iterations" not in out
    assert "defense" not in out


def test_the_sentences_of_the_card_follow_and_what_was_not_tested(capsys):
    out = shown(
        capsys,
        rows=[ROW],
        verdict={
            "level": "leaks",
            "headline": "An attacker reconstructs 7 of 8.",
            "sentences": ["The models have [forgotten] the samples.", "1 result is missing."],
            "not_tested": ["Attackers who know the defense.", "Defenses."],
            "details": ["retrain, none: feature_recovery leaks."],
        },
    )
    assert out.splitlines()[:5] == [
        "leaks: An attacker reconstructs 7 of 8.",
        "The models have [forgotten] the samples.",
        "1 result is missing.",
        "not tested: Attackers who know the defense.",
        "not tested: Defenses.",
    ]
    assert "retrain, none: feature_recovery leaks" not in out


def test_rows_of_one_attack_are_told_apart_by_what_differs(capsys):
    other = {
        **ROW,
        "attack": {
            "method": "feature_recovery",
            "params": {"iterations": 200, "gradient_from": "pair"},
        },
    }
    out = shown(
        capsys,
        rows=[ROW, other, {**ROW, "defense": {"method": "pruning", "params": {"share": 0.3}}}],
    )
    assert "feature_recovery (gradient_from base)" in out
    assert "feature_recovery (gradient_from pair)" in out
    assert "pruning" in out
    assert "share" not in out


def test_holes_are_shown_as_holes(capsys):
    row = {
        "seed": 1,
        "unlearning": None,
        "attack": "x",
        "metrics": {"label_accuracy": {"mean": 0.5}},
    }
    missing = {
        "seed": 2,
        "unlearning": {"method": "retrain"},
        "defense": "none",
        "attack": None,
        "reason": "it [broke]",
    }
    out = shown(capsys, rows=[row, {}], missing=[missing], verdict=None)
    assert "label accuracy 0.5" in out
    assert "missing: retrain none -, seed 2: it [broke]" in out


def test_a_wide_table_keeps_every_cell_in_a_pipe(capsys):
    out = shown(capsys, rows=[ROW | {"attack": {"method": "a" * 60, "params": {}}}])
    assert "a" * 60 in out
