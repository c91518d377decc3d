"""An audit as YAML."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from shared.jobs.spec import AuditSpec
from shared.reporting.as_yaml import shorten_choices, to_yaml
from tests.support.reports import make_audit
from tests.support.yaml_text import load_yaml

SCALARS = (
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats(allow_nan=False, allow_infinity=False)
)
WORDS = some.text(max_size=8) | some.sampled_from(
    ["no", "Null", "1e5", "0x1f", "- a", "a: b", "#", "2026-01-01", "~"]
)
JSON = some.recursive(
    SCALARS | WORDS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(WORDS, inner, max_size=3),
)


@given(JSON)
def test_reading_it_gives_the_value_back(value: Any) -> None:
    assert load_yaml(to_yaml(value)) == value


@pytest.mark.parametrize(
    "text",
    ["\x85", "a\u2028b", "\u2029", "\ufeff", "\x07", "é", "no", "1:30", "a" * 500 + " b" * 99],
)
def test_text_of_any_kind_comes_back(text: str) -> None:
    assert load_yaml(to_yaml({text: [text]})) == {text: [text]}


def test_what_stands_in_two_places_is_written_twice() -> None:
    choice = {"name": "npz", "params": {"path": "a.npz"}}
    assert "&" not in to_yaml({"a": choice, "b": choice})


def test_the_shortened_audit_is_the_same_audit() -> None:
    spec = make_audit(
        attacks=[{"name": "feature_recovery", "params": {"iterations": 9}}], evaluate={}
    )
    again = load_yaml(to_yaml(shorten_choices(spec)))
    assert AuditSpec.model_validate(again) == AuditSpec.model_validate(spec)
    assert again["dataset"] == "mnist_5k"
    assert "evaluate" not in again
