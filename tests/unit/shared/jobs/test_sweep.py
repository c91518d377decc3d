"""A sweep is the same audit with every setting written out."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from shared.jobs.sweep import expand_sweep
from tests.support.plugins import MINIMAL_AUDIT, make_catalog


def spec(**change: Any) -> AuditSpec:
    return AuditSpec.model_validate({**MINIMAL_AUDIT, "sweep": True, **change})


def densities(made: AuditSpec) -> list[Any]:
    return [choice.params.get("density") for choice in made.defenses if choice.name == "mist"]


def test_each_setting_of_the_grid_is_a_defense_and_others_stay_as_they_are() -> None:
    made = expand_sweep(spec(defenses=["none", "mist", "veil"]), make_catalog())
    assert [choice.name for choice in made.defenses] == ["none", "mist", "mist", "mist", "veil"]
    assert densities(made) == [0.1, 0.2, 0.4]
    assert made.defend == {"max_accuracy_cost": 0.02}


def test_a_grid_of_ones_own_goes_before_and_a_given_strength_is_not_swept() -> None:
    made = expand_sweep(
        spec(defenses=[{"name": "mist", "params": {"grid": [0.3, 0.3, 0.9]}}]), make_catalog()
    )
    assert densities(made) == [0.3, 0.9]
    made = expand_sweep(
        spec(
            defenses=[{"name": "mist", "params": {"density": 0.7}}],
            defend={"max_accuracy_cost": 0.1},
        ),
        make_catalog(),
    )
    assert densities(made) == [0.7]
    assert made.defend == {"max_accuracy_cost": 0.1}


def test_without_sweep_nothing_changes() -> None:
    audit = spec(sweep=False, defenses=["mist"])
    assert expand_sweep(audit, make_catalog()) is audit


def test_the_jobs_are_those_of_the_settings_written_out() -> None:
    written = [{"name": "mist", "params": {"density": value}} for value in (0.1, 0.2, 0.4)]
    one = plan(spec(defenses=["mist"]), make_catalog())
    other = plan(
        spec(sweep=False, defenses=written, defend={"max_accuracy_cost": 0.02}), make_catalog()
    )
    assert [job.request_key for job in one] == [job.request_key for job in other]
    assert sum(job.stage == "defend" for job in one) == 3


def test_a_sweep_beyond_what_an_audit_may_have_is_refused() -> None:
    grid = [value / 100 for value in range(1, 41)]
    with pytest.raises(
        InvalidRequest, match="has 41 settings of defenses, above the limit of 32"
    ) as refused:
        plan(spec(defenses=["none", {"name": "mist", "params": {"grid": grid}}]), make_catalog())
    assert refused.value.field == "sweep"


def test_a_sweep_is_counted_before_it_is_written_out() -> None:
    grid = [value / 1e5 for value in range(1, 30_001)]
    with pytest.raises(
        InvalidRequest, match="has 480,016 settings of defenses, above the limit of 32"
    ):
        expand_sweep(
            spec(defenses=["veil", {"name": "mist", "params": {"grid": grid}}] * 16), make_catalog()
        )


@pytest.mark.parametrize(("choice", "field"), [
    ("fog", "defenses.0.name"), ({"name": "mist", "params": {"grid": "all"}}, "defenses.0.params.grid"),
    ({"name": "mist", "params": {"grid": [[1], {}]}}, "defenses.0.params.grid.0"),
])  # fmt: skip
def test_what_is_wrong_with_a_defense_is_blamed_on_it(choice: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        plan(spec(defenses=[choice]), make_catalog())
    assert refused.value.field == field
