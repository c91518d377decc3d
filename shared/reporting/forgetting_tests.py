"""The tests of forgetting as text: each with its baseline, interval and number of deletions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from shared.forgetting import (
    Difference,
    ForgettingRow,
    MarginDivergence,
    ProbeAccuracies,
    RelativeTest,
    RelearningCurves,
    RelearningOfForgotten,
)
from shared.reporting.formatting import (
    format_interval,
    format_number,
    format_probability,
    pluralise,
)

# by their field in ForgettingTests, in the order of their columns
TESTS = {
    "three_sample": "three-sample test",
    "klom": "KLoM",
    "linear_probe": "linear probe",
    "relearning_forgotten": "relearning on forgotten samples",
    "relearning": "relearning on retained samples",
}


class TestResult(NamedTuple):
    """What one test found for one release, and what it is to be read with."""

    result: str
    detail: str


def format_share(value: float | None) -> str:
    """`97 %`, `4.9 %`, `−30 %`; `42 times` where percent would have four digits."""
    if value is None:
        return "—"
    if abs(value) >= 10:
        return f"{value:,.0f} times".replace("-", "−")
    percent = 100 * value
    text = f"{percent:.1f}" if 0 < abs(percent) < 10 else f"{percent:,.0f}"
    return f"{text} %".replace("-", "−")


def format_ends(low: float | None, high: float | None) -> str:
    """The interval in percent."""
    if low is None or high is None:
        return "(no interval)"
    return f"[{format_share(low)}, {format_share(high)}]".replace(" %,", ",")


def describe_tests(measured: Sequence[ForgettingRow]) -> dict[str, TestResult]:
    """Each test that was run, with its result over seeds, or asked for, with why it was not run."""
    tests = [one.tests for one in measured]
    deletions = pluralise(sum(one.deletions for one in measured), "deletion")
    results: tuple[TestResult | None, ...] = (
        _describe_relative([t.three_sample for t in tests if t.three_sample], deletions),
        _describe_klom([t.klom.forget for t in tests if t.klom], deletions),
        _describe_probes([t.linear_probe for t in tests if t.linear_probe], deletions),
        _describe_return(
            [t.relearning_forgotten for t in tests if t.relearning_forgotten], deletions
        ),
        _describe_curves([t.relearning for t in tests if t.relearning], deletions),
    )
    obstacles: dict[str, str] = {
        name: reason for one in measured for name, reason in one.not_run.items()
    }
    return {
        title: result
        for (name, title), measurement in zip(TESTS.items(), results, strict=True)
        if (result := measurement or _describe_obstacle(obstacles.get(name)))
    }


def _describe_obstacle(reason: str | None) -> TestResult | None:
    return None if reason is None else TestResult("not run", reason)


def _describe_relative(results: Sequence[RelativeTest], deletions: str) -> TestResult | None:
    if not results:
        return None
    text = _count_closer([result.not_forgotten for result in results])
    decided = [r for r in results if r.p is not None and r.statistic is not None]
    if not decided:
        return TestResult(text, f"{results[0].reason}; {deletions}")
    statistic = _pool_differences(
        [Difference(mean=r.statistic or 0.0, low=r.low, high=r.high) for r in decided]
    )
    return TestResult(
        text,
        f"statistic {_format_difference(statistic)} (0: as close to retrained models), "
        f"{_format_p([r.p or 0.0 for r in decided])}, {deletions}",
    )


def _count_closer(flags: Sequence[bool | None]) -> str:
    """In words; of several seeds, in how many."""
    if all(flag is None for flag in flags):
        return "cannot decide"
    if len(flags) > 1:
        closer = sum(flag is True for flag in flags)
        return f"closer to the original in {closer} of {pluralise(len(flags), 'seed')}"
    return "closer to the original" if flags[0] else "not closer to the original"


def _describe_klom(results: Sequence[MarginDivergence], deletions: str) -> TestResult | None:
    if not results:
        return None
    high, of_retrained = (
        format_number(fmean(values))
        for values in zip(*((r.high, r.retrained_high) for r in results), strict=True)
    )
    count = pluralise(sum(r.samples for r in results), "sample")
    return _compare_means(
        [(r.mean, r.retrained_mean) for r in results],
        [r.difference for r in results],
        f"95th percentile {high} (retraining: {of_retrained}), {count} of {deletions}",
        unit=" nats",
    )


def _describe_probes(results: Sequence[ProbeAccuracies], deletions: str) -> TestResult | None:
    if not results:
        return None
    original = format_number(fmean(r.original for r in results))
    return _compare_means(
        [(r.release, r.retrained) for r in results],
        [r.difference for r in results],
        f"original {original}, {deletions}",
    )


def _compare_means(
    pairs: Sequence[tuple[float, float]],
    differences: Sequence[Difference],
    detail: str,
    unit: str = "",
) -> TestResult:
    """Means over seeds of (release, retrained models), and their difference."""
    release, retrained = (format_number(fmean(values)) for values in zip(*pairs, strict=True))
    difference = _format_difference(_pool_differences(differences))
    return TestResult(
        f"{release}{unit} (retraining: {retrained})", f"difference {difference}, {detail}"
    )


def _describe_curves(results: Sequence[RelearningCurves], deletions: str) -> TestResult | None:
    if not results:
        return None
    release, retrained = (
        " → ".join(format_number(fmean(curve[place] for curve in curves)) for place in (0, -1))
        for curves in ([r.release for r in results], [r.retrained for r in results])
    )
    difference = _format_difference(_pool_differences([r.difference for r in results]))
    epochs = pluralise(len(results[0].release) - 1, "epoch")
    return TestResult(
        f"{release} (retraining: {retrained})",
        f"forget accuracy in {epochs}, difference at the end {difference}, {deletions}",
    )


def _describe_return(results: Sequence[RelearningOfForgotten], deletions: str) -> TestResult | None:
    """Relearning on forgotten samples: how far the rest comes back."""
    if not results:
        return None
    text = _count_closer([result.not_forgotten for result in results])
    measured = [r for r in results if r.way is not None and r.losses is not None]
    if not measured:
        return TestResult(text, f"{results[0].reason}; {deletions}")
    way = _pool_differences(
        [Difference(mean=r.way or 0.0, low=r.way_low, high=r.way_high) for r in measured]
    )
    before = (
        format_share(fmean(r.way_before or 0.0 for r in measured))
        if all(r.way_before is not None for r in measured)
        else "not measurable"
    )
    losses = measured[0].losses
    steps = pluralise(len(losses.release) - 1 if losses else 0, "step")
    words = [
        f"way to retraining of the rest {before} → {format_share(way.mean)} "
        f"{format_ends(way.low, way.high)} (retraining: 100 %)",
        f"{steps} on {pluralise(measured[0].samples or 0, 'sample')}",
    ]
    if p_values := [r.p for r in measured if r.p is not None]:
        words.append(_format_p(p_values))
    elif reason := measured[0].reason:
        words.append(reason)
    return TestResult(text, ", ".join([*words, deletions]))


def _pool_differences(differences: Sequence[Difference]) -> Difference:
    """The mean over seeds, each with equal weight, and its interval."""
    mean, count = fmean(one.mean for one in differences), len(differences)
    below, above = 0.0, 0.0
    for one in differences:
        if one.low is None or one.high is None:
            return Difference(mean=mean, low=None, high=None)
        below += ((one.mean - one.low) / count) ** 2
        above += ((one.high - one.mean) / count) ** 2
    return Difference(mean=mean, low=mean - math.sqrt(below), high=mean + math.sqrt(above))


def _format_difference(one: Difference) -> str:
    """`+0.30 [+0.10, +0.50]`."""
    return f"{format_number(one.mean, sign=True)} {format_interval(one.low, one.high, sign=True)}"


def _format_p(p_values: Sequence[float]) -> str:
    """`p 0.003`; of several seeds the lowest and the highest."""
    ends = dict.fromkeys(format_probability(p) for p in (min(p_values), max(p_values)))
    return f"p {' to '.join(ends)}"
