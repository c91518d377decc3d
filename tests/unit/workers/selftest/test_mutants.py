"""The self-test can fail: each case, and the mutant of the product's code that turns it red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shared.ml import baselines, pvalues, scoring, statistics
from shared.ml.attacks import _adam, _bases, _estimate, _layers, _plain, _schedules, _search
from shared.ml.defenses import obfuscation
from shared.ml.forgetting import three_sample, way
from shared.ml.metrics import decoy_rank, psnr
from shared.ml.networks import Normalised
from shared.ml.unlearning import gradient_ascent
from shared.reporting import rank_tests
from tests.support.mutation import mutate
from workers.selftest.cases import CASES

BY_NAME = {case.name: case for case in CASES}
# case, function, what is right in it, what is wrong
MUTANTS: list[tuple[str, Callable[..., Any], str, str]] = [
    # the official code's
    ("psnr", psnr.psnr, "mse(reconstruction, target)", "(mse(reconstruction, target) / 4)"),
    ("sign_of_ascent", _estimate.estimate_gradient, "after[n].double() - before", "-after[n].double() + before"),
    ("sign_of_ascent", gradient_ascent.unlearn, "_add(network, gradients, lr)", "_add(network, gradients, -lr)"),
    ("sign_of_retraining", _estimate.estimate_gradient, "kept * (", "counts.N * ("),
    ("sign_of_retraining", _estimate.estimate_gradient, "- counts.N * (", "+ counts.N * ("),
    ("dense_layer", Normalised.forward, "/ self.std", "/ self.std**2"),
    ("slope_batched", _layers.TracedBatchNorm.compute_gradients, "product - self.mean", "product + self.mean"),
    ("slope_plain", _plain._compute_distance, "create_graph=graph", "create_graph=False"),
    ("paper_loop", _adam.AdamW.step, "= lr, weight_decay", "= lr, 0.0"),
    ("paper_loop", _schedules.SearchSchedule.get_lr, "1.142", "1.5"),
    ("paper_loop", _bases.PixelBasis.render, "coordinates.clamp_(0, 1)", "coordinates"),
    ("paper_loop", _search.select_best_trials, "argmin", "argmax"),
    ("true_pairs", _search.search_images, "= basis.pull_back", "= -basis.pull_back"),
    ("shuffled_truth", baselines.compute_class_means, "public.labels == label", "public.labels != label"),
    ("shuffled_truth", scoring.summarise_metric, "max if higher else min)", "min if higher else max)"),
    ("baseline_against_baseline", statistics.bootstrap_t, "resamples, level)", "resamples, 0.2)"),
    ("baseline_against_baseline", scoring.summarise_metric, "(v - b) if", "(v - 0.9 * b) if"),
    ("pooled_ranks", decoy_rank.decoy_rank, "<= to_truth", ">= to_truth"),
    ("pooled_ranks_of_nothing", rank_tests.compute_rank_sum_p, "sum(ranks), n", "sum(ranks) // 2, n"),
    ("noise", obfuscation.release, "params.noise * weight", "1e-2 / params.noise * weight"),
    ("harmless_updates", pvalues.compute_max_statistic_p, "null_scores.double().amin(1)", "null_scores.double()[:, 0]"),
    ("nothing_done", way.measure_way, "done = release - original", "done = retrained.mean(1) - original"),
    ("nothing_done_flagged", three_sample._compute_relative, "to_retrained - to_original", "to_original"),
    ("retrained", way.measure_way, "whole = retrained.mean(1) - original", "whole = retrained.mean(1)"),
    ("retrained_flagged", three_sample.compare_three_samples, "low > 0 and p <= LEVEL", "p >= LEVEL"),
]  # fmt: skip


def test_every_case_has_a_mutant() -> None:
    assert {name for name, *_ in MUTANTS} == BY_NAME.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "function", "right", "wrong"),
    MUTANTS,
    ids=lambda given: getattr(given, "__name__", str(given)[:30]),
)
def test_a_case_turns_red(
    monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any], right: str, wrong: str
) -> None:
    mutate(monkeypatch, function, right, wrong)
    told = BY_NAME[name].run()
    assert not told["passed"], told
    assert told["error"] is None, told  # it went red by what it measured
    monkeypatch.undo()
