"""Reconstructions that leak leak their own deletion's sample, and say nothing of another's."""

from __future__ import annotations

from shared.evaluation import Evaluation
from workers.selftest._case import Case
from workers.selftest._world import (
    CLASSES,
    architecture,
    decide_reconstruction,
    observe,
    pretrained,
    recover,
    samples,
)

DELETIONS, STEPS = 8, 150


def _scored(turns: int) -> Evaluation:
    """Each reconstruction scored as if it were that of the deletion `turns` places on."""
    made, data = architecture("mlp", hidden=16), samples("training set", 16)
    seen = observe(made, pretrained(made), data, "gradient_ascent", DELETIONS)
    images = recover(seen, STEPS).images.clamp(0, 1).roll(turns, 0)
    return decide_reconstruction(images, data.pick(list(range(DELETIONS))), samples("public", 400))[
        1
    ]


def _identified() -> float:
    ranks = _scored(0).reported_identification
    assert ranks is not None
    return float(ranks.rank_1)


def _gain_of_shuffled() -> float:
    """In dB over the strongest null. The other sample is of the same class, which is all that the
    baseline knows."""
    gain = _scored(CLASSES).metrics["psnr"].gain
    assert gain is not None
    return gain.mean


CASES = (
    Case(
        "true_pairs",
        "of 8 images forgotten by gradient ascent most are identified among decoys",
        _identified,
        low=6,
        high=8,
        unit="of 8",
    ),
    Case(
        "shuffled_truth",
        "the same images against other deletions' truths score no better than the null",
        _gain_of_shuffled,
        low=None,
        high=0,
        unit="dB",
    ),
)
