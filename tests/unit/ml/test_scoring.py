"""Intervals, baselines and what an evaluation is made of."""

from __future__ import annotations

import itertools
from statistics import fmean

import pytest
import torch
from torch import nn

from shared.ml import baselines
from shared.ml.context import make_generator
from shared.ml.findings import images as of_images
from shared.ml.findings.labels import score_labels
from shared.ml.metrics import registry
from shared.ml.metrics.feature_distance import feature_distance
from shared.ml.metrics.mse import mse
from shared.ml.samples import Samples
from shared.ml.scoring import MetricScale, summarise_metric
from shared.ml.statistics import bca, wilson


def draw(*shape: int, purpose: str = "x") -> torch.Tensor:
    return torch.rand(*shape, generator=make_generator(0, purpose))


def public() -> Samples:
    return Samples(draw(60, 1, 8, 8, purpose="public"), torch.arange(60) % 3)


def test_wilson_is_known() -> None:
    assert wilson(8, 8) == pytest.approx((0.6756, 1.0), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0, 0) is None


def test_wilson_is_that_of_scipy_for_whole_counts() -> None:
    from scipy.stats import binomtest

    for n in (1, 8, 32, 500):
        for k in {0, 1, n // 3, n}:
            theirs = binomtest(k, n).proportion_ci(0.95, "wilson")
            assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    low, high = wilson(2.5, 8) or (0, 0)  # half-right answers lie between
    assert (wilson(2, 8) or (0, 0))[0] < low < (wilson(3, 8) or (0, 0))[0]
    assert (wilson(2, 8) or (0, 0))[1] < high < (wilson(3, 8) or (0, 0))[1]


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], (0.0, 0.625)),
        ([0.3333333333333333, 0.6666666666666666, 0.0, 1.0, 0.6666666666666666], (0.2, 0.8)),
        ([20.0, 30.0], (20.0, 30.0)),
        ([1.0, 1.2, 1.5, 2.0, 2.1, 2.4, 3.0, 4.5, 7.0, 90.0], (2.31, 38.211354309357674)),
        ([0.1, 0.1, 0.1, 0.10000000000000012], (0.1, 0.10000000000000012)),
    ],
)
def test_intervals_of_earlier_reports_come_out_again(
    values: list[float], ends: tuple[float, float]
) -> None:
    """Recorded before scipy computed them: many ties, few values, an outlier, values that are
    nearly equal."""
    assert bca(values) == pytest.approx(ends, rel=1e-12)


