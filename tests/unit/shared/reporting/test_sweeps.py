"""The curve of a defense and its operating point, on numbers that are chosen."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.reporting.curves import attacks_of, draw_curve
from shared.reporting.models import Report, Sweep
from shared.reporting.page import render_page
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    JSONObject,
    build_report,
    make_audit,
    make_image_evaluation,
    make_label_evaluation,
    make_method,
    make_utility_evaluation,
)

VALUES = (0.1, 0.3, 1.0)


def noise(value: float) -> JSONObject:
    return {"method": "obfuscation", "params": {"noise": value, "grid": [1]}, "strength": None}


def told(
    tests: dict[float, float],
    leaking: tuple[float, ...],
    budget: float | None = 0.02,
    right: int = 0,
    recalling: tuple[float, ...] = (),
) -> Report:
    """An audit of three strengths with these test accuracies; images leak at `leaking`, labels
    `right` times of 8.

    At `recalling` the forgotten samples are classified as before.
    """
    spec = make_audit(
        defenses=["none", *({"name": "obfuscation", "params": {"noise": v}} for v in tests)],
        attacks=["feature_recovery", "label_inference"],
        defend={} if budget is None else {"max_accuracy_cost": budget},
    )
    evaluations = [
        make_utility_evaluation(test=0.97),
        make_image_evaluation(**LEAK),
        make_label_evaluation(8, (0.68, 1.0)),
    ]
    for value, test in tests.items():
        released: dict[str, Any] = {"released": noise(value)}
        evaluations += [
            make_utility_evaluation(
                test=test, forget=1.0 if value in recalling else 0.4, **released
            ),
            make_image_evaluation(**(LEAK if value in leaking else NO_LEAK), **released),
            make_label_evaluation(right, (0.0, 0.32), **released),
        ]
    return build_report(spec, *evaluations)


def only(made: Report) -> Sweep:
    (sweep,) = made.sweeps
    return sweep


def test_a_sweep_tells_each_setting_weakest_first_beside_the_undefended() -> None:
    sweep = only(told({1.0: 0.9, 0.1: 0.97, 0.3: 0.96}, leaking=(0.1,)))
    assert (sweep.defense, sweep.strength) == ("obfuscation", "noise")
    assert [s.value for s in sweep.settings] == [0.1, 0.3, 1.0]
    assert [round(s.accuracy_cost or 0, 6) for s in sweep.settings] == [0.0, 0.01, 0.07]
    assert [s.leaks[0].outcome for s in sweep.settings] == ["leak", "not_seen", "not_seen"]
    first = sweep.settings[0].leaks[0]
    assert (first.metric, first.unit, first.mean, first.low, first.high, first.n) == (
        "psnr",
        "dB",
        22.0,
        19.0,
        25.0,
        8,
    )
    assert sweep.undefended is not None
    assert (sweep.undefended.value, sweep.undefended.test_accuracy) == (None, 0.97)
    assert len(sweep.undefended.leaks) == 2


def test_the_operating_point_is_the_weakest_of_those_that_are_payable_and_leak_least() -> None:
    assert only(told({0.1: 0.97, 0.3: 0.96, 1.0: 0.955}, leaking=(0.1,))).operating_point == 0.3
    # what is not payable does not count, however little it leaks
    some = only(told({0.1: 0.97, 0.3: 0.96, 1.0: 0.5}, leaking=(0.1, 0.3)))
    assert some.operating_point == 0.1
    assert "1 of 2 attacks still leak" in some.reason
    assert (
        only(told({0.1: 0.97, 0.3: 0.96, 1.0: 0.5}, leaking=(0.1, 0.3), budget=0.5)).operating_point
        == 1.0
    )


def test_where_nothing_is_payable_there_is_no_operating_point() -> None:
    sweep = only(told({0.1: 0.90, 0.3: 0.8, 1.0: 0.5}, leaking=()))
    assert sweep.operating_point is None
    assert (
        sweep.reason
        == "Every setting costs more than 2 points of test accuracy; the cheapest costs 7.0."
    )


def test_a_setting_that_takes_back_the_forgetting_is_none_to_operate_at() -> None:
    tests = {0.1: 0.97, 0.3: 0.96, 1.0: 0.955}
    assert only(told(tests, leaking=(0.1,), recalling=(0.3,))).operating_point == 1.0
    none = only(told(tests, leaking=(), recalling=(0.1, 0.3, 1.0)))
    assert none.operating_point is None
    assert "undoes the unlearning" in none.reason


def test_what_costs_nothing_is_said_so() -> None:
    assert (
        "It costs no test accuracy."
        in only(told({0.1: 0.98, 0.3: 0.97, 1.0: 0.5}, leaking=())).reason
    )


def test_without_a_budget_a_release_must_keep_its_use() -> None:
    sweep = only(told({0.1: 0.97, 0.3: 0.93, 1.0: 0.91}, leaking=(0.1,), budget=None))
    assert (sweep.max_accuracy_cost, sweep.operating_point) == (0.05, 0.3)


def test_the_worst_attack_decides() -> None:
    clear = only(told({0.1: 0.97, 0.3: 0.96, 1.0: 0.955}, leaking=(0.1,)))
    assert "(worst outcome: not seen)" in clear.reason
    assert "that were run; other attacks may find more leakage" in clear.reason


def without(made: dict[float, float], *gone: tuple[float | None, str], **spec: Any) -> Report:
    """`told`, all alike and none leaking, but for attacks that did not arrive at these
    strengths."""
    asked = make_audit(
        defenses=["none", *({"name": "obfuscation", "params": {"noise": v}} for v in made)],
        attacks=["feature_recovery", "label_inference"],
        defend={"max_accuracy_cost": 0.02},
        **spec,
    )
    came = [make_utility_evaluation(test=0.97, seed=seed) for seed in asked["seeds"]]
    for value, test in [(None, None), *made.items()]:
        for seed in asked["seeds"]:
            released: dict[str, Any] = {"seed": seed} | (
                {} if value is None else {"released": noise(value)}
            )
            came += (
                [] if test is None else [make_utility_evaluation(test=test, forget=0.4, **released)]
            )
            if (value, "feature_recovery") not in gone or seed:
                came.append(
                    make_image_evaluation(**(LEAK if value is None else NO_LEAK), **released)
                )
            if (value, "label_inference") not in gone or seed:
                came.append(
                    make_label_evaluation(8 if value is None else 0, (0.68, 1.0), **released)
                )
    return build_report(asked, *came)


ALIKE = {0.1: 0.97, 0.3: 0.96, 1.0: 0.955}


def test_a_setting_that_an_attack_is_missing_of_is_none_to_operate_at() -> None:
    assert only(without(ALIKE)).operating_point == 0.1
    some = only(without(ALIKE, (0.1, "label_inference")))
    assert some.operating_point == 0.3
    assert "0.1 was left out: an attack on it is missing, and missing rows may leak." in some.reason
    none = only(without(ALIKE, *((value, "label_inference") for value in ALIKE)))
    assert none.operating_point is None
    assert "0.1, 0.3 and 1 were left out: an attack on each is missing" in none.reason


def test_an_attack_that_came_for_one_seed_only_is_missing_too() -> None:
    some = only(without(ALIKE, (0.1, "feature_recovery"), seeds=[0, 1]))
    assert len(some.settings[0].leaks) == 2
    assert some.operating_point == 0.3


@pytest.mark.parametrize("at", [None, 0.1, 0.3])
@pytest.mark.parametrize("attack", ["feature_recovery", "label_inference"])
def test_each_score_stands_under_its_own_attack_though_one_is_missing(
    at: float | None, attack: str
) -> None:
    page = render_page(without(ALIKE, (at, attack)), [])
    table = page[page.index('aria-label="Settings of') :]
    table = table[: table.index("</table>")]
    head, *rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
    attacks = re.findall(r'<th scope="col">(.*?)</th>', head)[4:]
    assert sorted(attacks) == ["feature_recovery", "label_inference"]
    assert len(rows) == 4
    for row, value in zip(rows, (None, 0.1, 0.3, 1.0), strict=True):
        cells = re.findall(r'<td data-label="(.*?)">(.*?)</td>', row, re.DOTALL)[3:]
        assert [name for name, _ in cells] == attacks
        for name, cell in cells:
            gone = (value, name) == (at, attack)
            assert ("missing" in cell) == gone
            assert ("dB" in cell) == (name == "feature_recovery" and not gone)
    drawn = page[page.index('<h2 id="sweeps">') : page.index('aria-label="Settings of')]
    assert re.findall(r"<figcaption><b>(.*?)</b>", drawn) == attacks


def test_two_strengths_are_no_curve_and_two_parameters_neither() -> None:
    assert told({0.1: 0.97, 0.3: 0.96}, leaking=()).sweeps == []
    spec = make_audit(
        defenses=[
            make_method("obfuscation", noise=v, other=w) for v, w in zip(VALUES, "abc", strict=True)
        ]
    )
    spec["defenses"] = [{"name": d["method"], "params": d["params"]} for d in spec["defenses"]]
    evaluations = [
        make_image_evaluation(
            **LEAK, released={**make_method("obfuscation", noise=v, other=w), "strength": None}
        )
        for v, w in zip(VALUES, "abc", strict=True)
    ]
    assert build_report(spec, *evaluations).sweeps == []


def strengths(*values: float, n: int = 8, seeds: tuple[int, ...] = (0,)) -> Report:
    """An audit of these strengths, each row of n samples."""
    spec = make_audit(
        defenses=[{"name": "obfuscation", "params": {"noise": v}} for v in values], seeds=[*seeds]
    )
    came = [
        make_image_evaluation(**NO_LEAK, released=noise(v), seed=seed)
        for v in values
        for seed in seeds
    ]
    for one in came:
        one["metrics"]["psnr"]["n"] = n
    return build_report(spec, *came)


def test_strengths_and_samples_of_any_size_are_a_curve() -> None:
    sweep = only(strengths(1e3, 1e9, -1e12, n=1_000_000, seeds=(0, 1)))
    assert [setting.value for setting in sweep.settings] == [-1e12, 1e3, 1e9]
    assert {leak.n for setting in sweep.settings for leak in setting.leaks} == {2_000_000}
    assert "-1e+12: 9.0 dB" in str(draw_curve(sweep, attacks_of(sweep)[0]))


@pytest.mark.parametrize("value", [1e13, -1e300, 10**400], ids=("1e13", "-1e300", "10**400"))
def test_a_strength_beyond_all_bounds_costs_the_curve_only(value: float) -> None:
    made = strengths(0.1, 0.3, value)
    assert (len(made.rows), made.sweeps) == (3, [])
    assert "curve" not in render_page(made, [])


@pytest.mark.parametrize("budget", ["x", None, [], {}, 5, -0.1, True, 1e300])
def test_what_a_defense_may_cost_is_a_share_or_the_audit_is_refused(budget: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"audit\.defend\.max_accuracy_cost") as refused:
        build_report(
            make_audit(defend={"max_accuracy_cost": budget}), make_image_evaluation(**LEAK)
        )
    assert refused.value.field == "params.audit"


def test_without_an_undefended_release_the_cost_is_not_known() -> None:
    spec = make_audit(defenses=[{"name": "obfuscation", "params": {"noise": v}} for v in VALUES])
    made = build_report(spec, *(make_image_evaluation(**LEAK, released=noise(v)) for v in VALUES))
    assert only(made).operating_point is None
    assert "is unknown" in only(made).reason


def test_the_drawing_says_in_words_what_it_shows_and_marks_the_operating_point() -> None:
    sweep = only(told({0.1: 0.97, 0.3: 0.96, 1.0: 0.9}, leaking=(0.1,)))
    drawing = str(draw_curve(sweep, attacks_of(sweep)[0]))
    assert "none: 22.0 dB, test 0.97; 0.1: 22.0 dB, test 0.97; 0.3: 9.0 dB, test 0.96" in drawing
    assert drawing.count('class="chosen"') == 2  # wide and narrow
    assert drawing.count('class="mark leak"') == 4


def test_a_curve_says_which_way_leaks_more() -> None:
    spec = make_audit(defenses=[{"name": "obfuscation", "params": {"noise": v}} for v in VALUES])
    came = [make_image_evaluation(**LEAK, released=noise(v)) for v in VALUES]
    for one in came:
        one["metrics"] = {"mse": one["metrics"]["psnr"] | {"unit": "1", "higher_is_better": False}}
    sweep = only(build_report(spec, *came))
    assert "MSE, lower leaks more" in draw_curve(sweep, attacks_of(sweep)[0])
    sweep = only(told({0.1: 0.97, 0.3: 0.96, 1.0: 0.9}, leaking=(0.1,)))
    psnr, accuracy = (str(draw_curve(sweep, attack)) for attack in attacks_of(sweep))
    assert "PSNR in dB, higher leaks more" in psnr
    assert "label accuracy, higher leaks more" in accuracy


def test_the_page_names_the_operating_point() -> None:
    page = render_page(told({0.1: 0.97, 0.3: 0.96, 1.0: 0.9}, leaking=(0.1,)), [])
    assert "Operating point: noise 0.3." in page
    assert 'href="#sweeps"' in page
