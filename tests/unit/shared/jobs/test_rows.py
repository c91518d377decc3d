"""Canonical JSON: equal values, equal text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.mapping import to_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_is_written_can_be_read(value: object) -> None:
    assert json.loads(to_json(value)) == value
    assert to_json(json.loads(to_json(value))) == to_json(value)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_names_does_not_count(value: dict[str, object]) -> None:
    assert to_json(dict(reversed(value.items()))) == to_json(value)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), [-float("inf")]])
def test_what_json_does_not_know_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(wrong)
