"""Pooled evaluations: the scores of one attack over all seeds, by deletion."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, NamedTuple

from torch import Tensor

from benchmarks.paper.audit_specs import Scale
from shared.forgetting import Forgetting, ForgettingRow
from shared.ml.statistics import compute_interval, wilson
from shared.reporting.binomial import tail_of_sum

JSONObject = Mapping[str, Any]
ALPHA = 0.05


class Release(NamedTuple):
    """A defense at one setting, the parameter that is its strength, and its privacy guarantee, if
    any."""

    defense: str
    params: JSONObject
    strength_name: str
    strength: float
    promise: JSONObject


@dataclass(frozen=True)
class Evidence:
    """All evaluations of attacks by the name of their audit, and their scale.

    `pictures` has truth, reconstruction and class mean of some deletions, [n, C, H, W], by the
    attacker's estimate. `forgetting` is by the name of the audit, too.
    """

    scale: Scale
    evaluations: Mapping[str, Sequence[JSONObject]]
    pictures: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    forgetting: Mapping[str, Sequence[Forgetting]] = field(default_factory=dict)

    def pool(
        self,
        audit: str,
        unlearning: str,
        attack: str,
        release: Release | None = None,
        **params: Any,
    ) -> PooledEvaluations:
        """The evaluations of one attack on one kind of release, over all seeds in order.

        Args:
            release: none: the undefended one.
            params: of the attack, as far as it matters.
        """
        matching = [
            e
            for e in self._select(audit, unlearning, release)
            if e["attack"] is not None
            and e["attack"]["method"] == attack
            and params.items() <= e["attack"]["params"].items()
        ]
        return PooledEvaluations(sorted(matching, key=lambda e: e["seed"]))

    def list_releases(self, audit: str, defense: str) -> list[Release]:
        """The releases of one defense, weakest first. Its strength is the number in which its
        settings differ."""
        defenses = [
            e["defense"]
            for e in self.evaluations.get(audit, ())
            if e["defense"]["method"] == defense
        ]
        settings = list({json.dumps(d["params"], sort_keys=True): d for d in defenses}.values())
        for name in settings[0]["params"] if len(settings) > 1 else ():
            values = [one["params"][name] for one in settings]
            if all(isinstance(value, int | float) for value in values) and len({*values}) == len(
                values
            ):
                released = (
                    Release(defense, d["params"], name, d["params"][name], d["guarantee"])
                    for d in settings
                )
                return sorted(released, key=lambda r: r.strength)
        return []

    def average_utility(
        self, audit: str, unlearning: str, release: Release | None = None
    ) -> JSONObject:
        """Accuracies of the released models, mean over seeds; empty where they were not
        measured."""
        utilities = [e["utility"] for e in self._select(audit, unlearning, release) if e["utility"]]
        names = {name for u in utilities for name, value in u.items() if isinstance(value, float)}
        return {
            name: fmean(u[name] for u in utilities if u.get(name) is not None)
            for name in sorted(names)
        }

    def list_forgetting(self, audit: str, unlearning: str) -> list[ForgettingRow]:
        """What was measured of the undefended releases of one method, by seed."""
        matching = [
            one
            for one in self.forgetting.get(audit, ())
            if one.unlearning.method == unlearning and one.defense.method == "none"
        ]
        return [one.measured for one in sorted(matching, key=lambda one: one.seed)]

    def _select(self, audit: str, unlearning: str, release: Release | None) -> Iterator[JSONObject]:
        for e in self.evaluations.get(audit, ()):
            released = e["defense"]
            same = (
                released["method"] == "none"
                if release is None
                else (released["method"], released["params"]) == release[:2]
            )
            if same and e["unlearning"]["method"] == unlearning:
                yield e


@dataclass(frozen=True)
class PooledEvaluations:
    """Evaluations that differ only in their seed."""

    evaluations: Sequence[JSONObject]

    def __bool__(self) -> bool:
        return bool(self.evaluations)

    @property
    def seeds(self) -> list[int]:
        return [e["seed"] for e in self.evaluations]

    def pool_score(self, metric: str) -> Score | None:
        """One metric over all deletions with its strongest baseline; None if it was not
        measured."""
        parts = [e["metrics"][metric] for e in self.evaluations if metric in e["metrics"]]
        if not parts:
            return None
        values = [value for part in parts for value in part["values"]]
        complete = set.intersection(
            *({n for n, v in p["baseline_values"].items() if len(v) == p["n"]} for p in parts)
        )
        baselines = {
            name: [value for part in parts for value in part["baseline_values"][name]]
            for name in sorted(complete)
        }
        sign = 1 if parts[0]["higher_is_better"] else -1
        name = max(baselines, key=lambda n: sign * fmean(baselines[n]))
        return Score(values, baselines[name], name, parts[0]["interval"] == "wilson", sign)

    def pool_identified(self) -> Identification | None:
        """How many images were identified among decoys; None if none were reconstructed."""
        parts = [
            e["identification"]
            for e in self.evaluations
            if e["identification"] and e["identification"]["n"]
        ]
        if not parts:
            return None
        return Identification(
            [rank == 1 for part in parts for rank in part["ranks"] if rank is not None],
            [count for part in parts for count in part["decoy_counts"] if count],
        )


@dataclass(frozen=True)
class Score:
    """`values` and `baseline_values` [n], one per deleted sample; `sign` is -1 if lower leaks
    more."""

    values: Sequence[float]
    baseline_values: Sequence[float]
    baseline_name: str
    is_proportion: bool
    sign: int

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def hits(self) -> int:
        """For values that are 0 or 1: the number of correct ones."""
        return round(sum(self.values))

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def baseline(self) -> float:
        return fmean(self.baseline_values)

    @property
    def gains(self) -> list[float]:
        """Paired by deletion; positive where the attack beats the baseline."""
        return [self.sign * (v - b) for v, b in zip(self.values, self.baseline_values, strict=True)]

    @property
    def gain(self) -> float:
        return fmean(self.gains)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean: Wilson for shares, else bootstrap by deletion."""
        found = wilson(self.hits, self.n) if self.is_proportion else compute_interval(self.values)
        return found or (-math.inf, math.inf)

    @property
    def gain_interval(self) -> tuple[float, float]:
        if self.is_proportion:
            low, high = self.interval
            return low - self.baseline, high - self.baseline
        return compute_interval(self.gains) or (-math.inf, math.inf)

    @property
    def leaks(self) -> bool:
        """Whether the whole interval of the gain is above 0."""
        return self.gain_interval[0] > 0


