"""A score next to its baselines, with intervals: one metric of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from shared.ml.statistics import choose_interval, compute_interval, wilson
from shared.plugins import MetricPlugin

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class MetricScale:
    """How the values of a metric are read."""

    unit: str
    range: Sequence[float | None]
    higher_is_better: bool

    @classmethod
    def from_plugin(cls, metric: MetricPlugin) -> MetricScale:
        return cls(metric.unit, metric.range, metric.higher_is_better)


def summarise_metric(
    scale: MetricScale,
    values: list[float],
    baselines: Mapping[str, list[float]],
    is_proportion: bool,
    partial_baselines: Mapping[str, list[float]] | None = None,
    deletion_size: int = 1,
) -> JSONObject:
    """One metric's part of an evaluation.

    Best and worst are from the attacker's view: the sample that leaked most, and least. The
    baseline is the strongest of `baselines`, by mean; the gain is paired by sample and positive
    where the attack beats it. `partial_baselines` cover only some of the samples: they are listed,
    but never become the baseline. Every `deletion_size` values belong to one deletion: the
    bootstrap draws deletions, as the samples of one were reconstructed together.
    """
    higher = scale.higher_is_better
    per_deletion = average_per_deletion(values, deletion_size)
    interval = wilson(sum(values), len(values)) if is_proportion else compute_interval(per_deletion)
    low, high = _clip(interval, scale.range) if interval else (None, None)
    part: JSONObject = {
        "n": len(values),
        "mean": fmean(values),
        "median": median(values),
        "worst": min(values) if higher else max(values),
        "best": max(values) if higher else min(values),
        "low": low,
        "high": high,
        "interval": "wilson" if is_proportion else choose_interval(len(per_deletion)),
        "unit": scale.unit,
        "range": list(scale.range),
        "higher_is_better": higher,
        "values": values,
        "baselines": {
            name: fmean(scores)
            for name, scores in {**baselines, **(partial_baselines or {})}.items()
        },
        "baseline_values": {
            name: list(scores)
            for name, scores in {**baselines, **(partial_baselines or {})}.items()
        },
        "baseline": None,
        "baseline_name": None,
        "gain": None,
    }
    if baselines:
        name = (max if higher else min)(baselines, key=lambda n: fmean(baselines[n]))
        gains = [
            (v - b) if higher else (b - v) for v, b in zip(values, baselines[name], strict=True)
        ]
        # the bootstrap of equal values has no width; the baseline is taken as known
        if is_proportion and interval:
            low, high = sorted(
                (end - fmean(baselines[name])) * (1 if higher else -1) for end in interval
            )
        else:
            ends = compute_interval(average_per_deletion(gains, deletion_size))
            low, high = ends or (None, None)
        part |= {"baseline": fmean(baselines[name]), "baseline_name": name}
        part["gain"] = {"mean": fmean(gains), "median": median(gains), "low": low, "high": high}
        part["gain"]["interval"] = part["interval"]
    return part


def _clip(interval: tuple[float, float], ends: Sequence[float | None]) -> tuple[float, float]:
    """The interval within the range of the metric."""
    least, most = ends
    least, most = -math.inf if least is None else least, math.inf if most is None else most
    return min(max(interval[0], least), most), min(max(interval[1], least), most)


def average_per_deletion(values: list[float], deletion_size: int) -> list[float]:
    """The mean of every `deletion_size` values: those of one deletion."""
    return [
        fmean(values[start : start + deletion_size])
        for start in range(0, len(values), deletion_size)
    ]
