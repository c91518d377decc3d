"""What the tests and intervals of a report are worth, simulated at the level of scores.

    python -m benchmarks.statistics [--trials 5000] [--audits 1000] [--experiments 2000]
        [--out FILE.json]

Coverage of the intervals of means; false alarms of audits in which nothing leaks; the power of the
tests of ranks. The page docs/statistics.md quotes the output.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from shared.ml.statistics import MIN_BCA, bca, bootstrap_ratio, bootstrap_t, draw_t_quantiles
from shared.reporting.binomial import tail_of_sum
from shared.reporting.evidence import TAIL, correct_for_number
from shared.reporting.kinds.membership import compute_two_sided_p
from shared.reporting.models import Score
from shared.reporting.rank_tests import run_rank_tests

Array = np.ndarray
Results = dict[str, dict[str, float]]  # by what was simulated
SIZES = (8, 16, 32)
CLASSES = 10
RESAMPLES = 2000  # of each trial


def draw_scores(name: str, trials: int, n: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Scores [trials, n] of a distribution, and its mean."""
    if name == "normal":
        return rng.normal(size=(trials, n)), 0.0
    if name == "lognormal(0.75)":
        return rng.lognormal(0, 0.75, (trials, n)), math.exp(0.75**2 / 2)
    share, high, low = {
        "70 % 0 dB, 30 % 20 dB": (0.3, 20.0, 0.0),
        "90 % -3 dB, 10 % 20 dB": (0.1, 20.0, -3.0),
    }[name]
    noise = rng.normal(size=(trials, n))
    is_high = rng.random((trials, n)) < share
    return noise + np.where(is_high, high, low), share * high + (1 - share) * low


DISTRIBUTIONS = ("normal", "lognormal(0.75)", "70 % 0 dB, 30 % 20 dB", "90 % -3 dB, 10 % 20 dB")


