"""The rules that decide what a row shows."""

from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist
from typing import Any

import pytest

from shared.reporting.binomial import chance_of
from shared.reporting.findings import RULES, retains_utility
from shared.reporting.models import Finding, Utility
from tests.support import reports
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    make_audit,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_one_recovered_evaluation,
)


def finding(evaluation: dict[str, Any], **spec: Any) -> Finding:
    return reports.build_report(make_audit(**spec), evaluation).rows[0].finding


def test_an_image_row_leaks_where_more_are_identified_than_by_chance() -> None:
    found = finding(make_image_evaluation(**LEAK))
    assert found.outcome == "leak"
    assert "8 identified samples above their own baseline" in found.reason
    assert "8 of 8 identified among 100 decoys [0.68, 1.00]" in found.reason


@pytest.mark.parametrize(
    ("auc", "p", "outcome", "why"),
    [
        (
            (0.9, 0.7, 0.98),
            0.0005,
            "leak",
            "above its baseline: AUC 0.90 [0.70, 0.98], baseline 0.50, p 0.001",
        ),
        ((0.7, 0.51, 0.82), 0.04, "inconclusive", "but not significantly"),
        # p-value and interval must agree
        ((0.6, 0.45, 0.75), 0.01, "inconclusive", "but not significantly"),
        ((0.6, 0.45, 0.75), 0.1, "not_seen", "does not differ significantly"),
        ((0.2, 0.1, 0.45), 1.0, "leak", "forgotten too thoroughly"),
    ],
)
def test_a_membership_row_leaks_where_its_auc_is_clear_of_a_coin_on_either_side(
    auc: tuple[float, float, float], p: float, outcome: str, why: str
) -> None:
    found = finding(make_membership_evaluation(auc, p), attacks=["membership_difference"])
    assert found.outcome == outcome
    assert why in found.reason


@pytest.mark.parametrize(("right", "outcome"), [(3, "inconclusive"), (1, "not_seen")])
def test_a_few_detected_samples_are_never_not_seen(right: int, outcome: str) -> None:
    """3 of 8 told where chance tells 0.05 of them; 1 of 8 comes by chance in a third of all
    cases."""
    told = make_membership_evaluation((0.5, 0.3, 0.7), 0.5)
    rate = make_label_evaluation(right, {3: (0.14, 0.69), 1: (0.02, 0.47)}[right], baseline=0.05)[
        "metrics"
    ]["label_accuracy"]
    told["metrics"]["tpr_forgotten"] = rate
    found = finding(told, attacks=["membership_difference"])
    assert found.outcome == outcome
    assert ("Only the true positive rate" in found.reason) == (outcome == "inconclusive")


def test_retained_samples_that_are_distinguished_decide_nothing() -> None:
    retained = {"retained": (0.9, 0.8, 0.95), "retained_p": 0.0005}
    assert (
        finding(
            make_membership_evaluation((0.5, 0.3, 0.7), 0.5, **retained),
            attacks=["membership_difference"],
        ).outcome
        == "not_seen"
    )


def test_who_is_identified_leaks_whatever_the_mean_of_the_pictures() -> None:
    """7 of 8 among 100 decoys never come by chance, even where one bad picture pulls the mean to
    its null."""
    found = finding(make_image_evaluation(**LEAK | {"gain": (3.0, -0.1, 6.0)}))
    assert found.outcome == "leak"
    assert "gain +3.0 dB [−0.1, +6.0]" in found.reason


def test_a_gain_without_anybody_identified_is_inconclusive() -> None:
    found = finding(make_image_evaluation(**LEAK | {"ranks": NO_LEAK["ranks"]}))
    assert found.outcome == "inconclusive"
    assert "Only the gain is significant" in found.reason


def test_below_both_baselines_a_leak_is_not_seen() -> None:
    found = finding(make_image_evaluation(**NO_LEAK))
    assert found.outcome == "not_seen"
    assert "safe" not in found.reason


