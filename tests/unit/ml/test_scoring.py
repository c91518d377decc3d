"""Intervals, baselines and what an evaluation is made of."""

from __future__ import annotations

import itertools
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import nn

from shared.ml import baselines
from shared.ml.context import make_generator
from shared.ml.decoys import DecoySource, compare_splits, draw_decoys
from shared.ml.findings import images as of_images
from shared.ml.findings.labels import score_labels, score_uniform_guess
from shared.ml.metrics import registry
from shared.ml.metrics.feature_distance import feature_distance
from shared.ml.metrics.mse import mse
from shared.ml.samples import Samples
from shared.ml.scoring import MetricScale, summarise_metric
from shared.ml.statistics import bca, bootstrap_t, compute_interval, wilson


def draw(*shape: int, purpose: str = "x") -> torch.Tensor:
    return torch.rand(*shape, generator=make_generator(0, purpose))


def public() -> Samples:
    return Samples(draw(60, 1, 8, 8, purpose="public"), torch.arange(60) % 3)


def decoys_of(samples: Samples) -> DecoySource:
    return DecoySource(samples, samples.pick([]))


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


def test_bootstrap_t_is_a_naive_loop() -> None:
    import numpy as np

    values = np.array([1.0, 1.2, 1.5, 2.0, 2.1, 2.4, 3.0, 4.5, 7.0, 9.0])
    rng, n = np.random.default_rng(0), len(values)
    drawn = rng.choice(values, (40_000, n))
    drawn = drawn[drawn.std(1) > 0]
    t = (drawn.mean(1) - values.mean()) / (drawn.std(1, ddof=1) / n**0.5)
    low, high = np.quantile(t, [0.025, 0.975])
    error = values.std(ddof=1) / n**0.5
    expected = (values.mean() - high * error, values.mean() - low * error)
    assert bootstrap_t(values.tolist(), 20_000) == pytest.approx(expected, rel=0.08)


def test_few_values_have_no_interval_and_equal_ones_no_width() -> None:
    assert compute_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert compute_interval([2.0] * 8) == (2.0, 2.0)
    nearly = compute_interval([0.1] * 7 + [0.1 + 1e-15])
    assert nearly == pytest.approx((0.1, 0.1))
    values = draw(99).tolist()
    assert compute_interval(values) == bootstrap_t(values)
    assert compute_interval([*values, 0.5]) == bca([*values, 0.5])


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
        truth, truth, labels, decoys_of(public()), 100, make_generator(0, "decoys")
    )
    assert (ranks["rank_1"], ranks["decoys"], ranks["n"], ranks["low"] < 1) == (3, 20, 3, True)
    assert min(ranks["margins"]) > 80  # it is hit exactly
    means = baselines.compute_class_means(public(), labels)
    parts = of_images.score_images(means, truth, {"class_mean": means})
    assert set(parts) == {"mse", "psnr"}
    assert parts["mse"]["baselines"]["class_mean"] == pytest.approx(parts["mse"]["mean"])
    assert parts["psnr"]["gain"]["mean"] <= 1e-9


def test_a_metric_is_left_out_where_it_is_not_defined_or_lacks_what_it_needs() -> None:
    def scored(*shape: int, **given: nn.Module) -> set[str]:
        images = draw(2, 1, *shape)
        return set(of_images.score_images(images, images.roll(1, 0), {}, given))

    judge = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    assert scored(1, 10, 16) == {"mse", "psnr"}  # no window of 11 pixels
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


def test_with_several_samples_a_deletion_chance_is_one_in_decoys_plus_one() -> None:
    """Pictures that know nothing: each truth counts by the nearest of them, and so does a decoy."""
    crowd = Samples(draw(2000, 1, 6, 6, purpose="crowd"), torch.zeros(2000, dtype=torch.int64))
    truth, guess = draw(150, 8, 1, 6, 6, purpose="truth"), draw(150, 8, 1, 6, 6, purpose="guess")
    labels = torch.zeros(150, 8, dtype=torch.int64)

    def identify(size: int) -> dict[str, Any]:
        return of_images.identify_truths(
            guess[:, :size],
            truth[:, :size],
            labels[:, :size],
            decoys_of(crowd),
            9,
            make_generator(0, "d"),
        )

    found, alone = identify(8), identify(1)
    assert (found["interval"], found["decoys"], alone["interval"]) == ("bca", 9, "wilson")
    assert found["chance"] == alone["chance"] == pytest.approx(1 / 10)
    assert found["low"] <= 0.1 <= found["high"]
    assert abs(fmean(found["ranks"]) - 5.5) < 0.5


def test_samples_of_one_deletion_share_out_the_decoys_of_their_class() -> None:
    crowd = Samples(torch.arange(60.0).view(60, 1, 1, 1), torch.arange(60) % 2)
    labels, truth = torch.tensor([0, 1, 0]), torch.full((3, 1, 1, 1), -1.0)
    for most, counts in ((10, [10, 10, 10]), (100, [15, 30, 15])):
        drawn = draw_decoys(decoys_of(crowd), truth, labels, most, make_generator(0, "d"))
        assert [len(one) for one in drawn] == counts
        first, other, second = ({*one.flatten().int().tolist()} for one in drawn)
        assert not first & second
        assert {number % 2 for number in first | second} == {0}
        assert {number % 2 for number in other} == {1}


