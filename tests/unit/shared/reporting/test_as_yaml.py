"""An audit as YAML."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as some

from shared.jobs.spec import AuditSpec
from shared.reporting.as_yaml import shortened, to_yaml
from tests.support.reports import audit

SCALARS = some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False)
WORDS = some.text(max_size=8) | some.sampled_from(["no", "Null", "1e5", "0x1f", "- a", "a: b", "#", "2026-01-01", "~"])
JSON = some.recursive(
    SCALARS | WORDS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(WORDS, inner, max_size=3)
)


@given(JSON)
def test_reading_it_gives_the_value_back(value: Any) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


def test_the_shortened_audit_is_the_same_audit() -> None:
    spec = audit(attacks=[{"name": "feature_recovery", "params": {"iterations": 9}}], evaluate={})
    again = yaml.safe_load(to_yaml(shortened(spec)))
    assert AuditSpec.model_validate(again) == AuditSpec.model_validate(spec)
    assert again["dataset"] == "mnist_5k"
    assert "evaluate" not in again
