"""Differences of audits' parameters, with defaults filled in."""

from __future__ import annotations

from typing import Any

from services.gateway.spec_differences import MAX_TEXT, find_differences, shorten
from tests.support.gateway import make_catalog

SPEC: dict[str, Any] = {
    "name": "one",
    "dataset": {"name": "digits", "params": {}},
    "model": {"name": "mlp", "params": {}},
    "train": {},
    "unlearning": [{"name": "ascent", "params": {}}, {"name": "retrain", "params": {}}],
    "attacks": [{"name": "invert", "params": {}}],
    "seeds": [0],
}


def differ(**changes: Any) -> dict[str, tuple[str | None, ...]]:
    differences, _ = find_differences([SPEC, {**SPEC, **changes}], make_catalog())
    return {one.path: one.values for one in differences}


def test_a_default_that_is_spelt_out_is_no_difference() -> None:
    assert (
        differ(
            name="two",
            model={"name": "mlp", "params": {"width": 16}},
            train={"size": 32},
            attacks=["invert"],
            unlearning=["retrain", {"name": "ascent", "params": {"rate": 0.1}}],
        )
        == {}
    )


def test_each_parameter_that_differs_has_its_path() -> None:
    assert differ(
        train={"size": 64},
        attacks=[
            {"name": "invert", "params": {"iterations": 7}},
            {"name": "gone", "params": {"a": 1}},
        ],
        unlearning=["retrain"],
        seeds=[0, 1],
    ) == {
        "train.size": ("32", "64"),
        "unlearning.ascent": ("yes", None),
        "unlearning.ascent.rate": ("0.1", None),
        "attacks.invert.iterations": ("100", "7"),
        "attacks.gone": (None, "yes"),
        "attacks.gone.a": (None, "1"),
        "seeds": ("[0]", "[0, 1]"),
    }


def test_two_choices_of_one_name_are_told_apart() -> None:
    twice = [{"name": "invert", "params": {"iterations": n}} for n in (100, 5)]
    assert differ(attacks=twice) == {
        "attacks.invert (2)": (None, "yes"),
        "attacks.invert (2).iterations": (None, "5"),
    }


def test_long_values_are_cut() -> None:
    assert len(shorten("x" * 999)) == MAX_TEXT
