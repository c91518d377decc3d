"""The verdict, its notes and its limits."""

from __future__ import annotations

from typing import Any

import pytest

from shared.reporting.models import Report, Verdict, schema_text
from tests.support.reports import (
    LEAK,
    NOTHING,
    audit,
    defense,
    images,
    labels,
    membership,
    method,
    one_recovered,
    report,
    self_test,
    utility,
)

PRUNED = defense("pruning", strength=0.3)
DEFENDED = audit(defenses=["none", "pruning"])


def defended(undefended: dict[str, Any], now: dict[str, Any], test: float = 0.97, forget: float = 0.5) -> Report:
    return report(
        DEFENDED,
        images(**undefended),
        utility(forget=forget),
        images(**now, released=PRUNED),
        utility(test=test, forget=forget, released=PRUNED),
    )


def test_a_leak_is_said_with_score_interval_null_and_n() -> None:
    verdict = report(audit(), images(**LEAK), utility()).verdict
    assert verdict.level == "leaks"
    for told in ("8 of 8", "100 decoys", "+9.0 dB [+6.0, +12.0]", "null"):
        assert told in verdict.headline


def test_who_was_deleted_is_said_after_what_was_read_back_and_with_those_who_stayed() -> None:
    told, spec = membership((0.9, 0.7, 0.98)), audit(attacks=["membership_difference", "feature_recovery"])
    verdict = report(audit(attacks=["membership_difference"]), told, utility()).verdict
    assert verdict.level == "leaks"
    assert verdict.headline.startswith("Who was deleted can be told, among candidates, after gradient_ascent: AUC 0.90")
    assert any("Who stayed in the training set was not told" in s and "AUC 0.50" in s for s in verdict.sentences)
    both = report(spec, told, images(**LEAK), utility())
    assert both.verdict.headline.startswith("Deleted samples can be read back")
    assert any("holds the candidates themselves" in limit for limit in both.limits)
    stayed = membership((0.5, 0.3, 0.7), 0.5, stayed=(0.8, 0.7, 0.9), stayed_p=0.0005)
    leaking = report(audit(attacks=["membership_difference"]), stayed, utility()).verdict
    assert leaking.level == "no_leak_seen"
    turned = membership((0.5, 0.3, 0.7), 0.5, stayed=(0.2, 0.1, 0.3), stayed_p=1.0)
    told = report(audit(attacks=["membership_difference"]), turned, utility()).verdict.sentences
    assert any("AUC 0.20 [0.10, 0.30] against samples never trained on, the other way round" in s for s in told)
    assert any("is told too, in 1 of 1 row: AUC 0.80 [0.70, 0.90]" in s for s in leaking.sentences)


def test_a_defense_that_hides_who_was_deleted_has_reduced_the_leak() -> None:
    spec = audit(defenses=["none", "pruning"], attacks=["membership_difference"])
    hidden = membership((0.5, 0.3, 0.65), 0.5, released=PRUNED)
    verdict = report(spec, membership((0.9, 0.7, 0.98)), utility(), hidden, utility(released=PRUNED)).verdict
    assert verdict.level == "reduced"
    assert verdict.headline.startswith(
        "Who was deleted can be told, among candidates, after gradient_ascent if nothing"
    )


def test_no_leak_is_worded_as_not_seen_and_never_as_safe() -> None:
    verdict = report(audit(), images(**NOTHING), utility()).verdict
    assert verdict.level == "no_leak_seen"
    text = " ".join([verdict.headline, *verdict.sentences])
    assert "was not seen" in text
    assert "not a proof" in text
    assert "safe" not in text


def test_a_missing_row_makes_it_inconclusive_but_hides_no_leak() -> None:
    spec = audit(attacks=["feature_recovery", "label_inference"])
    assert report(spec, images(**NOTHING), utility()).verdict.level == "inconclusive"
    leaking = report(spec, images(**LEAK), utility()).verdict
    assert leaking.level == "leaks"
    assert any("1 row of the audit did not arrive" in sentence for sentence in leaking.sentences)


