"""A SELF_TEST as it comes in: named by its bytes, and refused where it contradicts itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.reporting.selftests import read_self_test
from tests.support.reports import make_self_test


def changed(**changes: Any) -> bytes:
    told = json.loads(make_self_test())
    told["cases"][0] |= {name: value for name, value in changes.items() if name != "of_all"}
    return json.dumps(told | changes.get("of_all", {})).encode()


def test_it_is_named_by_the_digest_of_its_bytes() -> None:
    found = read_self_test(make_self_test(noise=2.5), "SELF_TEST")
    assert found.digest == hashlib.sha256(make_self_test(noise=2.5)).hexdigest()
    assert (found.passed, found.failed) == (False, ["noise"])
    assert [case.measured for case in found.cases] == [20.0, 2.5]


def test_a_digest_that_it_claims_is_not_believed() -> None:
    lying = changed(of_all={"digest": "0" * 64})
    assert read_self_test(lying, "SELF_TEST").digest == hashlib.sha256(lying).hexdigest()


@pytest.mark.parametrize(
    "wrong",
    [
        b"none",
        b"[]",
        b"{}",
        changed(passed=False),
        changed(measured=None),
        changed(error="IndexError: x"),
        changed(measured=float("nan")),
        changed(measured=1e30),
        changed(name=""),
        changed(shows="x" * 1000),
        changed(of_all={"cases": []}),
        changed(of_all={"passed": False}),
        changed(of_all={"cases": json.loads(make_self_test())["cases"] * 200}),
    ],
)
def test_what_contradicts_itself_or_is_no_self_test_is_refused_by_its_role(wrong: bytes) -> None:
    with pytest.raises(InvalidRequest, match="SELF_TEST"):
        read_self_test(wrong, "SELF_TEST")
