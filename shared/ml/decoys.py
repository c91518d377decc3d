"""Decoys: images that an attacker without information would take for the truth as readily.

The truth is a random sample of the pool. Samples of the pool that were never trained on are
exchangeable with it by construction, so they come first. The test split may have been drawn
otherwise: it fills up only if a linear rule cannot tell it from the train split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from shared.ml.context import JobInputs
from shared.ml.ranks import midranks
from shared.ml.records import PublicSets
from shared.ml.samples import Samples
from shared.ml.scored_kind import GroundTruth
from shared.roles import Role

MAX_COMPARED = 1000  # samples of each split
MAX_SIDE = 32  # larger images are averaged down before splits are compared
Z = 2.58  # splits that are drawn alike are found to differ in one of 200 data sets


@dataclass(frozen=True)
class DecoySource:
    """Samples that decoys are drawn from: those of `never_trained` first.

    `test` is empty if `split_auc` is above its limit; both are None if the splits are too small to
    compare.
    """

    never_trained: Samples
    test: Samples
    split_auc: float | None = None
    split_auc_limit: float | None = None


def gather_decoys(ctx: JobInputs, truth: GroundTruth, observed: set[str]) -> DecoySource:
    """What this job's decoys are drawn from.

    Args:
        observed: roles that the attacker was given: who knows PUBLIC can tell it from the truth.

    Raises:
        InvalidRequest: PUBLIC is not a record, or its data set has changed.
    """
    never_trained = truth.public.pick([])
    if Role.PUBLIC in ctx.inputs and Role.PUBLIC not in observed:
        record = PublicSets.read(ctx.read_input(Role.PUBLIC), Role.PUBLIC)
        if record.sets:
            sets = record.load_samples()
            never_trained = Samples(
                torch.cat([one.images for one in sets]), torch.cat([one.labels for one in sets])
            )
    auc, limit = compare_splits(
        truth.dataset.load("train"), truth.public, ctx.make_generator("splits")
    )
    is_alike = auc is None or limit is None or auc <= limit
    return DecoySource(
        never_trained, truth.public if is_alike else truth.public.pick([]), auc, limit
    )


def compare_splits(
    train: Samples, test: Samples, generator: torch.Generator
) -> tuple[float | None, float | None]:
    """How well a linear rule tells one split from the other, and what it may reach by chance.

    The rule is the difference of the means of pixels and their squares over their variances, within
    classes. It is fitted on one half of the samples and applied to the other, and the other way
    round, so that its AUC is 0.5 on average if the splits are drawn alike.

    Returns:
        AUC in [0, 1], and its limit; None twice for fewer than 8 samples of a common class.
    """
    drawn = [_prepare(split, generator) for split in (train, test)]
    common = {*drawn[0][1].tolist()} & {*drawn[1][1].tolist()}
    features, is_train = [], []
    for label in sorted(common):
        own = [x[labels == label] for x, labels in drawn]
        middle = (own[0].mean(0) + own[1].mean(0)) / 2
        features += [x - middle for x in own]
        is_train += [torch.full((len(x),), i == 0) for i, x in enumerate(own)]
    if not features:
        return None, None
    x, first = torch.cat(features), torch.cat(is_train)
    counts = int(first.sum()), int((~first).sum())
    if min(counts) < 8:
        return None, None
    half = torch.zeros(len(x), dtype=torch.bool)
    for group in (first, ~first):
        places = group.nonzero().flatten()
        half[places[torch.randperm(len(places), generator=generator)][::2]] = True
    aucs = []
    for fitted in (half, ~half):
        a, b = x[fitted & first], x[fitted & ~first]
        rule = (a.mean(0) - b.mean(0)) / (a.var(0) + b.var(0) + 1e-6)
        scores, is_first = x[~fitted] @ rule, first[~fitted]
        m, n = int(is_first.sum()), int((~is_first).sum())
        above = midranks(scores)[is_first].sum().item() - m * (m + 1) / 2
        aucs.append(above / (m * n))
    spread = math.sqrt((sum(counts) + 1) / (12 * counts[0] * counts[1]))
    return sum(aucs) / 2, 0.5 + Z * spread


def _prepare(split: Samples, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random samples of a split: pixels and their squares [n, 2 F], and labels."""
    order = torch.randperm(len(split.labels), generator=generator)[:MAX_COMPARED]
    images, labels = split.pick(order)
    if max(images.shape[2:]) > MAX_SIDE:
        height, width = (min(MAX_SIDE, side) for side in images.shape[2:])
        images = adaptive_avg_pool2d(images, (height, width))
    pixels = images.flatten(1)
    return torch.cat([pixels, pixels.square()], 1), labels


def draw_decoys(
    source: DecoySource, truth: Tensor, labels: Tensor, most: int, generator: torch.Generator
) -> list[Tensor]:
    """The decoys of the k samples of one deletion.

    Each has at most `most` of its class, none equal to a forgotten sample. Samples of one class
    share them out, so that their ranks are independent: they are compared with the same
    reconstructions.

    Args:
        truth: [k, C, H, W], with `labels` int64 [k].

    Returns:
        k tensors [d, C, H, W], d from 0 to `most`.
    """
    decoys: list[Tensor] = [truth[:0]] * len(labels)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten().tolist()
        own = truth[members]
        drawn, left = [], most * len(members)
        for samples in (source.never_trained, source.test):
            places = (samples.labels == label).nonzero().flatten()
            # a few more than needed: some may be equal to the truth
            picked = places[torch.randperm(len(places), generator=generator)[: left + len(members)]]
            images = samples.images[picked]
            differs = torch.ones(len(images), dtype=torch.bool)
            for one in own:
                differs &= (images != one).flatten(1).any(1)
            drawn.append(images[differs][:left])
            left -= len(drawn[-1])
        images = torch.cat(drawn)
        for place, member in enumerate(members):
            decoys[member] = images[place :: len(members)]
    return decoys
