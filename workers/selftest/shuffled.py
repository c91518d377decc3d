"""Reconstructions leak their own deletion's sample, and nothing about another's."""

from __future__ import annotations

from shared.evaluation import Evaluation
from workers.selftest._case import Case
from workers.selftest._world import (
    CLASSES,
    decide_reconstruction,
    draw_samples,
    make_architecture,
    observe,
    pretrain,
    recover,
)

DELETIONS, STEPS = 8, 150


def _score_shifted(shift: int) -> Evaluation:
    """Score each reconstruction against the truth of the deletion `shift` positions later."""
    architecture, data = make_architecture("mlp", hidden=16), draw_samples("training set", 16)
    view = observe(architecture, pretrain(architecture), data, "gradient_ascent", DELETIONS)
    images = recover(view, STEPS).images.clamp(0, 1).roll(shift, 0)
    return decide_reconstruction(
        images, data.pick(list(range(DELETIONS))), draw_samples("public", 400)
    )[1]


def _count_identified() -> float:
    ranks = _score_shifted(0).reported_identification
    assert ranks is not None
    return float(ranks.rank_1)


def _measure_shuffled_gain() -> float:
    """Gain in dB over the strongest baseline. The other sample is of the same class, which is all
    the baseline knows."""
    gain = _score_shifted(CLASSES).metrics["psnr"].gain
    assert gain is not None
    return gain.mean


CASES = (
    Case(
        "true_pairs",
        "most of the 8 images forgotten by gradient ascent are identified among decoys",
        _count_identified,
        low=6,
        high=8,
        unit="of 8",
    ),
    Case(
        "shuffled_truth",
        "compared with other deletions' images, reconstructions score no better than the baseline",
        _measure_shuffled_gain,
        low=None,
        high=0,
        unit="dB",
    ),
)
