"""Rows that were planned against evaluations that came."""

from __future__ import annotations

import pytest

from shared.errors import InvalidRequest
from shared.jobs.spec import PlannedRow
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    build_report,
    make_audit,
    make_defense,
    make_image_evaluation,
    make_label_evaluation,
    make_method,
    make_utility_evaluation,
)

PAIR = make_method("feature_recovery", iterations=9, gradient_from="pair")
BASE = make_method("feature_recovery", iterations=9, gradient_from="base")
TWO = [
    {"name": "feature_recovery"},
    {"name": "feature_recovery", "params": {"gradient_from": "base"}},
]


def row(
    number: int, *, unlearning: int = 0, defense: int = 0, attack: int | None = 0, seed: int = 0
) -> PlannedRow:
    return PlannedRow(
        seed=seed,
        unlearning=unlearning,
        defense=defense,
        attack=attack,
        evaluation=f"EVALUATION_{number}",
    )


def test_rows_stand_as_planned_whatever_came_first() -> None:
    spec = make_audit(unlearning=["retrain", "gradient_ascent"], seeds=[1, 0])
    made = [
        make_image_evaluation(**LEAK, seed=s, unlearning=u)
        for u in ("gradient_ascent", "retrain")
        for s in (0, 1)
    ]
    planned = [
        row(4, seed=1), row(3, seed=0), row(2, unlearning=1, seed=1), row(1, unlearning=1, seed=0),
    ]  # fmt: skip
    rows = build_report(spec, *made, rows=planned).rows
    assert [(r.unlearning.method, r.seed) for r in rows] == [
        ("retrain", 1), ("retrain", 0), ("gradient_ascent", 1), ("gradient_ascent", 0),
    ]  # fmt: skip


def test_what_is_missing_is_listed_with_a_reason() -> None:
    spec = make_audit(defenses=["none", "pruning"], attacks=["feature_recovery", "label_inference"])
    planned = [row(1, attack=None), row(2), row(3, attack=1)]
    planned += [row(n, defense=1, attack=a) for n, a in ((4, None), (5, 0), (6, 1))]
    made = build_report(
        spec, make_utility_evaluation(), make_image_evaluation(**LEAK), rows=planned
    )
    told = {
        (m.defense.method, m.attack.method if m.attack else None): m.reason for m in made.missing
    }
    assert told.keys() == {
        ("none", "label_inference"), ("pruning", None), ("pruning", "feature_recovery"), ("pruning", "label_inference"),
    }  # fmt: skip
    assert "other evaluations of these models are available" in told["none", "label_inference"]
    assert "no results for these models" in told["pruning", "label_inference"]


def test_the_one_that_is_missing_is_named_though_the_other_has_its_name() -> None:
    """The audit says of one attack less than its evaluation: which one came is known from the
    plan."""
    planned = [row(1, attack=None), row(2, attack=0), row(3, attack=1)]
    came = (
        make_utility_evaluation(),
        make_image_evaluation(**LEAK, attack=PAIR),
        make_image_evaluation(**LEAK, attack=BASE),
    )
    assert build_report(make_audit(attacks=TWO), *came, rows=planned).missing == []
    made = build_report(make_audit(attacks=TWO), *came[:2], rows=planned)
    assert [m.attack.params for m in made.missing if m.attack] == [{"gradient_from": "base"}]
    made = build_report(
        make_audit(attacks=TWO),
        came[0],
        came[2],
        rows=[planned[0], row(9, attack=0), row(2, attack=1)],
    )
    assert [m.attack.params for m in made.missing if m.attack] == [{}]


def test_two_roles_that_hold_the_same_are_one_row() -> None:
    planned = [row(1), row(2, attack=1)]
    made = build_report(
        make_audit(attacks=TWO),
        make_image_evaluation(**LEAK, attack=PAIR),
        make_image_evaluation(**LEAK, attack=PAIR),
        rows=planned,
    )
    assert len(made.rows) == 1
    assert made.missing == []


def test_a_missing_row_belongs_to_the_release_that_others_tell_of() -> None:
    """The audit names no strength, the evaluations the one that was chosen for their seed."""
    spec = make_audit(defenses=["none", "pruning"], attacks=["feature_recovery", "label_inference"])
    released = make_defense("pruning", strength=0.3)
    planned = [row(1, attack=None), row(2), row(3, attack=1)]
    planned += [row(n, defense=1, attack=a) for n, a in ((4, None), (5, 0), (6, 1))]
    came = (
        make_utility_evaluation(),
        make_image_evaluation(**LEAK),
        make_label_evaluation(1, (0.02, 0.47)),
        make_utility_evaluation(released=released),
    )
    made = build_report(
        spec, *came, make_image_evaluation(**NO_LEAK, released=released), rows=planned
    )
    assert [(m.defense.method, m.defense.params) for m in made.missing] == [("pruning", {})]
    assert made.verdict.level != "reduced"  # what is missing may leak


def test_an_evaluation_that_no_row_names_is_shown_last() -> None:
    made = build_report(
        make_audit(),
        make_label_evaluation(8, (0.68, 1.0)),
        make_image_evaluation(**LEAK),
        make_utility_evaluation(),
        rows=[row(3, attack=None), row(2)],
    )
    assert [r.attack.method for r in made.rows] == ["feature_recovery", "label_inference"]


@pytest.mark.parametrize("place", [{"unlearning": 1}, {"defense": 1}, {"attack": 1}])
def test_a_missing_row_of_a_method_that_the_audit_does_not_have_is_refused(
    place: dict[str, int],
) -> None:
    with pytest.raises(
        InvalidRequest, match="EVALUATION_7 names a method that the audit does not have"
    ) as refused:
        build_report(
            make_audit(), make_utility_evaluation(), rows=[row(1, attack=None), row(7, **place)]
        )
    assert refused.value.field == "params.rows"


def test_utility_joins_by_release_and_seed() -> None:
    pruned = make_defense("pruning", strength=0.3)
    spec = make_audit(defenses=["none", "pruning"], seeds=[0, 1])
    made = build_report(
        spec,
        *(
            make_image_evaluation(**LEAK, seed=s, released=r)
            for s in (0, 1)
            for r in (None, pruned)
        ),
        make_utility_evaluation(test=0.9, seed=1, released=pruned),
    )
    known = [(r.seed, r.defense.method) for r in made.rows if r.utility]
    assert known == [(1, "pruning")]


def test_what_an_evaluation_does_not_tell_is_named_so() -> None:
    told = build_report(
        make_audit(),
        make_image_evaluation(**LEAK) | {"unlearning": None, "defense": None, "attack": None},
    ).rows[0]
    assert {told.unlearning.method, told.defense.method, told.attack.method} == {"not stated"}
