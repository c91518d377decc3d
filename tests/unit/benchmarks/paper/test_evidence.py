"""Pooling over seeds, and the tests that decide."""

from __future__ import annotations

import pytest

from benchmarks.paper.audit_specs import REDUCED
from benchmarks.paper.evidence import (
    Evidence,
    PooledEvaluations,
    compute_difference,
    compute_fisher_p,
    compute_trend,
)
from tests.support.evaluations import make_evaluation

PAIR = ("feature_recovery", {"gradient_from": "pair", "adaptive": False})
KNOWS = ("feature_recovery", {"gradient_from": "pair", "adaptive": True})


def test_values_of_all_seeds_are_one_sample_beside_the_null_that_is_strongest_over_all() -> None:
    score = PooledEvaluations(
        [
            make_evaluation("retrain", PAIR, seed=0, psnr=[20.0, 22.0, 21.0], baseline=12.0),
            make_evaluation("retrain", PAIR, seed=1, psnr=[18.0, 24.0, 21.0], baseline=14.0),
        ]
    ).pool_score("psnr")
    assert score is not None
    assert (score.n, score.mean, score.baseline, score.baseline_name) == (
        6,
        21.0,
        13.0,
        "class_mean",
    )
    assert score.gains == [8.0, 10.0, 9.0, 4.0, 10.0, 7.0]
    assert 2 < score.gain_interval[0] < 8
    assert score.leaks


def test_a_null_of_a_few_deletions_is_not_the_null() -> None:
    evaluation = make_evaluation("retrain", PAIR, psnr=[20.0, 22.0])
    evaluation["metrics"]["psnr"]["baseline_values"]["random_direction"] = [30.0]
    score = PooledEvaluations([evaluation]).pool_score("psnr")
    assert score is not None
    assert score.baseline_name == "class_mean"


def test_an_attack_is_found_by_what_matters_of_its_parameters() -> None:
    released = ("pruning", 0.5)
    evidence = Evidence(
        REDUCED,
        {
            "defenses": [
                make_evaluation("retrain", PAIR, psnr=[1.0, 2.0]),
                make_evaluation("retrain", PAIR, psnr=[3.0, 4.0], defense=released),
                make_evaluation("retrain", KNOWS, psnr=[5.0, 6.0], defense=released),
                make_evaluation("retrain", KNOWS, psnr=[7.0, 8.0], defense=("pruning", 0.2)),
            ]
        },
    )
    releases = evidence.list_releases("defenses", "pruning")
    assert [(r.strength_name, r.strength) for r in releases] == [("share", 0.2), ("share", 0.5)]
    means = {
        (place, knows): score.mean
        for place, release in enumerate([None, *releases])
        for knows in (False, True)
        if (
            score := evidence.pool(
                "defenses", "retrain", "feature_recovery", release, adaptive=knows
            ).pool_score("psnr")
        )
    }
    assert means == {(0, False): 1.5, (1, True): 7.5, (2, False): 3.5, (2, True): 5.5}
    assert not evidence.pool("defenses", "gradient_ascent", "feature_recovery")


def test_identification_is_held_against_chance() -> None:
    found = [
        PooledEvaluations(
            [make_evaluation("retrain", PAIR, psnr=[1.0] * 8, ranks=r)]
        ).pool_identified()
        for r in ([1] * 2 + [9] * 6, [9] * 8)
    ]
    assert [one is not None and (one.count, one.leaks) for one in found] == [(2, True), (0, False)]


def test_a_difference_is_paired() -> None:
    left, right = (
        PooledEvaluations([make_evaluation("retrain", PAIR, psnr=v)]).pool_score("psnr")
        for v in ([10.0, 20.0, 30.0, 40.0, 50.0], [9.0, 18.0, 29.0, 39.0, 48.0])
    )
    assert left is not None
    assert right is not None
    found = compute_difference(left, right)
    assert found is not None
    mean, low, high = found
    assert mean == pytest.approx(7 / 5)
    assert 0 < low < mean < high < 3


def test_a_trend_needs_two_groups() -> None:
    rho, p = compute_trend([(1, [5.0, 6.0]), (2, [3.0, 4.0]), (3, [1.0, 2.0])])
    assert rho < -0.9
    assert p < 0.05
    with pytest.raises(ValueError, match="two groups"):
        compute_trend([(1, [5.0, 6.0])])


def test_fisher_is_one_sided() -> None:
    from scipy.stats import fisher_exact

    assert compute_fisher_p((9, 10), (2, 10)) == pytest.approx(
        fisher_exact([[9, 1], [2, 8]], alternative="greater").pvalue
    )
    assert compute_fisher_p((2, 10), (9, 10)) > 0.9
