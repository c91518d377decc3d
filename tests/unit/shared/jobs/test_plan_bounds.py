"""What one audit may ask for: planning it is work for the gateway, and storing it is room in the
database."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import catalog as catalogs
from shared.errors import InvalidRequest
from shared.jobs import plan as planning
from shared.jobs.plan import MAX_PARAM_BYTES, plan, plan_job
from shared.jobs.spec import AuditSpec
from shared.param_schema import build_validator
from tests.support.planned_audits import plan_audit
from tests.support.plugins import MINIMAL_AUDIT, make_catalog


def refused(change: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as error:
        plan_audit(change)
    return error.value.message


def figure(message: str) -> int:
    (found,) = re.findall(r"makes (?:at least )?([\d,]+) jobs", message)
    return int(found.replace(",", ""))


@pytest.mark.timeout(600)
def test_equal_choices_are_planned_once_however_they_are_written() -> None:
    """3,276,800 combinations in 1.7 kB: they took hours."""
    ascent, matching = (
        {"name": "ascent", "params": {"lr": 0.01}},
        {"name": "matching", "params": {"steps": 100.0}},
    )
    hostile = {
        "unlearning": ["ascent", ascent] * 16,
        "defenses": ["none", {"name": "none", "params": {}}] * 16,
        "attacks": ["matching", matching] * 16,
        "seeds": [0] * 100,
    }
    assert [j.request_key for j in plan_audit(hostile)[:-1]] == [
        j.request_key for j in plan_audit()[:-1]
    ]


@pytest.mark.timeout(600)
def test_a_product_beyond_the_cap_is_refused_with_its_figure_before_anything_is_planned() -> None:
    steps = [{"name": "matching", "params": {"steps": n}} for n in range(1, 33)]
    rates = [{"name": "ascent", "params": {"lr": n / 100}} for n in range(1, 33)]
    depths = [{"name": "veil", "params": {"depth": n / 100}} for n in range(1, 33)]
    message = refused(
        {"unlearning": rates, "defenses": depths, "attacks": steps, "seeds": list(range(100))}
    )
    assert message == (
        "this grid makes at least 3,481,600 jobs, but an audit can have at most 10,000: split it"
    )


CHOICES = {
    "unlearning": ["ascent", "retrain", "sharded"],
    "defenses": ["none", "veil", "mist", "private"],
    "attacks": [
        "matching",
        {"name": "matching", "params": {"adaptive": True}},
        "asking",
        "suspecting",
    ],
    "seeds": [0, 1, 2, 3],
}


@given(
    st.fixed_dictionaries(
        {n: st.lists(st.sampled_from(c), min_size=1, max_size=5) for n, c in CHOICES.items()}
    )
)
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_the_figures_are_right(change: dict[str, Any]) -> None:
    """The first never too high, the second exact: nothing is refused that would have been small
    enough."""
    jobs = len(plan_audit(change))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MAX_JOBS", 0)
        message = refused(change)
        assert "at least" in message
        patch.setattr(planning, "MAX_JOBS", figure(message))
        assert figure(message) < jobs
        message = refused(change)
        assert "at least" not in message
        assert figure(message) == jobs
        patch.setattr(planning, "MAX_JOBS", jobs)
        assert len(plan_audit(change)) == jobs


def test_more_parameters_than_a_request_may_hold_are_refused_with_the_figure() -> None:
    indices = [[n % 50 for n in range(MAX_PARAM_BYTES // 2)]]
    assert re.match(
        r"3\d\d,\d\d\d bytes of parameters are above the limit of 262,144",
        refused({"forget": {"indices": indices}}),
    )
    with pytest.raises(InvalidRequest, match="above the limit of 262,144") as error:
        plan_job(make_catalog(), "unlearn", "ascent", {"indices": indices}, 0, ())
    assert error.value.field == "params"


def test_what_all_jobs_are_stored_with_is_bounded() -> None:
    """Each of 600 unlearning jobs would hold 70 kB."""
    forget = {"indices": [list(range(50)) * 500]}
    rates = [{"name": "ascent", "params": {"lr": n / 100}} for n in range(1, 7)]
    message = refused({"forget": forget, "unlearning": rates, "seeds": list(range(100))})
    assert re.match(
        r"every job is stored .* at least 4\d,\d\d\d,\d\d\d bytes in this grid, above the limit of 33,554,432",
        message,
    )
    plan_audit({"forget": forget, "unlearning": rates, "seeds": [0]})


def test_each_set_of_parameters_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held: Counter[str] = Counter()

    class Counting:
        def __init__(self, schema: dict[str, Any]) -> None:
            self.schema, self.real = schema, build_validator(schema)

        def iter_errors(self, values: Any) -> Any:
            held[f"{self.schema['title']} {values}"] += 1
            return self.real.iter_errors(values)

    monkeypatch.setattr(catalogs, "build_validator", Counting)
    plan_audit(
        {"unlearning": ["ascent", "retrain"], "defenses": ["none", "veil"], "seeds": [0, 1, 2]}
    )
    assert any(said.startswith("Unlearn {") for said in held)
    # data set and model are parameters of two stages each
    assert {said for said, times in held.items() if times > 1} <= {
        "Params {}",
        "Mlp {'width': 64, 'widths': []}",
    }


def test_a_wrong_set_is_looked_at_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def counting(schema: dict[str, Any]) -> Any:
        real = build_validator(schema)
        if schema["title"] != "Unlearn":
            return real

        class Counting:
            def iter_errors(self, values: Any) -> Any:
                nonlocal looked
                looked += 1
                return real.iter_errors(values)

        return Counting()

    monkeypatch.setattr(catalogs, "build_validator", counting)
    rates = [{"name": "ascent", "params": {"lr": n / 100}} for n in range(1, 33)]
    assert "deletions" in refused({"forget": {"deletions": 0}, "unlearning": rates})
    assert looked == 1


def test_a_plan_does_not_remember_what_another_one_validated() -> None:
    held = make_catalog()
    plan(AuditSpec.model_validate(MINIMAL_AUDIT), held)
    assert held._completed_params is None