def test_a_low_score_of_a_destroyed_or_unmeasured_model_is_no_win() -> None:
    destroyed = report(audit(), images(**NOTHING), utility(test=0.3)).verdict
    assert "lost their use, so that is no win" in destroyed.sentences[0]
    assert destroyed.level == "inconclusive"
    assert "not seen" not in destroyed.headline
    assert report(audit(), images(**NOTHING)).verdict.level == "inconclusive"


def test_code_that_fails_its_self_test_decides_nothing_and_says_so_first() -> None:
    broken = report(audit(), images(**LEAK), utility(), tested=self_test(psnr=40 / 4))
    whole = report(audit(), images(**LEAK), utility())
    assert (whole.verdict.level, broken.verdict.level) == ("leaks", "inconclusive")
    assert "failed its self-test (psnr)" in broken.verdict.headline
    assert whole.verdict.headline in broken.verdict.sentences[0]
    assert broken.verdict.sentences[1:] == whole.verdict.sentences
    assert "failed its self-test (psnr)" in broken.limits[0]
    assert not any("self-test" in text for text in (whole.verdict.headline, *whole.verdict.sentences, *whole.limits))


def test_a_self_test_that_did_not_arrive_is_a_limit_and_changes_no_verdict() -> None:
    without = report(audit(), images(**LEAK), utility(), tested=None)
    assert "did not arrive" in without.limits[0]
    assert without.verdict == report(audit(), images(**LEAK), utility()).verdict
    assert without.provenance.self_test is None


def test_without_any_row_nothing_was_measured() -> None:
    made = report(audit(), utility())
    assert made.verdict.level == "inconclusive"
    assert made.rows == []
    assert len(made.missing) == 1


def test_a_defense_that_stops_the_attack_reduces_and_is_no_evidence_of_safety() -> None:
    made = defended(LEAK, NOTHING)
    assert made.verdict.level == "reduced"
    assert any("no evidence of safety" in sentence for sentence in made.verdict.sentences)
    assert "one who knows it may still succeed" in str(made.rows[1].note)


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ([LEAK, NOTHING], "; pruning (share 0.5) stopped every attack"),
        ([LEAK, NOTHING, NOTHING], "; pruning in 2 of 3 settings stopped every attack"),
        ([NOTHING, NOTHING], "; pruning stopped every attack"),
    ],
)
def test_a_defense_is_credited_at_the_settings_that_stopped_it_only(outcomes: list[dict[str, Any]], told: str) -> None:
    rows = [images(**LEAK), utility()]
    for share, outcome in zip((0.3, 0.5, 0.7), outcomes, strict=False):
        released = defense("pruning", share=share)
        rows += [images(**outcome, released=released), utility(released=released)]
    settings = [{"name": "pruning", "params": {"share": share}} for share in (0.3, 0.5, 0.7)[: len(outcomes)]]
    verdict = report(audit(defenses=["none", *settings]), *rows).verdict
    assert verdict.level == "reduced"
    assert told in verdict.headline


def test_a_defense_that_takes_back_the_forgetting_is_no_win() -> None:
    def verdict(unlearning: str, exact: bool) -> Verdict:
        rows = [
            images(**LEAK), utility(), images(**NOTHING, released=PRUNED), utility(forget=1.0, released=PRUNED),
        ]  # fmt: skip
        for row in rows:
            row["unlearning"] |= {"method": unlearning, "exact": exact}
        return report(DEFENDED | {"unlearning": [unlearning]}, *rows).verdict

    undone = verdict("gradient_ascent", exact=False)
    assert undone.level == "leaks"
    assert "It no longer forgets" in undone.sentences[1]
    assert verdict("retrain", exact=True).level == "reduced"
    assert defended(LEAK, NOTHING, forget=1.0).verdict.level == "reduced"  # nor did it without


