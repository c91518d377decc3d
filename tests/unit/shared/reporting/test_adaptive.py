"""The attacker who knows the defense beside the one who does not: rows, names, verdict, notes,
limits, page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared.reporting.models import Report
from shared.reporting.page import render_page
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    JSONObject,
    build_report,
    make_audit,
    make_defense,
    make_image_evaluation,
    make_label_evaluation,
    make_method,
    make_utility_evaluation,
)

PLAIN = make_method("feature_recovery", adaptive=False)
KNOWS = make_method("feature_recovery", adaptive=True)
NAMED = "feature_recovery (knows the defense)"
NONE = make_defense("none") | {"has_adaptive_attack": False}
PRUNED = make_defense("pruning", share=0.5) | {"has_adaptive_attack": True}
PRIVATE = {
    "method": "dp_sgd",
    "params": {"noise_multiplier": 1.0},
    "strength": None,
    "has_adaptive_attack": False,
}
BOTH = ["feature_recovery", {"name": "feature_recovery", "params": {"adaptive": True}}]


def both(plain: JSONObject, knows: JSONObject | None, **more: Any) -> Report:
    """Leaks if nothing is done; behind pruning what is given for who does not know it and who
    does."""
    spec = make_audit(defenses=["none", "pruning"], attacks=BOTH if knows else BOTH[:1], **more)
    behind = [make_image_evaluation(**plain, released=PRUNED, attack=PLAIN)]
    behind += [make_image_evaluation(**knows, released=PRUNED, attack=KNOWS)] if knows else []
    return build_report(
        spec,
        make_utility_evaluation(),
        make_utility_evaluation(released=PRUNED),
        make_image_evaluation(**LEAK, released=NONE, attack=PLAIN),
        *behind,
    )


def notes(made: Report) -> dict[tuple[str, bool], str]:
    return {(row.defense.method, row.attack.params["adaptive"]): str(row.note) for row in made.rows}


def test_the_verdict_of_a_defense_is_that_of_the_strongest_attacker() -> None:
    assert both(NO_LEAK, NO_LEAK).verdict.level == "reduced"
    undone = both(NO_LEAK, LEAK | {"gain": (12.0, 10.0, 14.0)}).verdict
    assert undone.level == "leaks"
    assert undone.headline.startswith("Despite a defense, ")
    assert f"{NAMED} leaks" in undone.details[1]
    assert "no leak was seen with feature_recovery" in undone.details[1]


def test_what_only_the_adaptive_attacker_gets_keeps_a_defense_from_having_reduced() -> None:
    """No leak is seen with either, but the intervals of the one who knows overlap those without a
    defense."""
    overlapping = NO_LEAK | {"psnr": (18.0, 14.0, 20.0)}
    assert both(NO_LEAK, overlapping).verdict.level == "leaks"


def test_without_a_defense_who_knows_it_is_no_row_and_none_is_missing() -> None:
    made = both(NO_LEAK, LEAK)
    assert [(row.defense.method, row.attack.params["adaptive"]) for row in made.rows] == [
        ("none", False), ("pruning", False), ("pruning", True),
    ]  # fmt: skip
    assert made.missing == []


def test_an_audit_of_adaptive_attackers_alone_misses_nothing_and_has_one_column() -> None:
    made = build_report(
        make_audit(defenses=["none", "pruning", "dp_sgd"], attacks=BOTH[1:]),
        *(make_utility_evaluation(released=r) for r in (NONE, PRUNED, PRIVATE)),
        make_image_evaluation(**LEAK, released=NONE, attack=PLAIN),
        make_image_evaluation(**LEAK, released=PRUNED, attack=KNOWS),
        make_image_evaluation(**NO_LEAK, released=PRIVATE, attack=PLAIN),
    )
    assert made.missing == []
    glance = render_page(made, []).split('class="glance"')[1].split("</table>")[0]
    assert re.findall(r'<th scope="col">(.*?)</th>', glance) == ["Release", "Test", "Forget", NAMED]
    assert "missing" not in glance


def test_the_two_attackers_stand_side_by_side_whatever_stands_between_them_in_the_audit() -> None:
    told = make_label_evaluation(8, (0.68, 1.0), released=NONE)
    made = build_report(
        make_audit(defenses=["none", "pruning"], attacks=[BOTH[0], "label_inference", BOTH[1]]),
        *(make_utility_evaluation(released=r) for r in (NONE, PRUNED)),
        told,
        make_label_evaluation(8, (0.68, 1.0), released=PRUNED),
        make_image_evaluation(**LEAK, released=NONE, attack=PLAIN),
        *(
            make_image_evaluation(**LEAK, released=PRUNED, attack=attack)
            for attack in (PLAIN, KNOWS)
        ),
    )
    glance = render_page(made, []).split('class="glance"')[1].split("</table>")[0]
    columns = re.findall(r'<th scope="col">(.*?)</th>', glance)[3:]
    assert columns == ["feature_recovery", NAMED, "label_inference"]
    assert "missing" not in glance


def test_an_adaptive_attack_that_failed_is_missing() -> None:
    made = build_report(
        make_audit(defenses=["none", "pruning"], attacks=BOTH),
        make_utility_evaluation(),
        make_utility_evaluation(released=PRUNED),
        make_image_evaluation(**LEAK, released=NONE, attack=PLAIN),
        make_image_evaluation(**NO_LEAK, released=PRUNED, attack=PLAIN),
    )
    assert [(m.defense.method, m.attack.params) for m in made.missing if m.attack] == [
        ("pruning", {"adaptive": True})
    ]


def test_notes_set_the_two_beside_each_other() -> None:
    told = notes(both(NO_LEAK, LEAK))
    assert "an adaptive attacker still scores 22.0 dB [19.0, 25.0] (leak)" in told["pruning", False]
    assert "did not reduce the score" in told["pruning", True]
    told = notes(both(NO_LEAK, NO_LEAK))
    assert "(no leak seen)" in told["pruning", False]
    assert "also against the adaptive attack" in told["pruning", True]
    assert "an adaptive attacker may still succeed" in notes(both(NO_LEAK, None))["pruning", False]


def test_an_audit_without_an_adaptive_attacker_says_which_defenses_that_leaves_open() -> None:
    unknown, known = both(NO_LEAK, None), both(NO_LEAK, NO_LEAK)
    assert any("pruning was not attacked adaptively" in limit for limit in unknown.caveats)
    assert any(
        "No adaptive attack was run against pruning" in told for told in unknown.verdict.details
    )
    assert not any("No adaptive attack was run" in told for told in known.verdict.details)
    assert not any("not attacked adaptively" in limit for limit in known.caveats)
    assert any("other ways may be stronger" in limit for limit in known.caveats)


def test_a_defense_without_an_adaptive_attack_is_noted_and_an_unknown_one_may_have_one() -> None:
    spec = make_audit(defenses=["none", "dp_sgd"])
    leak = make_image_evaluation(**LEAK, released=NONE, attack=PLAIN)
    for counter, limit, noted in (
        (
            False,
            "No adaptive attack on dp_sgd is known",
            "No adaptive attack on this defense is known",
        ),
        (None, "dp_sgd was not attacked adaptively", "an adaptive attacker may still succeed"),
    ):
        private = PRIVATE | {"has_adaptive_attack": counter}
        now = make_image_evaluation(**NO_LEAK, released=private, attack=PLAIN)
        made = build_report(
            spec, make_utility_evaluation(), make_utility_evaluation(released=private), leak, now
        )
        assert any(limit in told for told in made.caveats)
        assert noted in notes(made)["dp_sgd", False]


def test_the_number_of_averaged_releases_is_noted() -> None:
    noisy = make_defense("obfuscation", noise=0.01, releases_averaged=64) | {
        "has_adaptive_attack": True
    }
    once = make_defense("obfuscation", noise=0.01, releases_averaged=1) | {
        "has_adaptive_attack": True
    }
    for released, told in ((noisy, True), (once, False)):
        made = build_report(
            make_audit(defenses=["none", "obfuscation"], attacks=BOTH),
            make_utility_evaluation(),
            make_utility_evaluation(released=released),
            make_image_evaluation(**LEAK, released=NONE, attack=PLAIN),
            *(
                make_image_evaluation(**NO_LEAK, released=released, attack=attack)
                for attack in (PLAIN, KNOWS)
            ),
        )
        noted = notes(made)
        assert ("averages 64 releases" in noted["obfuscation", True]) == told
        assert "averages" not in noted["obfuscation", False]


def test_the_page_shows_both_columns_the_undefended_score_in_both_and_what_each_was_given() -> None:
    made = both(NO_LEAK, LEAK)
    page = render_page(made, [])
    first, second = re.findall(
        r"<tr>\s*<th scope=\"row\"><span class=\"mark-no\">.*?</tr>", page, re.S
    )
    assert first.count("22.0 dB") == 2
    assert "no defense" in first
    assert "22.0 dB" in second
    assert "9.0 dB" in second
    assert f"<h3>{NAMED}</h3>" in page
    assert "unless it lists DEFENSE," in page
    assert "unless it lists DEFENSE," not in render_page(both(NO_LEAK, None), [])


@pytest.mark.parametrize("knowing", [True, False])
def test_a_curve_of_the_adaptive_attacker_starts_at_the_undefended_score(knowing: bool) -> None:
    values = (0.1, 0.5, 0.9)
    shares = [make_defense("pruning", share=v) | {"has_adaptive_attack": True} for v in values]
    made = build_report(
        make_audit(
            defenses=["none", *({"name": "pruning", "params": {"share": v}} for v in values)],
            attacks=BOTH if knowing else BOTH[:1],
        ),
        make_utility_evaluation(),
        make_image_evaluation(**LEAK, released=NONE, attack=PLAIN),
        *(
            one
            for r in shares
            for one in (
                make_utility_evaluation(released=r),
                make_image_evaluation(**NO_LEAK, released=r, attack=PLAIN),
            )
        ),
        *(make_image_evaluation(**LEAK, released=r, attack=KNOWS) for r in shares if knowing),
    )
    (sweep,) = made.sweeps
    assert sweep.undefended is not None
    leaks = [setting.leaks for setting in (sweep.undefended, *sweep.settings)]
    assert all(
        [leak.attack.params["adaptive"] for leak in some] == [False, True][: 1 + knowing]
        for some in leaks
    )
    assert [leak.mean for leak in sweep.undefended.leaks] == [22.0] * (1 + knowing)
    # the curve, and the chart over accuracy
    assert render_page(made, []).count("<figcaption><b>" + NAMED) == 2 * knowing
