"""What a user posts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.jobs.spec import AuditSpec
from shared.plugin_ref import PluginRef

LEAST: dict[str, Any] = {
    "dataset": "digits",
    "model": "mlp",
    "unlearning": ["ascent"],
    "attacks": ["matching"],
}


def test_a_plain_name_stands_for_the_plugin_with_default_parameters() -> None:
    spec = AuditSpec.model_validate(
        {**LEAST, "attacks": ["matching", {"name": "matching", "params": {"steps": 5}}]}
    )
    assert spec.dataset == PluginRef(name="digits")
    assert spec.attacks == [
        PluginRef(name="matching"),
        PluginRef(name="matching", params={"steps": 5}),
    ]
    assert (spec.seeds, spec.pretrain_seed, spec.no_cache, spec.priority, spec.time_limit) == (
        [0],
        0,
        False,
        0,
        None,
    )


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"attack": []}, ("attack",)),
        ({"attacks": []}, ("attacks",)),
        ({"unlearning": []}, ("unlearning",)),
        ({"seeds": []}, ("seeds",)),
        ({"seeds": [0, -1]}, ("seeds", 1)),
        ({"seeds": [2**31]}, ("seeds", 0)),
        ({"priority": 101}, ("priority",)),
        ({"time_limit": 0}, ("time_limit",)),
        ({"name": ""}, ("name",)),
        ({"attacks": ["matching"] * 33}, ("attacks",)),
        ({"attacks": [{"name": "matching", "parms": {}}]}, ("attacks", 0, "parms")),
        ({"dataset": None}, ("dataset",)),
        ({"seeds": ["1"]}, ("seeds", 0)),
        ({"seeds": [0, True]}, ("seeds", 1)),
        ({"seeds": [1.0]}, ("seeds", 0)),
        ({"pretrain_seed": "1"}, ("pretrain_seed",)),
        ({"no_cache": "yes"}, ("no_cache",)),
        ({"sweep": 1}, ("sweep",)),
        ({"priority": "3"}, ("priority",)),
        ({"time_limit": "5"}, ("time_limit",)),
        ({"time_limit": 1e9}, ("time_limit",)),
        ({"name": 5}, ("name",)),
    ],
)
def test_what_is_wrong_is_told_by_its_place(
    change: dict[str, Any], where: tuple[str | int, ...]
) -> None:
    with pytest.raises(ValidationError) as refused:
        AuditSpec.model_validate({**LEAST, **change})
    assert [e["loc"] for e in refused.value.errors()] == [where]


def test_a_number_of_seconds_may_be_whole() -> None:
    assert AuditSpec.model_validate({**LEAST, "time_limit": 5}).time_limit == 5.0


def test_every_field_is_described() -> None:
    assert all(f.description for f in AuditSpec.model_fields.values())