def test_a_setting_that_is_missing_says_nothing_of_the_others() -> None:
    there, gone = ({"name": "pruning", "params": {"share": share}} for share in (0.5, 0.99))
    released = defense("pruning", share=0.5, grid=[0.5, 0.99])
    rows = [images(**LEAK), utility(), images(**NOTHING, released=released), utility(released=released)]
    made = report(audit(defenses=["none", there, gone]), *rows)
    assert [one.why.partition(":")[0] for one in made.missing if one.attack] == [
        "nothing came of these released models"
    ]
    assert "; pruning stopped every attack" in made.verdict.headline
    assert made.verdict.level == "inconclusive"


@pytest.mark.parametrize(
    ("now", "test"),
    [
        (NOTHING, 0.6),  # it destroyed the model
        (NOTHING | {"psnr": (18.0, 14.0, 20.0)}, 0.97),  # the intervals overlap
        (LEAK, 0.97),
    ],
)
def test_what_is_no_win_does_not_reduce(now: dict[str, Any], test: float) -> None:
    assert defended(LEAK, now, test).verdict.level == "leaks"


def test_a_defense_whose_intervals_overlap_is_said_to_show_nothing() -> None:
    told = "That it leaks less than without is not shown"
    overlapping = defended(LEAK, NOTHING | {"psnr": (18.0, 14.0, 20.0)}).verdict.sentences
    assert [told in sentence for sentence in overlapping[:2]] == [False, True]
    assert not any(told in sentence for sentence in defended(LEAK, NOTHING).verdict.sentences)
    assert not any(told in sentence for sentence in defended(NOTHING, NOTHING).verdict.sentences)


def test_an_audit_cannot_declare_a_destroyed_model_of_use() -> None:
    spec = DEFENDED | {"defend": {"max_accuracy_cost": 0.9}}
    rows = [images(**LEAK), images(**NOTHING, released=PRUNED), utility(), utility(test=0.1, released=PRUNED)]
    made = report(spec, *rows)
    assert made.verdict.level == "leaks"
    assert "lost their use" in note(made)


def two_methods(second: list[dict[str, Any]]) -> Report:
    """gradient_ascent leaks and pruning stops it; of retrain what is given."""
    first = [images(**LEAK), utility(), images(**NOTHING, released=PRUNED), utility(released=PRUNED)]
    return report(audit(unlearning=["gradient_ascent", "retrain"], defenses=["none", "pruning"]), *first, *second)


def of_retrain(now: dict[str, Any], test: float = 0.97) -> list[dict[str, Any]]:
    made = []
    for released in (None, PRUNED):
        made += [
            images(**now, unlearning="retrain", released=released),
            utility(unlearning="retrain", released=released, test=test),
        ]
    return made


def test_a_reduced_leak_beside_a_method_without_one_is_reduced() -> None:
    assert two_methods(of_retrain(NOTHING)).verdict.level == "reduced"


@pytest.mark.parametrize(
    "second",
    [
        of_retrain(NOTHING | {"gain": (3.0, 0.1, 6.0)}),  # undecided
        of_retrain(NOTHING, test=0.1),  # of no use
        of_retrain(NOTHING)[1:],  # a row missing
        of_retrain(NOTHING)[:-1],  # a utility missing
        [],
    ],
)
def test_whatever_is_missing_or_undecided_caps_a_reduced_leak_and_hides_none(second: list[dict[str, Any]]) -> None:
    verdict = two_methods(second).verdict
    assert verdict.level == "inconclusive"
    assert "can be read back after gradient_ascent if nothing is done" in verdict.headline
    assert "Not everything here is decided" in verdict.headline


