"""The verdict, its notes and its limits."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared.reporting.models import Report, Verdict
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    build_report,
    make_audit,
    make_defense,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_method,
    make_one_recovered_evaluation,
    make_self_test,
    make_utility_evaluation,
)

# without a known use of such knowledge, attackers who know the defense are the same
PRUNED = make_defense("pruning", strength=0.3) | {"has_adaptive_attack": False}
DEFENDED = make_audit(defenses=["none", "pruning"])


def defended(
    undefended: dict[str, Any], now: dict[str, Any], test: float = 0.97, forget: float = 0.5
) -> Report:
    return build_report(
        DEFENDED,
        make_image_evaluation(**undefended),
        make_utility_evaluation(forget=forget),
        make_image_evaluation(**now, released=PRUNED),
        make_utility_evaluation(test=test, forget=forget, released=PRUNED),
    )


def test_the_details_give_score_interval_baseline_and_n_of_a_leak() -> None:
    verdict = build_report(
        make_audit(), make_image_evaluation(**LEAK), make_utility_evaluation()
    ).verdict
    assert verdict.level == "leaks"
    for told in ("8 of 8", "100 decoys", "+9.0 dB [+6.0, +12.0]", "baseline"):
        assert told in verdict.details[0]


def test_membership_comes_after_reconstruction_and_mentions_retained_samples() -> None:
    told, spec = (
        make_membership_evaluation((0.9, 0.7, 0.98)),
        make_audit(attacks=["membership_difference", "feature_recovery"]),
    )
    verdict = build_report(
        make_audit(attacks=["membership_difference"]), told, make_utility_evaluation()
    ).verdict
    assert verdict.level == "leaks"
    assert "tells deleted samples from samples that were never trained on" in verdict.headline
    assert "AUC 0.90" in verdict.details[0]
    assert any(
        "Retained training samples were not distinguishable" in s and "AUC 0.50" in s
        for s in verdict.details
    )
    both = build_report(spec, told, make_image_evaluation(**LEAK), make_utility_evaluation())
    assert "reconstructs 8 of 8 deleted samples" in both.verdict.headline
    assert any("already has the candidates" in limit for limit in both.caveats)
    stayed = make_membership_evaluation(
        (0.5, 0.3, 0.7), 0.5, retained=(0.8, 0.7, 0.9), retained_p=0.0005
    )
    leaking = build_report(
        make_audit(attacks=["membership_difference"]), stayed, make_utility_evaluation()
    ).verdict
    assert leaking.level == "no_leak_seen"
    turned = make_membership_evaluation(
        (0.5, 0.3, 0.7), 0.5, retained=(0.2, 0.1, 0.3), retained_p=1.0
    )
    told = build_report(
        make_audit(attacks=["membership_difference"]), turned, make_utility_evaluation()
    ).verdict.details
    assert any("AUC 0.20 [0.10, 0.30] against non-members, inverted" in s for s in told)
    assert any(
        "are also distinguishable in 1 of 1 row: AUC 0.80 [0.70, 0.90]" in s
        for s in leaking.details
    )


def test_a_defense_that_hides_who_was_deleted_has_reduced_the_leak() -> None:
    spec = make_audit(defenses=["none", "pruning"], attacks=["membership_difference"])
    hidden = make_membership_evaluation((0.5, 0.3, 0.65), 0.5, released=PRUNED)
    verdict = build_report(
        spec,
        make_membership_evaluation((0.9, 0.7, 0.98)),
        make_utility_evaluation(),
        hidden,
        make_utility_evaluation(released=PRUNED),
    ).verdict
    assert verdict.level == "reduced"
    assert verdict.headline.startswith("Without a defense, an attacker who can only query")


def test_no_leak_is_worded_as_not_seen_and_never_as_safe() -> None:
    verdict = build_report(
        make_audit(), make_image_evaluation(**NO_LEAK), make_utility_evaluation()
    ).verdict
    assert verdict.level == "no_leak_seen"
    text = " ".join([verdict.headline, *verdict.sentences, *verdict.details])
    assert "No leak was seen" in text
    assert "does not prove" in text
    assert "safe" not in text


def test_a_missing_row_makes_it_inconclusive_but_hides_no_leak() -> None:
    spec = make_audit(attacks=["feature_recovery", "label_inference"])
    assert (
        build_report(
            spec, make_image_evaluation(**NO_LEAK), make_utility_evaluation()
        ).verdict.level
        == "inconclusive"
    )
    leaking = build_report(spec, make_image_evaluation(**LEAK), make_utility_evaluation()).verdict
    assert leaking.level == "leaks"
    assert any("1 row of the audit is missing" in sentence for sentence in leaking.details)
    assert "Of 2 results, 1 is missing, which may be a leak." in leaking.sentences


def test_a_low_score_of_a_useless_or_unmeasured_model_is_no_win() -> None:
    destroyed = build_report(
        make_audit(), make_image_evaluation(**NO_LEAK), make_utility_evaluation(test=0.3)
    ).verdict
    assert "no longer useful, so a low score is meaningless" in destroyed.details[0]
    assert any("no longer useful" in sentence for sentence in destroyed.sentences)
    assert destroyed.level == "inconclusive"
    assert "No leak was seen" not in destroyed.headline
    assert (
        build_report(make_audit(), make_image_evaluation(**NO_LEAK)).verdict.level == "inconclusive"
    )


def test_code_that_fails_its_self_test_decides_nothing_and_says_so_first() -> None:
    broken = build_report(
        make_audit(),
        make_image_evaluation(**LEAK),
        make_utility_evaluation(),
        tested=make_self_test(psnr=40 / 4),
    )
    whole = build_report(make_audit(), make_image_evaluation(**LEAK), make_utility_evaluation())
    assert (whole.verdict.level, broken.verdict.level) == ("leaks", "inconclusive")
    assert "failed its self-test" in broken.verdict.headline
    assert whole.verdict.headline in broken.verdict.sentences[0]
    assert broken.verdict.sentences[1:] == whole.verdict.sentences[:2]
    assert broken.verdict.details == whole.verdict.details
    assert "failed its self-test (psnr)" in broken.caveats[0]
    assert not any(
        "self-test" in text
        for text in (whole.verdict.headline, *whole.verdict.sentences, *whole.caveats)
    )


def test_a_missing_self_test_is_a_caveat_and_changes_no_verdict() -> None:
    without = build_report(
        make_audit(), make_image_evaluation(**LEAK), make_utility_evaluation(), tested=None
    )
    assert "self-test result is missing" in without.caveats[0]
    assert (
        without.verdict
        == build_report(
            make_audit(), make_image_evaluation(**LEAK), make_utility_evaluation()
        ).verdict
    )
    assert without.provenance.self_test is None


def test_without_any_row_nothing_was_measured() -> None:
    made = build_report(make_audit(), make_utility_evaluation())
    assert made.verdict.level == "inconclusive"
    assert made.rows == []
    assert len(made.missing) == 1


def test_a_defense_that_stops_who_does_not_know_it_is_no_evidence_of_safety() -> None:
    released = make_defense("pruning", strength=0.3)
    made = build_report(
        DEFENDED,
        make_image_evaluation(**LEAK),
        make_utility_evaluation(),
        make_image_evaluation(**NO_LEAK, released=released),
        make_utility_evaluation(released=released),
    )
    assert made.verdict.level == "leaks"
    assert any("not evidence of safety" in sentence for sentence in made.verdict.details)
    assert "an adaptive attacker may still succeed" in str(made.rows[1].note)


def test_a_defense_that_stops_the_attack_reduces() -> None:
    assert defended(LEAK, NO_LEAK).verdict.level == "reduced"


@pytest.mark.parametrize(
    ("outcomes", "told", "counted"),
    [
        ([LEAK, NO_LEAK], ", pruning (share 0.5) stopped every attack", "1 of 2 defended"),
        (
            [LEAK, NO_LEAK, NO_LEAK],
            ", pruning in 2 of 3 settings stopped every attack",
            "2 of 3 defended",
        ),
        ([NO_LEAK, NO_LEAK], ", pruning stopped every attack", "Both defended"),
    ],
)
def test_a_defense_is_credited_at_the_settings_that_stopped_it_only(
    outcomes: list[dict[str, Any]], told: str, counted: str
) -> None:
    rows = [make_image_evaluation(**LEAK), make_utility_evaluation()]
    for share, outcome in zip((0.3, 0.5, 0.7), outcomes, strict=False):
        released = make_defense("pruning", share=share) | {"has_adaptive_attack": False}
        rows += [
            make_image_evaluation(**outcome, released=released),
            make_utility_evaluation(released=released),
        ]
    settings = [
        {"name": "pruning", "params": {"share": share}}
        for share in (0.3, 0.5, 0.7)[: len(outcomes)]
    ]
    verdict = build_report(make_audit(defenses=["none", *settings]), *rows).verdict
    assert verdict.level == "reduced"
    assert any(told in sentence for sentence in verdict.details)
    assert any(sentence.startswith(counted) for sentence in verdict.sentences)


def test_a_defense_that_takes_back_the_forgetting_is_no_win() -> None:
    def verdict(unlearning: str, exact: bool) -> Verdict:
        rows = [
            make_image_evaluation(**LEAK),
            make_utility_evaluation(),
            make_image_evaluation(**NO_LEAK, released=PRUNED),
            make_utility_evaluation(forget=1.0, released=PRUNED),
        ]
        for row in rows:
            row["unlearning"] |= {"method": unlearning, "exact": exact}
        return build_report(DEFENDED | {"unlearning": [unlearning]}, *rows).verdict

    undone = verdict("gradient_ascent", exact=False)
    assert undone.level == "leaks"
    assert "The defense undoes the unlearning" in undone.details[1]
    assert verdict("retrain", exact=True).level == "reduced"
    assert defended(LEAK, NO_LEAK, forget=1.0).verdict.level == "reduced"  # nor did it without


def test_a_setting_that_is_missing_says_nothing_of_the_others() -> None:
    there, gone = ({"name": "pruning", "params": {"share": share}} for share in (0.5, 0.99))
    released = make_defense("pruning", share=0.5, grid=[0.5, 0.99]) | {"has_adaptive_attack": False}
    rows = [
        make_image_evaluation(**LEAK),
        make_utility_evaluation(),
        make_image_evaluation(**NO_LEAK, released=released),
        make_utility_evaluation(released=released),
    ]
    made = build_report(make_audit(defenses=["none", there, gone]), *rows)
    assert [one.reason.partition(":")[0] for one in made.missing if one.attack] == [
        "no results for these models"
    ]
    assert any(", pruning stopped every attack" in one for one in made.verdict.details)
    assert made.verdict.level == "inconclusive"


@pytest.mark.parametrize(
    ("now", "test"),
    [
        (NO_LEAK, 0.6),  # it destroyed the model
        (NO_LEAK | {"psnr": (18.0, 14.0, 20.0)}, 0.97),  # the intervals overlap
        (LEAK, 0.97),
    ],
)
def test_what_is_no_win_does_not_reduce(now: dict[str, Any], test: float) -> None:
    assert defended(LEAK, now, test).verdict.level == "leaks"


def test_a_defense_whose_intervals_overlap_is_said_to_show_nothing() -> None:
    told = "The release does not leak significantly less"
    overlapping = defended(LEAK, NO_LEAK | {"psnr": (18.0, 14.0, 20.0)}).verdict.details
    assert [told in sentence for sentence in overlapping[:2]] == [False, True]
    assert not any(told in sentence for sentence in defended(LEAK, NO_LEAK).verdict.details)
    assert not any(told in sentence for sentence in defended(NO_LEAK, NO_LEAK).verdict.details)


def test_an_audit_cannot_declare_a_destroyed_model_of_use() -> None:
    spec = DEFENDED | {"defend": {"max_accuracy_cost": 0.9}}
    rows = [
        make_image_evaluation(**LEAK),
        make_image_evaluation(**NO_LEAK, released=PRUNED),
        make_utility_evaluation(),
        make_utility_evaluation(test=0.1, released=PRUNED),
    ]
    made = build_report(spec, *rows)
    assert made.verdict.level == "leaks"
    assert "no longer useful" in note(made)


def two_methods(second: list[dict[str, Any]]) -> Report:
    """gradient_ascent leaks and pruning stops it; of retrain what is given."""
    first = [
        make_image_evaluation(**LEAK),
        make_utility_evaluation(),
        make_image_evaluation(**NO_LEAK, released=PRUNED),
        make_utility_evaluation(released=PRUNED),
    ]
    return build_report(
        make_audit(unlearning=["gradient_ascent", "retrain"], defenses=["none", "pruning"]),
        *first,
        *second,
    )


def of_retrain(now: dict[str, Any], test: float = 0.97) -> list[dict[str, Any]]:
    made = []
    for released in (None, PRUNED):
        made += [
            make_image_evaluation(**now, unlearning="retrain", released=released),
            make_utility_evaluation(unlearning="retrain", released=released, test=test),
        ]
    return made


def test_a_reduced_leak_beside_a_method_without_one_is_reduced() -> None:
    assert two_methods(of_retrain(NO_LEAK)).verdict.level == "reduced"


@pytest.mark.parametrize(
    "second",
    [
        of_retrain(NO_LEAK | {"gain": (3.0, 0.1, 6.0)}),  # undecided
        of_retrain(NO_LEAK, test=0.1),  # of no use
        of_retrain(NO_LEAK)[1:],  # a row missing
        of_retrain(NO_LEAK)[:-1],  # a utility missing
        [],
    ],
)
def test_whatever_is_missing_or_undecided_caps_a_reduced_leak_and_hides_none(
    second: list[dict[str, Any]],
) -> None:
    verdict = two_methods(second).verdict
    assert verdict.level == "inconclusive"
    assert verdict.headline.startswith("Without a defense, an attacker who holds")
    assert re.search(
        "which may be (a leak|leaks)|models are no longer useful", verdict.sentences[-1]
    )


def test_a_defense_that_is_undecided_caps_one_that_reduces() -> None:
    noise = make_defense("obfuscation", strength=0.1) | {"has_adaptive_attack": False}
    spec = make_audit(defenses=["none", "pruning", "obfuscation"])
    made = build_report(
        spec,
        *(
            one
            for r in (None, PRUNED, noise)
            for one in (
                make_image_evaluation(**(NO_LEAK if r else LEAK), released=r),
                make_utility_evaluation(released=r),
            )
        ),
    )
    assert made.verdict.level == "reduced"
    undecided = build_report(
        spec,
        make_image_evaluation(**LEAK),
        make_image_evaluation(**NO_LEAK, released=PRUNED),
        make_one_recovered_evaluation(released=noise),
        *(make_utility_evaluation(released=r) for r in (None, PRUNED, noise)),
    )
    assert undecided.verdict.level == "inconclusive"


def test_the_headline_of_a_leak_names_a_method_that_no_defense_lowered() -> None:
    """gradient_ascent leaks more, and pruning stops it; retrain leaks under both."""
    weaker = LEAK | {"gain": (6.0, 3.0, 9.0)}
    report = two_methods(of_retrain(weaker))
    verdict = report.verdict
    assert verdict.level == "leaks"
    assert verdict.row is not None
    assert report.rows[verdict.row - 1].unlearning.method == "retrain"


def test_one_method_that_leaks_decides_over_one_whose_leak_was_reduced() -> None:
    spec = make_audit(unlearning=["gradient_ascent", "retrain"], defenses=["none", "pruning"])
    made = []
    for u in ("gradient_ascent", "retrain"):
        for released in (None, PRUNED):
            attacked = NO_LEAK if u == "retrain" and released else LEAK
            made += [
                make_image_evaluation(**attacked, unlearning=u, released=released),
                make_utility_evaluation(unlearning=u, released=released),
            ]
    assert build_report(spec, *made).verdict.level == "leaks"


def test_a_leak_over_two_seeds_names_all_of_them_and_the_strongest() -> None:
    made = build_report(
        make_audit(seeds=[0, 1]),
        make_image_evaluation(**LEAK),
        make_image_evaluation(**NO_LEAK, seed=1),
        make_utility_evaluation(),
        make_utility_evaluation(seed=1),
    )
    assert made.verdict.level == "leaks"
    told = "8 of 16 identified over 2 seeds, most in seed 0: 8 of 8 identified"
    assert told in made.verdict.details[0]
    assert "reconstructs 8 of 16 deleted samples" in made.verdict.headline


def note(made: Report, row: int = 1) -> str:
    return str(made.rows[row].note)


def test_a_useless_model_is_noted() -> None:
    assert "meaningless" in note(defended(LEAK, NO_LEAK, test=0.6))


def test_unknown_utility_is_noted() -> None:
    assert "is unknown" in note(build_report(make_audit(), make_image_evaluation(**NO_LEAK)), 0)


def test_a_defense_that_is_too_weak_is_noted_with_its_strength() -> None:
    told = note(defended(LEAK, LEAK))
    assert "did not reduce the score" in told
    assert "share 0.3 is the strongest of 2 settings" in told


def test_overlapping_intervals_are_no_difference_shown() -> None:
    told = note(defended(LEAK, LEAK | {"psnr": (20.0, 17.0, 23.0)}))
    assert "intervals overlap" in told
    assert "n = 8" in told


def test_where_nothing_leaked_there_was_nothing_to_lower() -> None:
    assert "no leak to reduce" in note(defended(NO_LEAK, NO_LEAK))


def test_a_defense_that_lowers_but_not_to_the_baseline_is_noted() -> None:
    told = note(defended(LEAK, LEAK | {"psnr": (16.0, 15.0, 17.0), "gain": (3.0, 2.0, 4.0)}))
    assert "but not to the baseline" in told


def test_without_the_undefended_row_the_effect_of_a_defense_is_unknown() -> None:
    made = build_report(
        DEFENDED,
        make_image_evaluation(**NO_LEAK, released=PRUNED),
        make_utility_evaluation(released=PRUNED),
    )
    assert "effect of the defense is unknown" in note(made, 0)


def test_forgetting_that_does_not_show_is_noted_per_row_and_in_the_verdict() -> None:
    made = defended(LEAK, NO_LEAK, forget=1.0)
    assert "Unlearning is not visible" in note(made)
    assert any("forgetting is not visible" in sentence for sentence in made.verdict.details)
    exact = build_report(
        make_audit(unlearning=["retrain"]),
        make_image_evaluation(**LEAK, unlearning="retrain"),
        make_utility_evaluation(forget=1.0, unlearning="retrain"),
    )
    assert "Unlearning is exact but not visible" in note(exact, 0)


def test_limits_follow_the_audit() -> None:
    plain, guarded = (
        build_report(make_audit(), make_image_evaluation(**LEAK), make_utility_evaluation()),
        defended(LEAK, NO_LEAK),
    )
    assert any("No defense was tested" in limit for limit in plain.caveats)
    assert any("adaptive" in limit for limit in guarded.caveats)
    assert any("n = 8" in limit for limit in plain.caveats)
    assert any("given the classes" in limit for limit in plain.caveats)
    assert not any("BASE" in limit for limit in plain.caveats)


def test_trained_batch_norm_is_a_limit_and_frozen_is_none() -> None:
    for train, told in (
        ({}, False),
        ({"batch_norm": "frozen"}, False),
        ({"batch_norm": "trained"}, True),
    ):
        limits = build_report(
            make_audit(train=train), make_image_evaluation(**LEAK), make_utility_evaluation()
        ).caveats
        assert any("train.batch_norm: trained" in limit for limit in limits) == told


def test_comparing_deletions_is_distinguished_from_seeing_a_single_release() -> None:
    for more, told in (({}, False), ({"released_models": 8}, True)):
        evaluation = make_image_evaluation(**LEAK)
        evaluation["threat_model"] |= more
        made = build_report(make_audit(), evaluation, make_utility_evaluation())
        assert (
            any("compares the releases of several deletions" in limit for limit in made.caveats)
            == told
        )


def test_unlearning_that_moves_batch_norm_is_a_limit_that_names_the_method() -> None:
    methods = [{"name": "retrain"}, {"name": "fine_tune", "params": {"batch_norm": "trained"}}]
    limits = build_report(
        make_audit(unlearning=methods), make_image_evaluation(**LEAK), make_utility_evaluation()
    ).caveats
    assert any("unlearning.1.params.batch_norm: trained" in limit for limit in limits)


def test_a_label_leak_alone_is_a_leak() -> None:
    made = build_report(
        make_audit(attacks=["label_inference"]),
        make_label_evaluation(8, (0.68, 1.0)),
        make_utility_evaluation(),
    )
    assert made.verdict.level == "leaks"
    assert "infers the class of 8 of 8 deleted samples" in made.verdict.headline


def test_repeating_exact_unlearning_is_given_as_a_range_over_seeds() -> None:
    made = [make_image_evaluation(**LEAK, seed=seed, unlearning="retrain") for seed in (0, 1, 2)]
    for one, ratio in zip(made, (0.31, 0.12, 0.2), strict=True):
        one["unlearning"]["repeat_ratio"] = ratio
    limits = build_report(make_audit(unlearning=["retrain"], seeds=[0, 1, 2]), *made).caveats
    assert any("by 12 to 31 % (retrain)" in limit for limit in limits)


def promised(**promise: float) -> list[str]:
    """The limits of an audit of a defense that makes this promise."""
    released = {**make_method("dp_sgd", noise=1.0), "strength": None, "guarantee": promise}
    spec = make_audit(defenses=[{"name": "dp_sgd", "params": {"noise": 1.0}}])
    return build_report(
        spec,
        make_image_evaluation(**NO_LEAK, released=released),
        make_utility_evaluation(released=released),
    ).caveats


def test_the_guarantee_is_stated_with_and_without_a_delta() -> None:
    assert any(
        "with epsilon at most 3.5 at delta 1e-05. It compares training sets with and without"
        in limit
        for limit in promised(epsilon=3.5, delta=1e-5)
    )
    assert any(
        "a single training run, with epsilon at most 2e+09. It" in limit
        for limit in promised(epsilon=2e9)
    )
    assert any(
        "for which epsilon is larger (for a replaced sample: 9)" in limit
        for limit in promised(epsilon=3.5, epsilon_replacement=9.0)
    )
    assert not any("Differential privacy" in limit for limit in promised(noise=1.0))


def test_experiments_are_said_to_be_corrected_together() -> None:
    spec = make_audit(defenses=["none", "pruning"], seeds=[0, 1])
    rows = [
        make_image_evaluation(**LEAK, seed=seed, released=released)
        for seed in (0, 1)
        for released in (None, PRUNED)
    ]
    several = build_report(spec, *rows)
    assert any("The 2 tests of this report are corrected" in limit for limit in several.caveats)
    assert not any("two measures" in limit for limit in several.caveats)
    alone = build_report(make_audit(), make_image_evaluation(**LEAK))
    assert not any("corrected" in limit for limit in alone.caveats)


def test_where_decoys_come_from_is_a_caveat() -> None:
    for auc, told in ((0.5, "then of the test split"), (0.7, "but not of the test split")):
        row = make_image_evaluation(**LEAK)
        row["identification"] |= {"split_auc": auc, "split_auc_limit": 0.53}
        limits = build_report(make_audit(), row).caveats
        assert any(told in limit and f"AUC of {auc:.2f}, limit 0.53" in limit for limit in limits)


def test_copies_of_deleted_samples_are_named() -> None:
    utility = make_utility_evaluation() | {"retained_copies": [0, 6]}
    report = build_report(make_audit(), make_image_evaluation(**LEAK), utility)
    assert report.rows[0].retained_copies == [0, 6]
    assert any("(deletions 1 and 7 of seed 0)" in limit for limit in report.caveats)