@dataclass(frozen=True)
class Identification:
    """Which deleted images are nearer to their reconstruction than every decoy."""

    hits: Sequence[bool]
    decoy_counts: Sequence[int]

    @property
    def decoys(self) -> int:
        """Of the image that has fewest."""
        return min(self.decoy_counts)

    @property
    def chances(self) -> list[float]:
        return [1 / (count + 1) for count in self.decoy_counts]

    @property
    def chance(self) -> float:
        return fmean(self.chances)

    @property
    def n(self) -> int:
        return len(self.hits)

    @property
    def count(self) -> int:
        return sum(self.hits)

    @property
    def share(self) -> float:
        return self.count / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.count, self.n) or (0.0, 1.0)

    @property
    def p(self) -> float:
        """Probability of at least this count by chance."""
        return tail_of_sum(self.count, self.chances)

    @property
    def leaks(self) -> bool:
        return self.p < ALPHA


def compute_difference(left: Score, right: Score) -> tuple[float, float, float] | None:
    """Mean of left - right by deletion, with its 95 % interval; None if their deletions differ."""
    if left.n != right.n or left.n < 2:
        return None
    values = [left.sign * (a - b) for a, b in zip(left.values, right.values, strict=True)]
    low, high = compute_interval(values) or (-math.inf, math.inf)
    return fmean(values), low, high


def compute_trend(groups: Iterable[tuple[float, Sequence[float]]]) -> tuple[float, float]:
    """Spearman's rank correlation of the values with the number of their group, and its two-sided
    p.

    Raises:
        ValueError: fewer than two groups have values.
    """
    from scipy.stats import spearmanr

    pairs = [(x, y) for x, values in groups for y in values]
    if len({x for x, _ in pairs}) < 2:
        raise ValueError("a trend needs two groups")
    correlation = spearmanr(*zip(*pairs, strict=True))
    return float(correlation.statistic), float(correlation.pvalue)


def compute_fisher_p(right: tuple[int, int], left: tuple[int, int]) -> float:
    """One-sided exact p that the first share (successes, n) is above the second."""
    from scipy.stats import fisher_exact

    (a, n), (b, m) = right, left
    return float(fisher_exact([[a, n - a], [b, m - b]], alternative="greater").pvalue)
