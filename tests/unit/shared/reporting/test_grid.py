"""Rows asked for against evaluations that came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.choices import Choice
from shared.reporting.build import build
from tests.support.reports import LEAK, NOTHING, audit, defense, found, images, labels, method, report, utility

PAIR = method("feature_recovery", iterations=9, gradient_from="pair")
BASE = method("feature_recovery", iterations=9, gradient_from="base")
TWO = [{"name": "feature_recovery"}, {"name": "feature_recovery", "params": {"gradient_from": "base"}}]


def test_rows_stand_in_the_order_of_the_audit_whatever_came_first() -> None:
    spec = audit(unlearning=["retrain", "gradient_ascent"], seeds=[1, 0])
    made = [images(**LEAK, seed=s, unlearning=u) for u in ("gradient_ascent", "retrain") for s in (0, 1)]
    rows = report(spec, *made).rows
    assert [(r.unlearning.method, r.seed) for r in rows] == [
        ("retrain", 1), ("retrain", 0), ("gradient_ascent", 1), ("gradient_ascent", 0),
    ]  # fmt: skip


def test_what_is_missing_is_listed_with_a_reason() -> None:
    spec = audit(defenses=["none", "pruning"], attacks=["feature_recovery", "label_inference"])
    made = report(spec, utility(), images(**LEAK))
    told = {(m.defense.method, m.attack.method if m.attack else None): m.why for m in made.missing}
    assert told.keys() == {
        ("none", "label_inference"), ("pruning", None), ("pruning", "feature_recovery"), ("pruning", "label_inference"),
    }  # fmt: skip
    assert "other evaluations of these models are here" in told["none", "label_inference"]
    assert "nothing came" in told["pruning", "label_inference"]


def test_nothing_is_missing_when_all_came_though_defaults_are_filled_in() -> None:
    made = report(audit(attacks=TWO), images(**LEAK, attack=BASE), images(**LEAK, attack=PAIR), utility())
    assert made.missing == []
    assert [row.attack.params["gradient_from"] for row in made.rows] == ["pair", "base"]


def test_the_one_that_is_missing_is_named_when_the_other_fits_both() -> None:
    made = report(audit(attacks=TWO), images(**LEAK, attack=BASE), utility())
    assert [m.attack.params for m in made.missing if m.attack] == [{}]


def test_a_default_written_out_is_the_same_evaluation_twice_and_one_row() -> None:
    twice = [{"name": "feature_recovery"}, {"name": "feature_recovery", "params": {"gradient_from": "pair"}}]
    made = report(audit(attacks=twice), images(**LEAK, attack=PAIR), images(**LEAK, attack=PAIR), utility())
    assert len(made.rows) == 1
    assert made.missing == []
    assert len(made.provenance.evaluations) == 2


def test_a_strength_left_open_is_filled_in() -> None:
    spec = audit(defenses=[{"name": "pruning", "params": {"share": None}}])
    released = defense("pruning", strength=0.3)
    assert report(spec, images(**NOTHING, released=released), utility(released=released)).missing == []


def test_an_evaluation_that_the_audit_did_not_ask_for_is_shown_last() -> None:
    made = report(audit(), labels(8, (0.68, 1.0)), images(**LEAK), utility())
    assert [row.attack.method for row in made.rows] == ["feature_recovery", "label_inference"]


def test_utility_joins_by_release_and_seed() -> None:
    pruned = defense("pruning", strength=0.3)
    spec = audit(defenses=["none", "pruning"], seeds=[0, 1])
    made = report(
        spec,
        *(images(**LEAK, seed=s, released=r) for s in (0, 1) for r in (None, pruned)),
        utility(test=0.9, seed=1, released=pruned),
    )
    known = [(row.seed, row.defense.method) for row in made.rows if row.utility]
    assert known == [(1, "pruning")]


def test_what_an_evaluation_does_not_tell_is_named_so() -> None:
    row = report(audit(), images(**LEAK) | {"unlearning": None, "defense": None, "attack": None}).rows[0]
    assert {row.unlearning.method, row.defense.method, row.attack.method} == {"not stated"}


def complete(_kind: str, choice: Choice, stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """As if every method had one parameter of its own."""
    return {"gradient_from": stage.get("gradient_from", "pair"), **choice.params}


def test_a_choice_that_is_named_twice_is_one_row_and_nothing_is_missing() -> None:
    """One job is made of both, so one evaluation comes."""
    spec = audit(
        unlearning=["gradient_ascent", {"name": "gradient_ascent", "params": {}}],
        defenses=["none", "none"],
        attacks=["feature_recovery", {"name": "feature_recovery"}],
    )
    made = report(spec, images(**LEAK, attack=PAIR), utility())
    assert made.missing == []
    assert len(made.rows) == 1


def test_a_default_written_out_is_the_same_choice() -> None:
    twice = [{"name": "feature_recovery"}, {"name": "feature_recovery", "params": {"gradient_from": "pair"}}]
    for spec in (audit(attacks=twice), audit(attacks=twice[::-1])):
        came = found(images(**LEAK, attack=PAIR), utility())
        assert build(came, spec, "1.2.3", complete).missing == []


def test_a_choice_that_differs_from_its_default_stays_missing() -> None:
    made = build(found(images(**LEAK, attack=BASE), utility()), audit(attacks=TWO), "1.2.3", complete)
    assert [m.attack.params for m in made.missing if m.attack] == [{}]