def measure_bootstrap_t(name: str, n: int, trials: int, seed: int = 0) -> float:
    """Share of bootstrap-t intervals that contain the mean."""
    values, mean = draw_scores(name, trials, n, np.random.default_rng(seed))
    inside = 0
    for rows in torch.split(torch.from_numpy(values), max(1, 4_000_000 // (RESAMPLES * n))):
        ends = draw_t_quantiles(rows, RESAMPLES, 0.95)
        error, middle = rows.std(1) / math.sqrt(n), rows.mean(1)
        low, high = middle - ends[:, 1] * error, middle - ends[:, 0] * error
        inside += int(((low <= mean) & (mean <= high)).sum())
    return inside / trials


def measure_bca(name: str, n: int, trials: int, seed: int = 0) -> float:
    """The same for BCa, one at a time."""
    values, mean = draw_scores(name, trials, n, np.random.default_rng(seed))
    ends = [bca(row.tolist(), 2000) or (mean, mean) for row in values]
    return sum(low <= mean <= high for low, high in ends) / trials


WAY = 1.2
WAY_SPREADS = (0.5, 1.5, 2.5)
WAY_SIZES = (8, 16, 24, 32)


def draw_losses(
    spread: float, n: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Changes of the forget loss by a release that goes 1.2 of the way, and by retraining, [n].

    Retraining changes the losses by lognormal amounts: half of the whole change is that of one
    deletion in three at a spread of 0.5, of one in 15 at 1.5, and of one in 160 at 2.5. The noise is
    a tenth of the median change.
    """
    whole = rng.lognormal(0, spread, n)
    done = WAY * whole * rng.lognormal(-0.08, 0.4, n)
    noisy = (values + 0.1 * rng.normal(size=n) for values in (done, whole))
    above, below = (torch.from_numpy(values) for values in noisy)
    return above, below


def measure_bootstrap_ratio(spread: float, n: int, trials: int, seed: int = 0) -> float:
    """Share of the way's intervals that contain it."""
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(trials):
        low, high = bootstrap_ratio(*draw_losses(spread, n, rng), RESAMPLES) or (WAY, WAY)
        inside += low <= WAY <= high
    return inside / trials


def measure_linear_expansion(spread: float, n: int, trials: int, seed: int = 0) -> float:
    """The same for the bootstrap-t interval of the ratio's linear expansion, which is not used."""
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(trials):
        done, whole = draw_losses(spread, n, rng)
        ratio = done.mean() / whole.mean()
        shares = ratio + (done - ratio * whole) / whole.mean()
        low, high = bootstrap_t(shares.tolist(), RESAMPLES) or (WAY, WAY)
        inside += low <= WAY <= high
    return inside / trials


def draw_blind_ranks(
    n: int, decoys: int, share_decoys: bool, rng: np.random.Generator
) -> tuple[list[int], list[float]]:
    """Ranks and margins of n pictures that know nothing.

    With `share_decoys`, every class has one picture and one set of decoys, as an attacker who
    always returns the same picture of a class has: the least favourable case.
    """
    ranks, margins = [], []
    classes = rng.integers(CLASSES, size=n)
    shared = rng.chisquare(20, (CLASSES, decoys))
    for label in classes:
        others = shared[label] if share_decoys else rng.chisquare(20, decoys)
        own = rng.chisquare(20)
        ranks.append(1 + int((others <= own).sum()))
        nearest = np.partition(np.append(others, own), 1)[:2]
        margins.append(10 * math.log10(nearest[1] / nearest[0]))
    return ranks, margins


def is_alarmed(rng: np.random.Generator, share_decoys: bool) -> bool:
    """Whether an audit in which nothing leaks has a leak: two unlearning methods, three attacks,
    three seeds of eight deletions."""
    p_values = []
    for _ in range(2):
        ranks, margins = draw_blind_ranks(24, 147, share_decoys, rng)
        p_values.append(run_rank_tests(ranks, [147] * 24, margins).p)
        p_values.append(tail_of_sum(int(rng.binomial(24, 0.1)), [0.1] * 24))
        # p-values of relabelings are uniform; the other side's is what is left
        sides = [(p, 1 - p + 1 / 20_000) for p in rng.integers(1, 20_001, 3) / 20_000]
        scores = [
            Score(
                mean=0.5, low=0.4, high=0.6, baseline=0.5, n=8, unit="share",
                higher_is_better=True, p=p, p_below=min(1.0, below),
            )
            for p, below in sides
        ]  # fmt: skip
        p_values.append(compute_two_sided_p(scores) or 1.0)
    return min(correct_for_number(p_values)) <= TAIL


def measure_power(
    n: int, decoys: int, share: float, decibels: float, trials: int, rng: np.random.Generator
) -> float:
    """Share of experiments that are a leak, if this share of pictures comes back at that distance
    and the others know nothing."""
    seen = 0
    for _ in range(trials):
        others = rng.chisquare(20, (n, decoys))
        own = rng.chisquare(20, n)
        recovered = rng.random(n) < share
        own[recovered] *= 10 ** (-decibels / 10)
        ranks = 1 + (others <= own[:, None]).sum(1)
        nearest = np.partition(np.column_stack([others, own]), 1, axis=1)[:, :2]
        margins = 10 * np.log10(nearest[:, 1] / nearest[:, 0])
        p = run_rank_tests(ranks.tolist(), [decoys] * n, margins.tolist()).p
        seen += p <= TAIL
    return seen / trials


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """As Markdown."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = [f"{one:.3f}" if isinstance(one, float) else str(one) for one in row]
        print("| " + " | ".join(cells) + " |")
    print()


def print_coverage(trials: int) -> Results:
    """Of the intervals of means."""
    print(f"Coverage of 95 % intervals of a mean, {trials} trials; BCa a tenth of them\n")
    results: Results = {}
    for name in DISTRIBUTIONS:
        covered = {f"n = {n}": measure_bootstrap_t(name, n, trials) for n in SIZES}
        beside = {f"BCa, n = {n}": measure_bca(name, n, trials // 10) for n in (32, MIN_BCA)}
        results[name] = covered | beside
    rows = [[name, *shares.values()] for name, shares in results.items()]
    print_table(["scores", *results[DISTRIBUTIONS[0]]], rows)
    return results


def print_way_coverage(trials: int) -> Results:
    """Of the interval of the way to retraining."""
    print(f"Coverage of 95 % intervals of the way to retraining, {trials} trials\n")
    results: Results = {}
    for spread in WAY_SPREADS:
        results[f"spread {spread:g}"] = {
            f"n = {n}": measure_bootstrap_ratio(spread, n, trials) for n in WAY_SIZES
        } | {
            f"linear expansion, n = {n}": measure_linear_expansion(spread, n, trials)
            for n in (8, 32)
        }
    rows = [[name, *shares.values()] for name, shares in results.items()]
    print_table(["changes of the loss", *results[f"spread {WAY_SPREADS[0]:g}"]], rows)
    return results


def print_alarms(audits: int) -> Results:
    """Of audits in which nothing leaks."""
    print(f"False alarms among {audits} audits in which nothing leaks\n")
    results: Results = {}
    for name, share_decoys in (
        ("every deletion has its own decoys", False),
        ("deletions of a class share decoys and picture", True),
    ):
        rng = np.random.default_rng(1)
        results[name] = {"alarms": sum(is_alarmed(rng, share_decoys) for _ in range(audits))}
    print_table(["decoys", "alarms"], [[name, int(one["alarms"])] for name, one in results.items()])
    return results


def print_power(experiments: int) -> Results:
    """Of the tests of ranks."""
    print(f"Power: share of experiments that are a leak, {experiments} of each row\n")
    results: Results = {}
    rows, rng = [], np.random.default_rng(2)
    for n, decoys in ((8, 100), (8, 147), (8, 999), (32, 147), (80, 147)):
        for share, decibels in ((1 / 8, 10.0), (1 / 8, 3.0), (0.5, 3.0), (1.0, 1.0), (1.0, 3.0)):
            power = measure_power(n, decoys, share, decibels, experiments, rng)
            results[f"power {n} {decoys} {share} {decibels}"] = {"share": power}
            rows.append([n, decoys, f"{100 * share:.3g} %", f"{decibels:g} dB", power])
    print_table(["deletions", "decoys", "recovered", "nearer by", "leak"], rows)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000, help="of the coverage; 0: leave it out")
    parser.add_argument("--audits", type=int, default=1000, help="without a leak; 0: leave it out")
    parser.add_argument("--experiments", type=int, default=2000, help="per row of the power; or 0")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    results: Results = {}
    if asked.trials:
        results |= print_coverage(asked.trials)
        results |= print_way_coverage(max(20, asked.trials // 5))
    if asked.audits:
        results |= print_alarms(asked.audits)
    if asked.experiments:
        results |= print_power(asked.experiments)
    if asked.out:
        asked.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
