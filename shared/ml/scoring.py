"""Scores next to their nulls, with intervals: the numbers of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from shared.ml import nulls
from shared.ml.datasets._base import Samples
from shared.ml.metrics import registry
from shared.ml.statistics import bca, wilson
from shared.registry import Plugin

JSONObject = dict[str, Any]
DRAWS = 20  # of decoys that stand in for a reconstruction, where chance must be measured


def summary(
    plugin: Plugin,
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
    higher = bool(plugin.traits["higher_is_better"])
    interval = wilson(sum(values), len(values)) if proportion else bca(_by_deletion(values, size))
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
        "unit": plugin.traits["unit"],
        "range": plugin.traits["range"],
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
            low, high = sorted(end - fmean(by_null[name]) for end in interval)
        else:
            low, high = bca(_by_deletion(gains, size)) or (None, None)
        part |= {"null": fmean(by_null[name]), "null_name": name}
        part["gain"] = {"mean": fmean(gains), "median": median(gains), "low": low, "high": high}
        part["gain"]["interval"] = part["interval"]
    return part


def _by_deletion(values: list[float], size: int) -> list[float]:
    return [fmean(values[start : start + size]) for start in range(0, len(values), size)]


def assign(reconstruction: Tensor, truth: Tensor) -> Tensor:
    """Reorder the k images of each deletion to fit its k truths best, by squared distance (Hungarian).

    An attacker does not know an order. [D, k, C, H, W] twice -> [D, k, C, H, W].
    """
    if truth.shape[1] == 1:
        return reconstruction
    # here, as it brings 0.4 seconds of packages along, and one sample a deletion needs none of them
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # scipy has no types

    ordered = []
    for images, targets in zip(reconstruction, truth, strict=True):
        cost = torch.cdist(targets.flatten(1).double(), images.flatten(1).double()).square()
        ordered.append(images[torch.from_numpy(linear_sum_assignment(cost.numpy())[1])])
    return torch.stack(ordered)


def score_images(reconstruction: Tensor, truth: Tensor, others: Mapping[str, Tensor]) -> JSONObject:
    """Every image metric, with its nulls. Images [D, k, C, H, W] in [0, 1].

    Args:
        others: nulls by name, images like these; one with fewer deletions is about the first of them.
    """
    parts: JSONObject = {}
    for plugin in registry:
        if plugin.traits.get("takes") != "image":
            continue

        def score(images: Tensor, targets: Tensor, metric: Any = plugin.target) -> Tensor:
            scores: Tensor = metric(assign(images, targets).flatten(0, 1), targets.flatten(0, 1))
            return scores.double()

        scores = {name: score(images, truth[: len(images)]).tolist() for name, images in others.items()}
        few = {name: scores.pop(name) for name, images in others.items() if len(images) < len(truth)}
        permuted = nulls.permuted_truth(score, reconstruction, truth)
        if permuted is not None:
            scores["permuted_truth"] = permuted.tolist()
        parts[plugin.name] = summary(plugin, score(reconstruction, truth).tolist(), scores, False, few, truth.shape[1])
    return parts


def score_labels(answers: Tensor, truth: Tensor, num_classes: int) -> JSONObject:
    """Every label metric, with its nulls. Both int64 [D, k]."""
    parts: JSONObject = {}
    for plugin in registry:
        if plugin.traits.get("takes") != "label":
            continue
        values = plugin.target(answers, truth)
        by_null = {"uniform_guess": [min(1.0, truth.shape[1] / num_classes)] * len(values)}
        others = nulls.permuted_truth(plugin.target, answers, truth)
        if others is not None:
            by_null["permuted_truth"] = others.tolist()
        parts[plugin.name] = summary(plugin, values.tolist(), by_null, proportion=True)
    return parts


def _chance(
    ranked: Callable[[Tensor, Tensor], list[int]], decoys: Tensor, truth: Tensor, generator: torch.Generator
) -> float:
    """How often a decoy, handed back as the reconstruction, is identified with the truth.

    With several samples a deletion that is more than 1 in M + 1: each is assigned to the truth it fits best.
    """
    n, count = decoys.shape[:2]
    every, hits = torch.arange(n), []
    for _ in range(DRAWS):
        chosen = torch.randint(count, (n,), generator=generator)
        rest = torch.ones(n, count, dtype=torch.bool)
        rest[every, chosen] = False
        handed = decoys[every, chosen].view(truth.shape)
        ranks = ranked(handed, decoys[rest].view(n, count - 1, *decoys.shape[2:]))
        hits.append(fmean(float(rank == 1) for rank in ranks))
    return fmean(hits)


def identify(
    reconstruction: Tensor, truth: Tensor, labels: Tensor, public: Samples, decoys: int, generator: torch.Generator
) -> JSONObject:
    """Rank of each truth among public images of its class; see the metric `decoy_rank`.

    A class with fewer than `decoys` public samples lowers their number for all, so that ranks compare.
    """
    plugin = registry.get("decoy_rank")
    pools = [(public.labels == label).nonzero().flatten() for label in labels.flatten().tolist()]
    count = min(decoys, *(len(pool) for pool in pools))
    if count == 0:
        return {"n": 0, "decoys": 0}
    picks = torch.stack([pool[torch.randperm(len(pool), generator=generator)[:count]] for pool in pools])
    among, size = public.images[picks], truth.shape[1]

    def ranked(images: Tensor, decoys: Tensor) -> list[int]:
        found: list[int] = plugin.target(assign(images, truth).flatten(0, 1), truth.flatten(0, 1), decoys).tolist()
        return found

    ranks = ranked(reconstruction, among)
    first = [float(rank == 1) for rank in ranks]
    chance, interval = 1 / (count + 1), wilson(sum(first), len(first))
    if size > 1:
        chance, interval = _chance(ranked, among, truth, generator), bca(_by_deletion(first, size))
    low, high = interval or (None, None)
    return {
        "n": len(ranks),
        "decoys": count,
        "rank_1": int(sum(first)),
        "share": fmean(first),
        "low": low,
        "high": high,
        "interval": "wilson" if size == 1 else "bca",
        "chance": chance,
        "median_rank": median(ranks),
        "worst_rank": max(ranks),
        "ranks": ranks,
    }
