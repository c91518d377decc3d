"""Each rule, on evidence for, against and absent."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.paper.audit_specs import REDUCED
from benchmarks.paper.claim import Claim
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.questions import decide_claims
from tests.support.evaluations import make_evaluation

Evaluations = dict[str, list[dict[str, Any]]]
PAIR, BASE = {"gradient_from": "pair"}, {"gradient_from": "base"}
HIGH, LOW = [20.0, 21.0, 22.5, 24.0, 21.5, 23.0], [9.0, 10.5, 10.0, 11.0, 9.5, 10.2]


def images(unlearning: str, known: dict[str, Any], leaks: bool, **more: Any) -> dict[str, Any]:
    scores = (
        {"psnr": HIGH, "ranks": [1, 1, 1, 2, 1, 1]}
        if leaks
        else {"psnr": LOW, "ranks": [50, 7, 90, 33, 60, 20]}
    )
    return make_evaluation(unlearning, ("feature_recovery", known), **(scores | more))


def about(question: str, evaluations: Evaluations) -> Claim:
    return next(c for c in decide_claims(Evidence(REDUCED, evaluations)) if question in c.question)


def verdicts(question: str, evaluations: Evaluations) -> dict[str, str]:
    return {finding.case: finding.verdict for finding in about(question, evaluations).results}


def test_nothing_is_testable_without_results() -> None:
    found = decide_claims(Evidence(REDUCED, {}))
    assert {finding.verdict for claim in found for finding in claim.results} == {
        "not testable here"
    }
    assert all(claim.results for claim in found)


def test_a_leak_is_more_identified_than_by_chance() -> None:
    found = verdicts(
        "leak the features",
        {
            "exact, N = 32": [images("retrain", BASE, True), images("retrain", PAIR, False)],
            "approximate, N = 32": [images("gradient_ascent", PAIR, True)],
        },
    )
    assert found == {
        "exact, with base, N and k": "supported here",
        "exact, from the pair alone": "not supported",
        "approximate, from the pair": "supported here",
    }


def test_seeds_are_pooled() -> None:
    result = about(
        "leak the features",
        {
            "approximate, N = 32": [
                images("gradient_ascent", PAIR, True, seed=seed) for seed in (1, 0)
            ]
        },
    ).results[2]
    assert "10 of 12 identified" in result.explanation


@pytest.mark.parametrize(
    ("first", "second", "verdict"), [(True, False, "supported here"), (True, True, "not supported")]
)
def test_more_is_decided_by_pairs(first: bool, second: bool, verdict: str) -> None:
    found = verdicts(
        "Which kind",
        {
            "approximate, N = 32": [images("gradient_ascent", PAIR, first)],
            "exact, N = 32": [images("retrain", BASE, second)],
        },
    )
    assert set(found.values()) == {verdict}


def test_other_deletions_are_no_pairs() -> None:
    found = verdicts(
        "Which kind",
        {
            "approximate, N = 32": [images("gradient_ascent", PAIR, True)],
            "exact, N = 32": [images("retrain", BASE, False, psnr=[1.0, 2.0], ranks=[3, 3])],
        },
    )
    assert set(found.values()) == {"not testable here"}


@pytest.mark.parametrize(("falls", "verdict"), [(True, "supported here"), (False, "not supported")])
def test_the_leak_falls_with_the_training_set(falls: bool, verdict: str) -> None:
    levels = (
        {1: 30.0, 8: 25.0, 32: 20.0, 128: 15.0} if falls else dict.fromkeys((1, 8, 32, 128), 20.0)
    )
    found = verdicts(
        "size of the training set",
        {
            f"approximate, N = {n}": [
                images("gradient_ascent", PAIR, True, psnr=[level + i for i in range(6)])
            ]
            for n, level in levels.items()
        },
    )
    assert found["approximate, from the pair"] == verdict
    assert found["exact, from the pair alone"] == "not testable here"


def test_a_base_is_compared_with_one_that_saw_more() -> None:
    found = verdicts(
        "early base model",
        {
            "approximate, 1 epochs": [images("gradient_ascent", PAIR, True)],
            "approximate, 10 epochs": [images("gradient_ascent", PAIR, False)],
        },
    )
    assert found["approximate, from the pair"] == "supported here"


def answers(share: str, right: int, n: int = 20) -> Evaluations:
    values = [1.0] * right + [0.0] * (n - right)
    return {
        f"labels of images, {share}": [
            make_evaluation("retrain", ("label_inference_black_box", {}), hits=values)
        ]
    }


def test_labels_against_guessing() -> None:
    case = "images, exact, black box"
    assert verdicts("class of one sample", answers("one sample", 15))[case] == "supported here"
    assert verdicts("class of one sample", answers("one sample", 3))[case] == "not supported"


@pytest.mark.parametrize(
    ("one", "whole", "verdict"),
    [(5, 18, "supported here"), (15, 16, "not supported"), (20, 20, "not testable here")],
)
def test_more_of_a_class(one: int, whole: int, verdict: str) -> None:
    found = verdicts(
        "more of it is forgotten", answers("one sample", one) | answers("1 of a class", whole)
    )
    assert found["images, exact, black box"] == verdict


def defended(cost: float, adaptive_leaks: bool) -> Evaluations:
    worth = {"test_accuracy": 0.8, "forget_accuracy": 1.0, "original_forget_accuracy": 1.0}
    weak, released = ("pruning", 0.2), ("pruning", 0.5)
    plain, knows = {**PAIR, "adaptive": False}, {**PAIR, "adaptive": True}
    return {
        "defenses": [
            make_evaluation("gradient_ascent", None, utility=worth),
            images("gradient_ascent", plain, True),
            make_evaluation(
                "gradient_ascent",
                None,
                defense=weak,
                utility={**worth, "test_accuracy": 0.8 - cost},
            ),
            images("gradient_ascent", plain, True, defense=weak),
            images("gradient_ascent", knows, True, defense=weak),
            make_evaluation(
                "gradient_ascent",
                None,
                defense=released,
                utility={**worth, "test_accuracy": 0.8 - cost},
            ),
            images("gradient_ascent", plain, False, defense=released),
            images("gradient_ascent", knows, adaptive_leaks, defense=released),
        ]
    }


def test_a_defense_must_hold_against_one_who_knows_it() -> None:
    found = verdicts("effective are the defenses", defended(0.01, adaptive_leaks=True))
    assert found["pruning, plain attacker"] == "supported here"
    assert found["pruning, adaptive attacker"] == "not supported"
    assert found["fine_tune, adaptive attacker"] == "not testable here"


def test_a_defense_that_destroys_the_model_is_none() -> None:
    results = about("effective are the defenses", defended(0.3, adaptive_leaks=False)).results
    assert [f.explanation for f in results if f.case.startswith("pruning")] == [
        "every setting of the sweep costs too much accuracy"
    ] * 2


def test_who_knows_of_private_training_is_asked_nothing() -> None:
    cases = [finding.case for finding in about("effective are the defenses", {}).results]
    assert "dp_sgd, plain attacker" in cases
    assert "dp_sgd, adaptive attacker" not in cases