def test_a_decoy_equal_to_the_truth_is_none_and_the_pool_comes_before_the_test_split() -> None:
    pool = Samples(torch.arange(4.0).view(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64))
    test = Samples(10 + torch.arange(9.0).view(9, 1, 1, 1), torch.zeros(9, dtype=torch.int64))
    truth = torch.full((1, 1, 1, 1), 2.0)
    source = DecoySource(pool, test)
    (drawn,) = draw_decoys(source, truth, torch.tensor([0]), 5, make_generator(0, "d"))
    values = sorted(drawn.flatten().tolist())
    assert values[:3] == [0, 1, 3]
    assert [value >= 10 for value in values[3:]] == [True, True]


def test_a_class_with_few_samples_lowers_its_own_decoys_only() -> None:
    rare = Samples(draw(41, 1, 6, 6), torch.tensor([1] + [0] * 40))
    truth = draw(3, 1, 1, 6, 6, purpose="truth")
    found = of_images.identify_truths(
        truth, truth, torch.tensor([[0], [1], [2]]), decoys_of(rare), 30, make_generator(0, "d")
    )
    assert (found["decoy_counts"], found["ranks"], found["n"]) == ([30, 1, 0], [1, 1, None], 2)
    assert found["chance"] == pytest.approx((1 / 31 + 1 / 2) / 2)
    assert found["margins"][2] is None


def test_splits_that_are_drawn_alike_pass_and_shifted_or_darker_ones_do_not() -> None:
    stripes = ((torch.arange(12) // 3) % 2).float()
    pattern = torch.stack([stripes.expand(12, 12), stripes.expand(12, 12).T])
    labels = torch.arange(800) % 2
    noise = draw(800, 1, 12, 12, purpose="noise")
    images = (0.5 * pattern[labels].unsqueeze(1) + 0.5 * noise).clamp(0, 1)
    train, test = images[:400], images[400:]
    for changed, passes in (
        (test, True),
        (test.roll(1, 3), False),
        (0.9 * test, False),
        ((test + test.roll(1, 3)) / 2, False),
    ):
        auc, limit = compare_splits(
            Samples(train, labels[:400]), Samples(changed, labels[400:]), make_generator(0, "s")
        )
        assert auc is not None
        assert limit is not None
        assert (auc <= limit) == passes
    assert compare_splits(
        Samples(train[:6], labels[:6]), Samples(test[:6], labels[:6]), make_generator(0, "s")
    ) == (None, None)


def test_an_identified_sample_counts_by_its_own_score_and_its_own_baseline() -> None:
    """Not by another's: the first is identified and below its baseline, the second above its
    baseline at rank 7."""
    metric = {
        "values": [9.0, 30.0, 7.0],
        "baseline_values": {"class_mean": [13.0] * 3, "other": [0.0] * 3},
        "baseline_name": "class_mean",
        "higher_is_better": True,
    }
    assert of_images.count_above_baseline([1, 7, None], metric) == 0
    metric["baseline_values"] = {"class_mean": [8.5, 13.0, 13.0]}
    assert of_images.count_above_baseline([1, 7, None], metric) == 1


def test_intervals_draw_deletions_not_samples() -> None:
    truth = draw(6, 8, 1, 8, 8, purpose="truth")
    near = truth + 0.01 * torch.arange(1, 7).view(6, 1, 1, 1, 1)  # all samples of a deletion alike
    part = of_images.score_images(near, truth, {})["mse"]
    assert part["n"] == 48
    by_deletion = bootstrap_t([fmean(part["values"][8 * d : 8 * d + 8]) for d in range(6)])
    assert by_deletion is not None
    assert (part["low"], part["high"]) == (max(0.0, by_deletion[0]), by_deletion[1])


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
        truth, truth, labels, decoys_of(public()), 10, make_generator(0, "d")
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


@pytest.mark.parametrize(("k", "classes"), [(1, 10), (2, 2), (4, 10), (8, 10), (5, 2), (12, 5)])
def test_guessing_several_classes_is_worth_what_random_guesses_come_to(
    k: int, classes: int
) -> None:
    draws = make_generator(0, "guesses")
    truth = torch.randint(classes, (30, k), generator=draws)
    metric = registry.get("label_accuracy").target

    def guess() -> torch.Tensor:
        """As different as possible: all classes in random order, as often as they fit."""
        rows = [
            torch.cat([torch.randperm(classes, generator=draws) for _ in range(k // classes + 1)])
            for _ in range(30)
        ]
        return torch.stack(rows)[:, :k]

    simulated = torch.stack([metric(guess(), truth) for _ in range(400)]).mean(0)
    expected = score_uniform_guess(truth, classes)
    torch.testing.assert_close(expected, simulated.double(), atol=0.08, rtol=0)
    assert expected.mean().item() == pytest.approx(simulated.mean().item(), abs=0.01)


def test_naming_every_class_of_eight_samples_beats_its_baseline() -> None:
    truth = torch.randint(10, (40, 8), generator=make_generator(0, "truth"))
    guesses = []
    for row in truth.tolist():
        named = sorted({*row})
        guesses.append((named + [c for c in range(10) if c not in named])[:8])
    part = score_labels(torch.tensor(guesses), truth, 10, torch.arange(10))["label_accuracy"]
    distinct = fmean(len({*row}) for row in truth.tolist())
    assert part["mean"] == pytest.approx(distinct / 8)
    assert part["baselines"]["uniform_guess"] == pytest.approx(distinct / 10)
    assert part["gain"]["low"] > 0


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