def test_a_defense_that_is_undecided_caps_one_that_reduces() -> None:
    noise = defense("obfuscation", strength=0.1)
    spec = audit(defenses=["none", "pruning", "obfuscation"])
    made = report(
        spec,
        *(
            one
            for r in (None, PRUNED, noise)
            for one in (images(**(NOTHING if r else LEAK), released=r), utility(released=r))
        ),
    )
    assert made.verdict.level == "reduced"
    undecided = report(
        spec, images(**LEAK), images(**NOTHING, released=PRUNED), one_recovered(released=noise),
        *(utility(released=r) for r in (None, PRUNED, noise)),
    )  # fmt: skip
    assert undecided.verdict.level == "inconclusive"


def test_the_headline_of_a_leak_names_a_method_that_no_defense_lowered() -> None:
    """gradient_ascent leaks more, and pruning stops it; retrain leaks under both."""
    weaker = LEAK | {"gain": (6.0, 3.0, 9.0)}
    verdict = two_methods(of_retrain(weaker)).verdict
    assert verdict.level == "leaks"
    assert "after retrain" in verdict.headline
    assert "+6.0 dB" in verdict.headline


def test_the_null_is_called_what_one_gets_who_rebuilds_nothing() -> None:
    """One null sees the weights: an attacker who saw nothing would be another."""
    verdict = report(audit(), images(**LEAK), utility()).verdict
    assert "what an attacker gets who rebuilds nothing" in verdict.headline
    assert "saw nothing" not in verdict.headline + schema_text()


def test_one_method_that_leaks_decides_over_one_whose_leak_was_reduced() -> None:
    spec = audit(unlearning=["gradient_ascent", "retrain"], defenses=["none", "pruning"])
    made = []
    for u in ("gradient_ascent", "retrain"):
        for released in (None, PRUNED):
            attacked = NOTHING if u == "retrain" and released else LEAK
            made += [images(**attacked, unlearning=u, released=released), utility(unlearning=u, released=released)]
    assert report(spec, *made).verdict.level == "leaks"


def test_a_leak_in_one_of_two_seeds_is_a_leak_and_says_in_how_many() -> None:
    made = report(audit(seeds=[0, 1]), images(**LEAK), images(**NOTHING, seed=1), utility(), utility(seed=1))
    assert made.verdict.level == "leaks"
    assert "in 1 of 2 seeds, most in seed 0" in made.verdict.sentences[0]


def note(made: Report, row: int = 1) -> str:
    return str(made.rows[row].note)


def test_a_destroyed_model_is_noted() -> None:
    assert "no win" in note(defended(LEAK, NOTHING, test=0.6))


def test_unknown_utility_is_noted() -> None:
    assert "not known" in note(report(audit(), images(**NOTHING)), 0)


def test_a_defense_that_is_too_weak_is_noted_with_its_strength() -> None:
    told = note(defended(LEAK, LEAK))
    assert "did not lower the score" in told
    assert "share 0.3 is the strongest of 2 settings" in told


def test_overlapping_intervals_are_no_difference_shown() -> None:
    told = note(defended(LEAK, LEAK | {"psnr": (20.0, 17.0, 23.0)}))
    assert "intervals overlap" in told
    assert "n = 8" in told


def test_where_nothing_leaked_there_was_nothing_to_lower() -> None:
    assert "no leak to lower" in note(defended(NOTHING, NOTHING))


def test_a_defense_that_lowers_but_not_to_the_null_is_noted() -> None:
    told = note(defended(LEAK, LEAK | {"psnr": (16.0, 15.0, 17.0), "gain": (3.0, 2.0, 4.0)}))
    assert "but not to the null" in told


def test_a_defense_without_its_undefended_row_cannot_be_told() -> None:
    made = report(DEFENDED, images(**NOTHING, released=PRUNED), utility(released=PRUNED))
    assert "cannot be told" in note(made, 0)


def test_forgetting_that_does_not_show_is_noted_per_row_and_in_the_verdict() -> None:
    made = defended(LEAK, NOTHING, forget=1.0)
    assert "did not unlearn visibly" in note(made)
    assert any("forgetting does not show" in sentence for sentence in made.verdict.sentences)
    exact = report(
        audit(unlearning=["retrain"]), images(**LEAK, unlearning="retrain"), utility(forget=1.0, unlearning="retrain")
    )
    assert "Exact unlearning that does not show" in note(exact, 0)


