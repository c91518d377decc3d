"""services.gateway.json_body: what the integration tests post is refused here; this is about what
passes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.json_body import MAX_DEPTH, parse_json_object
from shared.errors import InvalidRequest

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_an_honest_object_passes_unchanged(value):
    assert parse_json_object(json.dumps(value).encode()) == value
    assert parse_json_object(json.dumps(value, ensure_ascii=False).encode()) == value


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_depth_is_bounded_exactly():
    assert parse_json_object(nested(MAX_DEPTH))
    with pytest.raises(InvalidRequest, match="deeper"):
        parse_json_object(nested(MAX_DEPTH + 1))


def test_the_field_says_where():
    with pytest.raises(InvalidRequest) as caught:
        parse_json_object(b'{"params": {"list": [0, {"x": 1e400}]}}')
    assert caught.value.field == "params.list.1.x"


@pytest.mark.parametrize(
    "number", ["9223372036854775807", "-9223372036854775808", "1.7976931348623157e308", "5e-324"]
)
def test_the_largest_numbers_pass(number):
    assert parse_json_object(b'{"a": ' + number.encode() + b"}")


def test_a_whole_pair_of_surrogates_passes():
    assert parse_json_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "😀"}