def test_one_lucky_hit_among_eight_is_not_identification() -> None:
    """Wilson's interval of 1 of 8 lies above 1 in 101, but chance does that in 8 % of all cases."""
    assert (
        finding(
            make_image_evaluation(**NO_LEAK | {"ranks": [1, 7, 90, 13, 55, 101, 20, 33]})
        ).outcome
        == "not_seen"
    )


def test_one_recovered_image_is_a_leak_for_one_person_and_never_not_seen() -> None:
    found = finding(make_one_recovered_evaluation())
    assert found.outcome == "inconclusive"
    assert "1 deletion of 8 identified above the baseline" in found.reason
    assert any("single reconstructed image can expose a person" in rule for rule in RULES)


def test_without_scores_every_identified_deletion_counts() -> None:
    told = make_image_evaluation(**NO_LEAK | {"ranks": [1, *NO_LEAK["ranks"][1:]]})
    assert finding(told).outcome == "not_seen"
    told["identification"]["above_baseline"] = None
    assert finding(told).outcome == "inconclusive"


def test_nothing_seen_in_too_few_samples_is_inconclusive() -> None:
    few = finding(make_image_evaluation(**NO_LEAK | {"ranks": [50, 60, 70, 80]}))
    assert few.outcome == "inconclusive"
    assert "n = 4" in few.reason


def test_one_sample_alone_needs_more_than_its_rank_among_few_decoys() -> None:
    alone = {"psnr": (22.0, None, None), "gain": (9.0, None, None)}
    assert finding(make_image_evaluation(**alone, ranks=[1])).outcome == "leak"
    assert finding(make_image_evaluation(**alone, ranks=[1], decoys=30)).outcome == "inconclusive"
    assert finding(make_image_evaluation(**alone, ranks=[40])).outcome == "inconclusive"


def test_without_decoys_an_image_row_is_inconclusive() -> None:
    evaluation = make_image_evaluation(**LEAK) | {"identification": {"n": 0, "decoys": 0}}
    row = reports.build_report(make_audit(), evaluation).rows[0]
    assert row.finding.outcome == "inconclusive"
    assert row.identification is None
    assert "decoy_rank_1" not in row.metrics


@pytest.mark.parametrize(
    ("right", "ends", "outcome"),
    [(8, (0.68, 1.0), "leak"), (3, (0.14, 0.69), "inconclusive"), (1, (0.02, 0.47), "not_seen")],
)
def test_labels_leak_where_interval_and_exact_probability_agree(
    right: int, ends: tuple[float, float], outcome: str
) -> None:
    assert (
        finding(make_label_evaluation(right, ends), attacks=["label_inference"]).outcome == outcome
    )


def test_the_probability_of_chance_is_the_binomial_tail_counted_one_by_one() -> None:
    for successes, n, share in [(0, 3, 0.3), (1, 8, 1 / 101), (3, 8, 0.1), (5, 5, 0.5)]:
        slow = sum(
            math.prod(share if hit else 1 - share for hit in hits)
            for hits in product((0, 1), repeat=n)
            if sum(hits) >= successes
        )
        assert chance_of(successes, n, share) == pytest.approx(slow)
    assert chance_of(1, 8, 1 / 101) == pytest.approx(0.076, abs=1e-3)


@pytest.mark.parametrize(
    ("successes", "n", "share"), [(2000, 2000, 0.5), (600, 2000, 0.3), (10_200, 1_000_000, 0.01)]
)
def test_the_probability_of_chance_is_computed_for_many_trials(
    successes: int, n: int, share: float
) -> None:
    """Beside the normal approximation, with its half a trial."""
    spread = math.sqrt(n * share * (1 - share))
    normal = 1 - NormalDist(n * share, spread).cdf(successes - 0.5)
    assert chance_of(successes, n, share) == pytest.approx(normal, abs=0.01)


def test_a_model_is_of_use_within_five_points_and_unknown_is_no() -> None:
    def lost(points: float) -> Utility:
        return Utility.model_validate(
            reports.make_utility_evaluation(test=0.98 - points / 100)["utility"]
        )

    assert retains_utility(lost(5.0))
    assert not retains_utility(lost(5.1))
    assert not retains_utility(None)
