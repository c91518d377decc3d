"""Was it forgotten? Nothing done is way 0 and flagged; retraining is way 1 and never flagged."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from shared.ml.context import Context, LocalContext, SeededSubContext, make_generator
from shared.ml.forgetting.three_sample import compare_three_samples
from shared.ml.forgetting.way import Way, measure_way
from shared.ml.loss import compute_loss
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from workers.selftest._case import Case
from workers.selftest._world import draw_samples, make_architecture, pretrain

DELETIONS, SEEDS, RETAINED = 6, 3, 10
RECIPE = Recipe(lr=0.1, epochs=10, batch_size=4)


@cache
def _train_all() -> tuple[Tensor, Tensor, Tensor]:
    """Logits on the deleted samples: of the original [D, 1, K], of 2 S retrained models
    [D, 2 S, 1, K]; and labels [D, 1]. Trained once for all cases."""
    base = pretrain(make_architecture("mlp", hidden=16), epochs=1)
    data = draw_samples("training set", DELETIONS + RETAINED)
    places = range(len(data.labels))
    original = _learn(base, data, SeededSubContext(LocalContext(), 0, 1))
    retrained = []
    for deletion in range(DELETIONS):
        kept = [place for place in places if place != deletion]
        own = data.pick(kept)
        part = SeededSubContext(LocalContext(), 1 + deletion, 1 + DELETIONS)
        models = [
            _learn(base, own, SeededSubContext(part, seed, 2 * SEEDS)) for seed in range(2 * SEEDS)
        ]
        retrained.append(torch.stack([_ask(m, data.images[deletion]) for m in models]))
    before = torch.stack([_ask(original, image) for image in data.images[:DELETIONS]])
    return before, torch.stack(retrained), data.labels[:DELETIONS].unsqueeze(1)


def _learn(base: nn.Module, samples: Samples, ctx: Context) -> nn.Module:
    network = clone(base)
    train(network, samples, RECIPE, ctx)
    return network


@torch.no_grad()
def _ask(network: nn.Module, image: Tensor) -> Tensor:
    logits: Tensor = network(image.unsqueeze(0)).double()
    return logits


def _measure_way(release: Tensor) -> Way:
    original, retrained, labels = _train_all()
    losses = [
        compute_loss(logits.flatten(0, -2), targets.flatten(), "none").view(targets.shape).mean(-1)
        for logits, targets in (
            (original, labels),
            (release, labels),
            (retrained[:, :SEEDS], labels.unsqueeze(1).expand(-1, SEEDS, -1)),
        )
    ]
    return measure_way(*losses)


def _is_flagged(release: Tensor, retrained: Tensor) -> bool:
    original, _, labels = _train_all()
    test = compare_three_samples(
        original, release, retrained, labels, make_generator(0, "three samples")
    )
    return test.not_forgotten is True


def _measure_way_of_nothing() -> float:
    value = _measure_way(_train_all()[0]).value
    return float("nan") if value is None else value


def _measure_way_of_retraining() -> float:
    """The distance of the way from 1, in half-widths of its interval."""
    way = _measure_way(_train_all()[1][:, SEEDS])
    if way.value is None or way.interval is None:
        return float("nan")
    low, high = way.interval
    return abs(way.value - 1) / ((high - low) / 2)


def _count_flagged_of_nothing() -> float:
    original, retrained, _ = _train_all()
    return float(_is_flagged(original, retrained[:, :SEEDS]))


def _count_flagged_of_retrained() -> float:
    """How many of the other seeds' models are flagged, each in the place of the release."""
    retrained = _train_all()[1]
    return float(
        sum(
            _is_flagged(retrained[:, seed], retrained[:, :SEEDS])
            for seed in range(SEEDS, 2 * SEEDS)
        )
    )


CASES = (
    Case(
        "nothing_done",
        "a release that is the original went no part of the way to retraining",
        _measure_way_of_nothing,
        low=0,
        high=0,
        unit="way",
    ),
    Case(
        "nothing_done_flagged",
        "the three-sample test says that such a release has not forgotten",
        _count_flagged_of_nothing,
        low=1,
        high=1,
        unit="releases",
    ),
    Case(
        "retrained",
        "a model that was retrained with another seed went the whole way, within its interval",
        _measure_way_of_retraining,
        low=None,
        high=1,
        unit="half-widths",
    ),
    Case(
        "retrained_flagged",
        "the three-sample test flags none of three models that were retrained with other seeds",
        _count_flagged_of_retrained,
        low=0,
        high=0,
        unit="releases",
    ),
)