def test_limits_follow_the_audit() -> None:
    plain, guarded = report(audit(), images(**LEAK), utility()), defended(LEAK, NOTHING)
    assert any("No defense was in place" in limit for limit in plain.limits)
    assert any("adaptive" in limit for limit in guarded.limits)
    assert any("n = 8" in limit for limit in plain.limits)
    assert any("told the classes" in limit for limit in plain.limits)
    assert not any("BASE" in limit for limit in plain.limits)


def test_trained_batch_norm_is_a_limit_and_frozen_is_none() -> None:
    for train, told in (({}, False), ({"batch_norm": "frozen"}, False), ({"batch_norm": "trained"}, True)):
        limits = report(audit(train=train), images(**LEAK), utility()).limits
        assert any("train.batch_norm: trained" in limit for limit in limits) == told


def test_one_who_compares_deletions_is_told_from_one_who_sees_a_single_release() -> None:
    for more, told in (({}, False), ({"released_models": 8}, True)):
        evaluation = images(**LEAK)
        evaluation["threat_model"] |= more
        made = report(audit(), evaluation, utility())
        assert any("compares the releases of several deletions" in limit for limit in made.limits) == told


def test_unlearning_that_moves_batch_norm_is_a_limit_that_names_the_method() -> None:
    methods = [{"name": "retrain"}, {"name": "fine_tune", "params": {"batch_norm": "trained"}}]
    limits = report(audit(unlearning=methods), images(**LEAK), utility()).limits
    assert any("unlearning.1.params.batch_norm: trained" in limit for limit in limits)


def test_a_label_leak_alone_is_a_leak() -> None:
    made = report(audit(attacks=["label_inference"]), labels(8, (0.68, 1.0)), utility())
    assert made.verdict.level == "leaks"
    assert made.verdict.headline.startswith("The classes of deleted samples")


def test_repeating_exact_unlearning_is_told_as_a_range_over_seeds() -> None:
    made = [images(**LEAK, seed=seed, unlearning="retrain") for seed in (0, 1, 2)]
    for one, ratio in zip(made, (0.31, 0.12, 0.2), strict=True):
        one["unlearning"]["repeat_ratio"] = ratio
    limits = report(audit(unlearning=["retrain"], seeds=[0, 1, 2]), *made).limits
    assert any("by 12 to 31 % (retrain)" in limit for limit in limits)


def promised(**promise: float) -> list[str]:
    """The limits of an audit of a defense that makes this promise."""
    released = {**method("dp_sgd", noise=1.0), "strength": None, "promise": promise}
    spec = audit(defenses=[{"name": "dp_sgd", "params": {"noise": 1.0}}])
    return report(spec, images(**NOTHING, released=released), utility(released=released)).limits


def test_what_is_promised_is_told_with_and_without_a_delta() -> None:
    assert any("at most epsilon 3.5 at delta 1e-05. Whoever" in limit for limit in promised(epsilon=3.5, delta=1e-5))
    assert any("for one training, at most epsilon 2e+09. Whoever" in limit for limit in promised(epsilon=2e9))
    assert not any("Differential privacy" in limit for limit in promised(noise=1.0))


def test_rows_of_every_kind_are_said_to_be_judged_alone() -> None:
    """All rules ask that chance gives as much in one of forty at most, images by identification alone."""
    several = report(audit(seeds=[0, 1]), images(**LEAK), images(**LEAK, seed=1))
    assert any(
        "2 rows is judged on its own" in limit and "one in forty may be called a leak by chance" in limit
        for limit in several.limits
    )
    assert not any("two measures" in limit for limit in several.limits)
    assert not any("one in forty" in limit for limit in report(audit(), images(**LEAK)).limits)
