"""Scores of candidates: who is compared with whom, and that chance gives what the baseline says."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.ml.context import make_generator
from shared.ml.findings.membership import score_membership
from shared.ml.records import ForgetSets, MembershipRecord

D, K, CLASSES, C = 6, 2, 3, 150
ABOUT: dict[str, Any] = {"dataset": {"name": "mnist_5k"}, "digest": "0" * 64}


def truth() -> tuple[MembershipRecord, ForgetSets]:
    """Candidates 0 to 11 were forgotten two by two, 12 to 29 retained, the others never trained
    on."""
    labels = [i % CLASSES for i in range(C)]
    members = MembershipRecord(
        **ABOUT,
        indices=[1000 + i for i in range(C)],
        labels=labels,
        trained=[i < 30 for i in range(C)],
    )
    rows = [[1000 + K * d, 1000 + K * d + 1] for d in range(D)]
    return members, ForgetSets(
        **ABOUT, indices=rows, labels=[[labels[i - 1000] for i in row] for row in rows]
    )


def scored(scores: Tensor) -> dict[str, Any]:
    return score_membership(scores.double(), *truth(), make_generator(0, "membership"))


def noise(purpose: str) -> Tensor:
    return torch.randn(D, C, generator=make_generator(0, purpose))


def test_forgotten_and_retained_are_compared_with_non_members_of_their_class() -> None:
    """Against loops."""
    scores = noise("scores").mul(3).round()  # with ties
    found = scored(scores)

    def wins(d: int, c: int) -> float:
        never = [scores[d, m] for m in range(30, C) if m % CLASSES == c % CLASSES]
        return fmean(
            float(scores[d, c] > other) + 0.5 * float(scores[d, c] == other) for other in never
        )

    forgotten = [wins(d, K * d + i) for d in range(D) for i in range(K)]
    retained = [fmean(wins(d, c) for d in range(D)) for c in range(12, 30)]
    assert found["auc_forgotten"]["values"] == pytest.approx(forgotten)
    assert found["auc_retained"]["values"] == pytest.approx(retained)
    assert found["auc_forgotten"]["mean"] == pytest.approx(fmean(forgotten))
    assert [found[f"auc_{kind}"]["n"] for kind in ("forgotten", "retained")] == [12, 18]
    for part in found.values():
        assert part["non_members"] == 120
        assert part["low"] <= part["mean"] <= part["high"]
        assert part["baseline_name"] == "chance"
    assert found["auc_forgotten"]["baseline"] == 0.5
    # 40 others a class, 2 of 41 are at most 5 %
    assert found["tpr_forgotten"]["baseline"] == pytest.approx(2 / 41)


def test_forgotten_samples_are_detected_and_retained_ones_are_not() -> None:
    scores = noise("told")
    for d in range(D):
        scores[d, K * d : K * d + K] += 9
    found = scored(scores)
    auc, tpr = found["auc_forgotten"], found["tpr_forgotten"]
    assert (auc["mean"], tpr["mean"], auc["p"], auc["p_below"]) == (1, 1, 1 / 20_000, 1)
    assert 0.5 < auc["low"] < auc["high"] == 1
    assert auc["gain"]["low"] == pytest.approx(auc["low"] - 0.5)
    assert found["auc_retained"]["low"] < 0.5 < found["auc_retained"]["high"]
    assert found["auc_retained"]["p"] > 0.05


def test_a_class_that_drifts_as_a_whole_tells_no_member() -> None:
    scores = torch.arange(C).remainder(CLASSES).expand(D, C)
    found = scored(scores)
    assert {found[f"auc_{kind}"]["mean"] for kind in ("forgotten", "retained")} == {0.5}
    assert found["auc_forgotten"]["p"] == found["auc_retained"]["p"] == 1
    assert found["tpr_forgotten"]["mean"] == 0


@pytest.mark.slow
def test_samples_that_are_like_the_others_get_small_p_values_as_often_as_they_say() -> None:
    """Scores of a candidate in several deletions are nearly one, as those of real models are."""
    small = {"auc_forgotten": 0, "auc_retained": 0}
    for draw in range(60):
        rng = make_generator(draw, "baseline")
        found = scored(torch.randn(1, C, generator=rng) + 0.1 * torch.randn(D, C, generator=rng))
        for name in small:
            small[name] += found[name]["p"] <= 0.1
    # 6 of 60 expected, 13 or more in 1 of 200
    assert all(1 <= count <= 13 for count in small.values()), small


def test_without_others_of_its_class_a_sample_is_held_against_all_and_too_few_give_no_rate() -> (
    None
):
    members, forgets = truth()
    few = [c < 30 or c in (30, 33) for c in range(C)]  # both of class 0
    picked = [c for c in range(C) if few[c]]
    some = members.model_copy(
        update={
            name: [getattr(members, name)[c] for c in picked]
            for name in ("indices", "labels", "trained")
        }
    )
    found = score_membership(
        noise("few")[:, picked].double(), some, forgets, make_generator(0, "membership")
    )
    assert sorted(found) == ["auc_forgotten", "auc_retained"]
    assert found["auc_forgotten"]["n"] == 12


def test_nothing_retained_is_left_out() -> None:
    members, forgets = truth()
    picked = [c for c in range(C) if not 12 <= c < 30]
    some = members.model_copy(
        update={
            name: [getattr(members, name)[c] for c in picked]
            for name in ("indices", "labels", "trained")
        }
    )
    found = score_membership(
        noise("none")[:, picked].double(), some, forgets, make_generator(0, "membership")
    )
    assert sorted(found) == ["auc_forgotten", "tpr_forgotten"]