def test_bca_is_known() -> None:
    # scipy.stats.bootstrap(method="BCa") of these values, 200,000 resamples: (1.93, 5.50)
    values = [1.0, 1.2, 1.5, 2.0, 2.1, 2.4, 3.0, 4.5, 7.0, 9.0]
    assert bca(values, 20_000) == pytest.approx(reference(values), abs=0.08)
    assert bca([1.0]) is None
    assert bca([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert bca(values) == bca(values)


def reference(values: list[float]) -> tuple[float, float]:
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(0)
    )
    return found.confidence_interval.low, found.confidence_interval.high


def test_bca_covers_the_mean_about_as_often_as_it_says() -> None:
    source = make_generator(0, "coverage")
    inside = 0
    for _ in range(200):
        low, high = bca(torch.randn(30, generator=source).tolist(), 500) or (0, 0)
        inside += low <= 0 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_class_mean_is_the_mean_of_its_class() -> None:
    labels = torch.tensor([[2, 0], [2, 2]])
    means = baselines.compute_class_means(public(), labels)
    assert means.shape == (2, 2, 1, 8, 8)
    torch.testing.assert_close(means[0, 1], public().images[::3].mean(0))
    missing = baselines.compute_class_means(public(), torch.tensor([7]))
    torch.testing.assert_close(missing[0], public().images.mean(0))


def test_permuted_truth_is_the_naive_loop() -> None:
    found, truth = draw(4, 1, 8, 8), draw(4, 1, 8, 8, purpose="truth")
    got = baselines.score_permuted_truth(mse, found, truth)
    assert got is not None
    for i in range(4):
        others = [mse(found[j : j + 1], truth[i : i + 1]).item() for j in range(4) if j != i]
        assert got[i].item() == pytest.approx(sum(others) / 3, rel=1e-5)
    assert baselines.score_permuted_truth(mse, found[:1], truth[:1]) is None


def test_permuted_truth_of_many_deletions_is_that_of_64_others() -> None:
    at = torch.arange(100)
    seen: list[torch.Tensor] = []

    def score(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        seen.append(found)
        return (found == true).double()

    got = baselines.score_permuted_truth(score, at, at)
    assert got is not None
    assert got.tolist() == [0] * 100  # never its own
    assert len(torch.stack(seen)[:, 0].unique()) == len(seen) == 64


def test_assignment_finds_the_best_of_all_orders() -> None:
    found, truth = draw(2, 4, 1, 3, 3), draw(2, 4, 1, 3, 3, purpose="truth")
    ordered = of_images.assign(found, truth)
    for deletion in range(2):
        best = min(
            sum(
                (found[deletion, p] - truth[deletion, i]).square().sum().item()
                for i, p in enumerate(order)
            )
            for order in itertools.permutations(range(4))
        )
        assert (ordered[deletion] - truth[deletion]).square().sum().item() == pytest.approx(
            best, rel=1e-5
        )


def test_the_baseline_is_the_strongest_and_the_gain_is_paired() -> None:
    up, down = (
        MetricScale.from_plugin(registry.get("psnr")),
        MetricScale.from_plugin(registry.get("mse")),
    )
    part = summarise_metric(
        up, [20.0, 30.0], {"weak": [5.0, 5.0], "strong": [12.0, 14.0]}, is_proportion=False
    )
    assert (part["baseline_name"], part["baseline"], part["gain"]["mean"]) == ("strong", 13.0, 12.0)
    assert (part["worst"], part["best"]) == (20.0, 30.0)
    part = summarise_metric(
        down, [0.01, 0.03], {"weak": [0.5, 0.5], "strong": [0.1, 0.2]}, is_proportion=False
    )
    assert (part["baseline_name"], part["worst"], part["best"]) == ("strong", 0.03, 0.01)
    assert part["gain"]["mean"] == pytest.approx(0.13)
    lone = summarise_metric(up, [20.0], {}, is_proportion=False)
    assert (lone["baseline"], lone["gain"], lone["low"]) == (None, None, None)


def test_the_interval_of_a_gain_is_the_attackers_whichever_way_the_metric_points() -> None:
    """A share of errors: 1 of 10 where a guess makes 9 of 10. It is the share of hits, turned."""
    errors, hits = [1.0] + [0.0] * 9, [0.0] + [1.0] * 9
    down, up = (MetricScale("share", (0, 1), higher_is_better=higher) for higher in (False, True))
    turned = summarise_metric(down, errors, {"guess": [0.9] * 10}, is_proportion=True)
    part = summarise_metric(up, hits, {"guess": [0.1] * 10}, is_proportion=True)
    assert (turned["low"], turned["high"]) == wilson(1, 10)
    for name in ("mean", "median", "low", "high"):
        assert turned["gain"][name] == pytest.approx(part["gain"][name])
    assert 0 < turned["gain"]["low"] < turned["gain"]["mean"] < turned["gain"]["high"]


def test_a_perfect_reconstruction_is_identified_and_a_class_mean_gains_nothing() -> None:
    labels = torch.tensor([[0], [1], [2]])
    truth = draw(3, 1, 1, 8, 8, purpose="truth")
    ranks = of_images.identify_truths(
        truth, truth, labels, public(), 100, make_generator(0, "decoys")
    )
    assert (ranks["rank_1"], ranks["decoys"], ranks["n"], ranks["low"] < 1) == (3, 20, 3, True)
    means = baselines.compute_class_means(public(), labels)
    parts = of_images.score_images(means, truth, {"class_mean": means})
    assert set(parts) == {"mse", "psnr", "ssim"}
    assert parts["mse"]["baselines"]["class_mean"] == pytest.approx(parts["mse"]["mean"])
    assert parts["psnr"]["gain"]["mean"] <= 1e-9


def test_a_metric_is_left_out_where_it_is_not_defined_or_lacks_what_it_needs() -> None:
    def scored(*shape: int, **given: nn.Module) -> set[str]:
        images = draw(2, 1, *shape)
        return set(of_images.score_images(images, images.roll(1, 0), {}, given))

    judge = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    assert scored(1, 16, 16) == {"mse", "psnr", "ssim", "haarpsi"}
    assert scored(1, 16, 15) == {"mse", "psnr", "ssim"}
    assert scored(2, 16, 16) == {"mse", "psnr", "ssim"}
    assert scored(1, 5, 16) == {"mse", "psnr"}
    judge(draw(1, 1, 5, 5))
    assert scored(1, 5, 5, FEATURE_NETWORK=judge) == {"mse", "psnr", "feature_distance"}


@pytest.mark.parametrize("size", [1, 3])
def test_features_are_made_once_an_image_and_scored_as_by_the_naive_loop(size: int) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(16, 3)
            self.images = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.images += len(images)
            logits: torch.Tensor = self.last(self.first(images).relu().flatten(1))
            return logits

    torch.manual_seed(0)
    judge = Counting()
    truth, found, mean = (
        draw(4, size, 1, 4, 4, purpose=purpose) for purpose in ("truth", "found", "mean")
    )
    part = of_images.score_images(
        found, truth, {"class_mean": mean, "few": mean[:2]}, {"FEATURE_NETWORK": judge}
    )
    assert judge.images == (4 + 4 + 4 + 2) * size

    def naive(images: torch.Tensor, targets: torch.Tensor) -> list[float]:
        seen, true = (
            feature_distance(x.flatten(0, 1), judge)
            for x in (of_images.assign(images, targets), targets)
        )
        pairs = zip(seen.tolist(), true.tolist(), strict=True)
        return [sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) for one, other in pairs]

    got = part["feature_distance"]
    assert got["values"] == pytest.approx(naive(found, truth), rel=1e-4)
    assert got["baseline_values"]["class_mean"] == pytest.approx(naive(mean, truth), rel=1e-4)
    assert got["baseline_values"]["few"] == pytest.approx(naive(mean[:2], truth[:2]), rel=1e-4)
    others = [naive(found[[(d - s) % 4 for d in range(4)]], truth) for s in (1, 2, 3)]
    assert got["baseline_values"]["permuted_truth"] == pytest.approx(
        [fmean(x) for x in zip(*others, strict=True)], rel=1e-4
    )
    assert (got["higher_is_better"], got["worst"]) == (False, max(got["values"]))


def test_with_several_samples_a_deletion_chance_is_what_public_images_come_to() -> None:
    """Handed back in place of a reconstruction, each is assigned to the truth that it fits best."""
    crowd = Samples(draw(400, 1, 6, 6, purpose="crowd"), torch.zeros(400, dtype=torch.int64))
    truth, guess = draw(12, 8, 1, 6, 6, purpose="truth"), draw(12, 8, 1, 6, 6, purpose="guess")
    found = of_images.identify_truths(
        guess, truth, torch.zeros(12, 8, dtype=torch.int64), crowd, 100, make_generator(0, "d")
    )
    assert found["interval"] == "bca"
    assert found["chance"] > 2 / 101
    assert found["low"] <= found["chance"] <= found["high"]
    alone = of_images.identify_truths(
        guess[:, :1],
        truth[:, :1],
        torch.zeros(12, 1, dtype=torch.int64),
        crowd,
        100,
        make_generator(0, "d"),
    )
    assert (alone["interval"], alone["chance"]) == ("wilson", 1 / 101)


def test_intervals_draw_deletions_not_samples() -> None:
    truth = draw(4, 8, 1, 8, 8, purpose="truth")
    near = truth + 0.01 * torch.arange(1, 5).view(4, 1, 1, 1, 1)  # all samples of a deletion alike
    part = of_images.score_images(near, truth, {})["mse"]
    assert part["n"] == 32
    by_deletion = bca([fmean(part["values"][8 * d : 8 * d + 8]) for d in range(4)])
    assert (part["low"], part["high"]) == by_deletion


def test_a_partial_baseline_is_listed_and_never_the_baseline() -> None:
    truth = draw(3, 1, 1, 8, 8, purpose="truth")
    grey = torch.full_like(truth, 0.5)
    part = of_images.score_images(grey, truth, {"class_mean": grey, "random_direction": truth[:2]})[
        "psnr"
    ]
    assert part["baselines"]["random_direction"] == 100  # it hits, and yet
    assert len(part["baseline_values"]["random_direction"]) == 2
    assert part["baseline_name"] in ("class_mean", "permuted_truth")


def test_a_class_without_public_samples_cannot_be_identified() -> None:
    truth = draw(1, 1, 1, 8, 8)
    labels = torch.tensor([[7]])
    assert of_images.identify_truths(
        truth, truth, labels, public(), 10, make_generator(0, "d")
    ) == {"n": 0, "decoys": 0}


def test_labels_are_scored_next_to_guessing() -> None:
    truth = torch.tensor([[0], [1], [2], [3]])
    part = score_labels(truth, truth, 10, torch.arange(10))["label_accuracy"]
    assert (part["mean"], part["high"], part["baseline"], part["baseline_name"]) == (
        1,
        1,
        0.1,
        "uniform_guess",
    )
    assert part["low"] == pytest.approx(0.5101, abs=1e-4)
    assert part["baselines"] == {"uniform_guess": pytest.approx(0.1), "permuted_truth": 0}


def test_always_guessing_the_publics_most_common_class_is_a_baseline() -> None:
    truth = torch.tensor([[1], [1], [0], [1]])
    part = score_labels(truth, truth, 2, torch.tensor([0, 1, 1]))["label_accuracy"]
    assert (part["baseline"], part["baseline_name"]) == (0.75, "majority_guess")
    assert part["baseline_values"]["majority_guess"] == [1, 1, 0, 1]
    both = torch.tensor([[0, 1], [1, 1]])
    assert (
        score_labels(both, both, 2, torch.tensor([0, 1, 1]))["label_accuracy"]["baselines"][
            "majority_guess"
        ]
        == 0.75
    )
