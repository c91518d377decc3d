"""Audits whose right verdict is known, at the level of scores: none may be missed or overclaimed."""

from __future__ import annotations

from typing import Any

import pytest

from shared.reporting.models import Report
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    build_report,
    make_audit,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_utility_evaluation,
)

UNCLEAR = {"psnr": (12.0, 10.0, 14.0), "gain": (-1.0, -3.0, 1.0)}


def of_seeds(*evaluations: dict[str, Any], attack: str = "feature_recovery") -> Report:
    """One attack on one release; the evaluations are of seeds 0, 1 and so on."""
    parts = []
    for seed, one in enumerate(evaluations):
        parts += [one | {"seed": seed}, make_utility_evaluation(seed=seed)]
    return build_report(make_audit(seeds=[*range(len(evaluations))], attacks=[attack]), *parts)


def of_ranks(n: int, *first: int, above: int = 0, **more: Any) -> dict[str, Any]:
    """These ranks, and of the others of n what chance gives: spread evenly over 2 to 101."""
    others = n - len(first)
    spread = [2 + round(98 * (i + 0.5) / others) for i in range(others)]
    return make_image_evaluation(**UNCLEAR, ranks=[*first, *spread], above=above, **more)


def test_ranks_that_are_low_without_a_first_are_a_leak() -> None:
    report = of_seeds(of_ranks(8, 2, 3, 2, 4, 2, 5, 3, 2))
    assert report.verdict.level == "leaks"
    assert "among the 2.5 % of their class that are nearest" in report.verdict.headline
    assert report.rows[0].finding.p == pytest.approx(4 * 4.5e-11, rel=0.05)


@pytest.mark.parametrize("seeds", [5, 10])
def test_one_of_eight_in_every_seed_is_a_leak_though_none_shows_it_alone(seeds: int) -> None:
    rows = [of_ranks(8, 1, above=1) for _ in range(seeds)]
    report = of_seeds(*rows)
    assert report.verdict.level == "leaks"
    assert f"reconstructs {seeds} of {8 * seeds} deleted samples" in report.verdict.headline
    assert {row.finding.outcome for row in report.rows} == {"leak"}
    assert of_seeds(rows[0]).verdict.level == "inconclusive"


@pytest.mark.parametrize(("n", "recovered"), [(1000, 10), (100, 1), (8, 1)])
def test_one_person_whose_picture_is_unmistakable_is_a_leak_of_any_number(
    n: int, recovered: int
) -> None:
    """At 40 dB, where the others come to 12: its margin to the nearest decoy is 25 dB, theirs less
    than one."""
    ranks = of_ranks(
        n, *[1] * recovered, above=recovered, margins=[25.0] * recovered + [0.5] * (n - recovered)
    )
    report = of_seeds(ranks)
    assert report.verdict.level == "leaks"
    assert f"reconstructs {recovered} of {n} deleted samples" in report.verdict.headline
    identification = report.rows[0].identification
    assert identification is not None
    assert identification.own_p[0] == pytest.approx(1 - (100 / 101) ** recovered)


def test_one_of_eight_with_an_ordinary_margin_is_a_leak_with_enough_decoys() -> None:
    for decoys, level in ((100, "inconclusive"), (999, "leaks")):
        row = of_ranks(8, 1, above=1, decoys=decoys, margins=[0.5, 0.3] * 4)
        if decoys == 999:
            row["identification"]["ranks"][1:] = [
                10 * r for r in row["identification"]["ranks"][1:]
            ]
            row["identification"]["worst_rank"] *= 10
        row["identification"]["margins"] = [0.3] * 8
        assert of_seeds(row).verdict.level == level


def test_identified_without_a_picture_above_the_baseline_is_told_apart_not_reconstructed() -> None:
    below = {"psnr": (9.0, 8.0, 10.0), "gain": (-3.0, -4.0, -2.0)}
    row = make_image_evaluation(**below, ranks=[1, 1, *NO_LEAK["ranks"][2:]])
    report = of_seeds(row)
    assert report.verdict.level == "leaks"
    assert "picks 2 of 8 deleted samples out" in report.verdict.headline
    assert "but reconstructs none" in report.verdict.headline
    assert "no identified sample scores above its own baseline" in report.rows[0].finding.reason


