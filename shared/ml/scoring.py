"""Scores next to their nulls, with intervals: the numbers of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from shared.ml import nulls
from shared.ml.datasets._base import Samples
from shared.ml.metrics import registry
from shared.ml.statistics import bca, wilson
from shared.registry import Plugin

JSONObject = dict[str, Any]
NOTHING: Mapping[str, object] = MappingProxyType({})
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


def fitting(reconstruction: Tensor, truth: Tensor) -> Tensor:
    """Which of a deletion's k images fits each of its k truths, all together by squared distance (Hungarian).

    An attacker does not know an order. [D, k, C, H, W] twice -> int64 [D, k].
    """
    deletions, size = truth.shape[:2]
    if size == 1:
        return torch.zeros(deletions, 1, dtype=torch.int64)
    # here, as it brings 0.4 seconds of packages along, and one sample a deletion needs none of them
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(truth.flatten(2).double(), reconstruction.flatten(2).double()).square()
    return torch.stack([torch.from_numpy(linear_sum_assignment(one.numpy())[1]) for one in cost])


def assign(reconstruction: Tensor, truth: Tensor) -> Tensor:
    """The k images of each deletion in the order that fits its k truths. [D, k, C, H, W] twice -> [D, k, C, H, W]."""
    return reconstruction[torch.arange(len(truth)).unsqueeze(1), fitting(reconstruction, truth)]


def applies(plugin: Plugin, shape: Sequence[int], given: Mapping[str, object]) -> bool:
    """Whether a metric compares images, is defined for those of this shape [C, H, W], and is given what it needs."""
    channels, *sides = shape
    return (
        plugin.traits.get("takes") in ("image", "embedding")
        and min(sides) >= plugin.traits.get("min_size", 1)
        and channels in plugin.traits.get("channels", [channels])
        and given.keys() >= set(plugin.needs)
    )


def _scorer(plugin: Plugin, images: Tensor, given: Mapping[str, object]) -> nulls.Score:
    """Scores by place: (places of reconstructions [D], places of truths [D]) -> float64 [D * k].

    Whatever can be made of an image alone is made once, however often it is compared.

    Args:
        images: all there are, [M, k, C, H, W].
    """
    needed = [given[role] for role in plugin.needs]
    compared = images
    if plugin.traits["takes"] == "embedding":
        compared = plugin.target(images.flatten(0, 1), *needed).unflatten(0, images.shape[:2])

    def score(found: Tensor, true: Tensor) -> Tensor:
        order = fitting(images[found], images[true])
        left, right = compared[found.unsqueeze(1), order].flatten(0, 1), compared[true].flatten(0, 1)
        if plugin.traits["takes"] == "embedding":
            return (left - right).square().sum(1).double()
        scores: Tensor = plugin.target(left, right, *needed)
        return scores.double()

    return score


def score_images(
    reconstruction: Tensor, truth: Tensor, others: Mapping[str, Tensor], given: Mapping[str, object] = NOTHING
) -> JSONObject:
    """Every metric that compares images, with its nulls. Images [D, k, C, H, W] in [0, 1].

    Args:
        others: nulls by name, images like these; one with fewer deletions is about the first of them.
        given: what metrics need besides images, by role. A metric that lacks something, or is not defined for
            images of this size or number of channels, is left out.
    """
    parts: JSONObject = {}
    sets = [truth, reconstruction, *others.values()]
    images = torch.cat(sets)
    true, found, *rest = torch.arange(len(images)).split([len(each) for each in sets])
    for plugin in registry:
        if not applies(plugin, truth.shape[2:], given):
            continue
        score = _scorer(plugin, images, given)
        scores = {name: score(at, true[: len(at)]).tolist() for name, at in zip(others, rest, strict=True)}
        few = {name: scores.pop(name) for name, images_of in others.items() if len(images_of) < len(truth)}
        permuted = nulls.permuted_truth(score, found, true)
        if permuted is not None:
            scores["permuted_truth"] = permuted.tolist()
        parts[plugin.name] = summary(plugin, score(found, true).tolist(), scores, False, few, truth.shape[1])
    return parts


def score_labels(answers: Tensor, truth: Tensor, num_classes: int, public: Tensor) -> JSONObject:
    """Every label metric, with its nulls. Both int64 [D, k].

    Args:
        public: labels of public samples, int64 [N]. Where one class is commoner there, always to name it is a null.
    """
    commonest = public.mode().values
    uneven = len(public.unique(return_counts=True)[1].unique()) > 1
    parts: JSONObject = {}
    for plugin in registry:
        if plugin.traits.get("takes") != "label":
            continue
        values = plugin.target(answers, truth)
        by_null = {"uniform_guess": [min(1.0, truth.shape[1] / num_classes)] * len(values)}
        if uneven:
            by_null["majority_guess"] = plugin.target(commonest.expand_as(truth), truth).tolist()
        others = nulls.permuted_truth(plugin.target, answers, truth)
        if others is not None:
            by_null["permuted_truth"] = others.tolist()
        parts[plugin.name] = summary(plugin, values.tolist(), by_null, proportion=True)
    return parts


def score_claims(p: Tensor, answers: Tensor, truth: Tensor, alpha: float) -> JSONObject:
    """Which deletions a label attack answers at `alpha`, and how often it is wrong: all [D, c].

    A class is claimed where p <= alpha, and a deletion without a claim has no answer. Answered deletions are right
    where every class claimed was forgotten. `wrong` is among all deletions: that is what alpha bounds.
    """
    claimed = p <= alpha
    true = (answers.unsqueeze(2) == truth.unsqueeze(1)).any(2)
    answered, wrong = claimed.any(1), (claimed & ~true).any(1)
    n, said, bad = len(p), int(answered.sum()), int(wrong.sum())
    low, high = wilson(bad, n) or (None, None)
    right_low, right_high = wilson(said - bad, said) or (None, None)
    return {
        "alpha": alpha,
        "p_values": p.tolist(),
        "n": n,
        "answered": said,
        "right": said - bad,
        "wrong": bad,
        "wrong_low": low,
        "wrong_high": high,
        "right_low": right_low,
        "right_high": right_high,
    }


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
