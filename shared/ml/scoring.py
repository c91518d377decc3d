"""A score next to its nulls, with intervals: one metric of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from shared.ml.statistics import bca, wilson
from shared.plugins import MetricPlugin

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """How the values of a metric are read."""

    unit: str
    range: Sequence[float | None]
    higher_is_better: bool

    @classmethod
    def of(cls, metric: MetricPlugin) -> Measure:
        return cls(metric.unit, metric.range, metric.higher_is_better)


def summary(
    measure: Measure,
    values: list[float],
    by_null: Mapping[str, list[float]],
    proportion: bool,
    few: Mapping[str, list[float]] | None = None,
    size: int = 1,
) -> JSONObject:
    """One metric's part of an evaluation.

    Best and worst are the attacker's: the sample that leaked most, and least. The null is the strongest of
    those given, by mean; the gain is positive where the attack beats it, paired by sample. Nulls of `few` samples
    are told beside them, and never are the null. Every `size` values are one deletion's: the bootstrap draws
    deletions, as the samples of one were rebuilt together.
    """
    higher = measure.higher_is_better
    interval = wilson(sum(values), len(values)) if proportion else bca(mean_of_each(values, size))
    low, high = interval or (None, None)
    part: JSONObject = {
        "n": len(values),
        "mean": fmean(values),
        "median": median(values),
        "worst": min(values) if higher else max(values),
        "best": max(values) if higher else min(values),
        "low": low,
        "high": high,
        "interval": "wilson" if proportion else "bca",
        "unit": measure.unit,
        "range": list(measure.range),
        "higher_is_better": higher,
        "values": values,
        "nulls": {name: fmean(scores) for name, scores in {**by_null, **(few or {})}.items()},
        "null_values": {name: list(scores) for name, scores in {**by_null, **(few or {})}.items()},
        "null": None,
        "null_name": None,
        "gain": None,
    }
    if by_null:
        name = (max if higher else min)(by_null, key=lambda n: fmean(by_null[n]))
        gains = [(v - b) if higher else (b - v) for v, b in zip(values, by_null[name], strict=True)]
        if proportion and interval:  # the bootstrap of equal values has no width; the null is taken as known
            low, high = sorted((end - fmean(by_null[name])) * (1 if higher else -1) for end in interval)
        else:
            low, high = bca(mean_of_each(gains, size)) or (None, None)
        part |= {"null": fmean(by_null[name]), "null_name": name}
        part["gain"] = {"mean": fmean(gains), "median": median(gains), "low": low, "high": high}
        part["gain"]["interval"] = part["interval"]
    return part


def mean_of_each(values: list[float], size: int) -> list[float]:
    """The mean of every `size` values: those of one deletion."""
    return [fmean(values[start : start + size]) for start in range(0, len(values), size)]