def test_one_lucky_seed_of_24_is_no_leak() -> None:
    rows = [make_label_evaluation(4 if seed == 7 else 1, (0.0, 1.0)) for seed in range(24)]
    report = of_seeds(*rows, attack="label_inference")
    assert report.verdict.level == "inconclusive"
    assert "27 " not in report.verdict.headline
    assert {row.finding.outcome for row in report.rows} == {"inconclusive"}


def test_one_lucky_attack_of_24_is_no_leak() -> None:
    """Each is a test of its own: the probability of 4 of 8 by chance is 0.005, and there are 24."""
    names = ["label_inference", *(f"label_inference_{i}" for i in range(23))]
    rows = []
    for i, name in enumerate(names):
        one = make_label_evaluation(4 if i == 7 else 1, (0.0, 1.0))
        one["attack"] = {"method": name, "params": {}}
        rows.append(one)
    report = build_report(make_audit(attacks=names), *rows, make_utility_evaluation())
    assert report.verdict.level == "inconclusive"
    alone = build_report(make_audit(attacks=names[7:8]), rows[7], make_utility_evaluation())
    assert alone.verdict.level == "leaks"


def test_labels_that_are_always_wrong_are_inconclusive() -> None:
    row = make_label_evaluation(0, (0.0, 0.32), baseline=0.5)
    row["metrics"]["label_accuracy"]["baselines"] = {"uniform_guess": 0.5}
    report = of_seeds(row, attack="label_inference")
    assert report.verdict.level == "inconclusive"
    assert "Wrong more often than chance" in report.rows[0].finding.reason


def test_a_class_with_one_public_image_lowers_its_own_decoys_only() -> None:
    """Eight identified: of one of them among a single decoy. That it is one of them says little."""
    row = make_image_evaluation(**LEAK)
    row["identification"]["decoy_counts"][0] = 1
    assert of_seeds(row).verdict.level == "leaks"
    few = make_image_evaluation(**LEAK | {"ranks": [1] * 3}, decoys=1)
    assert of_seeds(few).verdict.level == "inconclusive"


def test_a_perfect_label_attack_on_eight_of_ten_classes_is_a_leak() -> None:
    truth = [[(deletion + 3 * i * i) % 10 for i in range(8)] for deletion in range(40)]
    distinct = [sorted({*true}) for true in truth]
    guesses = [own + [c for c in range(10) if c not in own][: 8 - len(own)] for own in distinct]
    values = [len(own) / 8 for own in distinct]
    row = make_label_evaluation(0, (0.0, 1.0), n=40)
    mean = sum(values) / 40
    part = row["metrics"]["label_accuracy"]
    part |= {"mean": mean, "values": values, "baseline": 0.8 * mean}
    row["answers"] = {"labels": guesses, "truth": truth}
    assert of_seeds(row, attack="label_inference").verdict.level == "leaks"
    part |= {"mean": 0.8 * mean}
    assert of_seeds(row, attack="label_inference").verdict.level == "no_leak_seen"


def test_forgetting_too_thoroughly_is_a_leak() -> None:
    row = make_membership_evaluation((0.05, 0.01, 0.2), 1.0)
    report = of_seeds(row, attack="membership_difference")
    assert report.verdict.level == "leaks"
    assert "forgotten too thoroughly" in report.verdict.headline


def test_membership_is_pooled_over_seeds() -> None:
    """Three times a p-value of 0.02 is more than one; a single one is not significant on both
    sides."""
    rows = [make_membership_evaluation((0.7, 0.51, 0.8), 0.02) for _ in range(3)]
    assert of_seeds(*rows, attack="membership_difference").verdict.level == "leaks"
    assert of_seeds(rows[0], attack="membership_difference").verdict.level == "inconclusive"


def test_nobody_of_eight_says_what_it_cannot_exclude() -> None:
    verdict = of_seeds(make_image_evaluation(**NO_LEAK)).verdict
    assert verdict.level == "no_leak_seen"
    assert "with 0 of 8 identified" in verdict.sentences[0]
    assert "up to 31 % of deleted samples cannot be excluded" in verdict.sentences[0]
