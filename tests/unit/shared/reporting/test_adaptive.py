"""The attacker who knows the defense beside the one who does not: rows, names, verdict, notes, limits, page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared.reporting.models import Report
from shared.reporting.page import render
from tests.support.reports import JSON, LEAK, NOTHING, audit, defense, images, labels, method, report, utility

PLAIN = method("feature_recovery", adaptive=False)
KNOWS = method("feature_recovery", adaptive=True)
NAMED = "feature_recovery (knows the defense)"
NONE = defense("none") | {"counter": False}
PRUNED = defense("pruning", share=0.5) | {"counter": True}
PRIVATE = {"method": "dp_sgd", "params": {"noise_multiplier": 1.0}, "strength": None, "counter": False}
BOTH = ["feature_recovery", {"name": "feature_recovery", "params": {"adaptive": True}}]


def both(plain: JSON, knows: JSON | None, **more: Any) -> Report:
    """Leaks if nothing is done; behind pruning what is given for who does not know it and who does."""
    spec = audit(defenses=["none", "pruning"], attacks=BOTH if knows else BOTH[:1], **more)
    behind = [images(**plain, released=PRUNED, attack=PLAIN)]
    behind += [images(**knows, released=PRUNED, attack=KNOWS)] if knows else []
    return report(spec, utility(), utility(released=PRUNED), images(**LEAK, released=NONE, attack=PLAIN), *behind)


def notes(made: Report) -> dict[tuple[str, bool], str]:
    return {(row.defense.method, row.attack.params["adaptive"]): str(row.note) for row in made.rows}


def test_the_verdict_of_a_defense_is_that_of_the_strongest_attacker() -> None:
    assert both(NOTHING, NOTHING).verdict.level == "reduced"
    undone = both(NOTHING, LEAK | {"gain": (12.0, 10.0, 14.0)}).verdict
    assert undone.level == "leaks"
    assert "with pruning by an attacker who knows the defense" in undone.headline
    assert f"{NAMED} leaks" in undone.sentences[1]
    assert "with feature_recovery a leak was not seen" in undone.sentences[1]


def test_what_only_the_knowing_attacker_gets_keeps_a_defense_from_having_reduced() -> None:
    """No leak is seen with either, but the intervals of the one who knows overlap those without a defense."""
    overlapping = NOTHING | {"psnr": (18.0, 14.0, 20.0)}
    assert both(NOTHING, overlapping).verdict.level == "leaks"


def test_without_a_defense_who_knows_it_is_no_row_and_none_is_missing() -> None:
    made = both(NOTHING, LEAK)
    assert [(row.defense.method, row.attack.params["adaptive"]) for row in made.rows] == [
        ("none", False), ("pruning", False), ("pruning", True),
    ]  # fmt: skip
    assert made.missing == []


def test_an_audit_of_knowing_attackers_alone_misses_nothing_and_has_one_column() -> None:
    made = report(
        audit(defenses=["none", "pruning", "dp_sgd"], attacks=BOTH[1:]),
        *(utility(released=r) for r in (NONE, PRUNED, PRIVATE)),
        images(**LEAK, released=NONE, attack=PLAIN),
        images(**LEAK, released=PRUNED, attack=KNOWS),
        images(**NOTHING, released=PRIVATE, attack=PLAIN),
    )
    assert made.missing == []
    glance = render(made, []).split('class="glance"')[1].split("</table>")[0]
    assert re.findall(r'<th scope="col">(.*?)</th>', glance) == ["Release", "Test", "Forget", NAMED]
    assert "missing" not in glance


def test_the_two_attackers_stand_side_by_side_whatever_stands_between_them_in_the_audit() -> None:
    told = labels(8, (0.68, 1.0), released=NONE)
    made = report(
        audit(defenses=["none", "pruning"], attacks=[BOTH[0], "label_inference", BOTH[1]]),
        *(utility(released=r) for r in (NONE, PRUNED)), told, labels(8, (0.68, 1.0), released=PRUNED),
        images(**LEAK, released=NONE, attack=PLAIN),
        *(images(**LEAK, released=PRUNED, attack=attack) for attack in (PLAIN, KNOWS)),
    )  # fmt: skip
    glance = render(made, []).split('class="glance"')[1].split("</table>")[0]
    columns = re.findall(r'<th scope="col">(.*?)</th>', glance)[3:]
    assert columns == ["feature_recovery", NAMED, "label_inference"]
    assert "missing" not in glance


def test_a_knowing_attack_that_failed_is_missing() -> None:
    made = report(
        audit(defenses=["none", "pruning"], attacks=BOTH),
        utility(), utility(released=PRUNED), images(**LEAK, released=NONE, attack=PLAIN),
        images(**NOTHING, released=PRUNED, attack=PLAIN),
    )  # fmt: skip
    assert [(m.defense.method, m.attack.params) for m in made.missing if m.attack] == [("pruning", {"adaptive": True})]


def test_notes_set_the_two_beside_each_other() -> None:
    told = notes(both(NOTHING, LEAK))
    assert "one who knows it gets 22.0 dB [19.0, 25.0], and it leaks" in told["pruning", False]
    assert "did not lower the score" in told["pruning", True]
    told = notes(both(NOTHING, NOTHING))
    assert "no leak was seen there" in told["pruning", False]
    assert "also against an attacker who knows the defense" in told["pruning", True]
    assert "one who knows it may still succeed" in notes(both(NOTHING, None))["pruning", False]


def test_an_audit_without_a_knowing_attacker_says_which_defenses_that_leaves_open() -> None:
    unknown, known = both(NOTHING, None), both(NOTHING, NOTHING)
    assert any("pruning was not attacked by anyone who knows the defense" in limit for limit in unknown.limits)
    assert any("No attacker here knew that pruning was used" in told for told in unknown.verdict.sentences)
    assert not any("No attacker here knew" in told for told in known.verdict.sentences)
    assert not any("not attacked by anyone" in limit for limit in known.limits)
    assert any("another may make a better one" in limit for limit in known.limits)


def test_a_defense_without_a_counter_is_said_to_have_none_and_one_that_is_not_told_may_have_one() -> None:
    spec = audit(defenses=["none", "dp_sgd"])
    leak = images(**LEAK, released=NONE, attack=PLAIN)
    for counter, limit, noted in (
        (False, "For dp_sgd no use of knowing", "No way to make use of knowing"),
        (None, "dp_sgd was not attacked by anyone", "one who knows it may still succeed"),
    ):
        private = PRIVATE | {"counter": counter}
        now = images(**NOTHING, released=private, attack=PLAIN)
        made = report(spec, utility(), utility(released=private), leak, now)
        assert any(limit in told for told in made.limits)
        assert noted in notes(made)["dp_sgd", False]


def test_how_often_the_release_was_fetched_is_noted_for_who_averages() -> None:
    noisy = defense("obfuscation", noise=0.01, draws=64) | {"counter": True}
    once = defense("obfuscation", noise=0.01, draws=1) | {"counter": True}
    for released, told in ((noisy, True), (once, False)):
        made = report(
            audit(defenses=["none", "obfuscation"], attacks=BOTH), utility(), utility(released=released),
            images(**LEAK, released=NONE, attack=PLAIN),
            *(images(**NOTHING, released=released, attack=attack) for attack in (PLAIN, KNOWS)),
        )  # fmt: skip
        noted = notes(made)
        assert ("averages 64 fetches" in noted["obfuscation", True]) == told
        assert "fetches" not in noted["obfuscation", False]


def test_the_page_shows_both_columns_the_undefended_score_in_both_and_what_each_was_given() -> None:
    made = both(NOTHING, LEAK)
    page = render(made, [])
    first, second = re.findall(r"<tr>\s*<th scope=\"row\"><span class=\"mark-no\">.*?</tr>", page, re.S)
    assert first.count("22.0 dB") == 2
    assert "no defense" in first
    assert "22.0 dB" in second
    assert "9.0 dB" in second
    assert f"<h3>{NAMED}</h3>" in page
    assert "unless it lists DEFENSE," in page
    assert "unless it lists DEFENSE," not in render(both(NOTHING, None), [])


@pytest.mark.parametrize("knowing", [True, False])
def test_a_curve_of_the_knowing_attacker_starts_at_the_undefended_score(knowing: bool) -> None:
    values = (0.1, 0.5, 0.9)
    shares = [defense("pruning", share=v) | {"counter": True} for v in values]
    made = report(
        audit(
            defenses=["none", *({"name": "pruning", "params": {"share": v}} for v in values)],
            attacks=BOTH if knowing else BOTH[:1],
        ),
        utility(), images(**LEAK, released=NONE, attack=PLAIN),
        *(one for r in shares for one in (utility(released=r), images(**NOTHING, released=r, attack=PLAIN))),
        *(images(**LEAK, released=r, attack=KNOWS) for r in shares if knowing),
    )  # fmt: skip
    (sweep,) = made.sweeps
    assert sweep.undefended is not None
    leaks = [setting.leaks for setting in (sweep.undefended, *sweep.settings)]
    assert all([leak.attack.params["adaptive"] for leak in some] == [False, True][: 1 + knowing] for some in leaks)
    assert [leak.mean for leak in sweep.undefended.leaks] == [22.0] * (1 + knowing)
    assert render(made, []).count("<figcaption><b>" + NAMED) == 2 * knowing  # the curve, and the chart over accuracy
