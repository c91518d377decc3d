"""The more noise on the released weights, the less is reconstructed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from shared.ml import defenses, metrics
from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import LocalContext, SeededSubContext
from workers.selftest._case import Case
from workers.selftest._world import (
    draw_samples,
    make_architecture,
    observe,
    pretrain,
    recover,
    stack,
)

DELETIONS, STEPS = 6, 80
NOISE = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def _measure_correlation() -> float:
    """Spearman correlation of the noise and the mean PSNR at six strengths."""
    architecture, data = make_architecture("mlp", hidden=16), draw_samples("training set", 16)
    view = observe(architecture, pretrain(architecture), data, "gradient_ascent", DELETIONS)
    psnr: Any = metrics.registry.get("psnr").target
    leaked = [
        psnr(
            recover(_release(view, noise), STEPS).images[:, 0].clamp(0, 1), data.images[:DELETIONS]
        ).mean()
        for noise in NOISE
    ]
    return _compute_spearman(torch.tensor(NOISE), torch.stack(leaked))


def _release(view: WhiteBoxView, noise: float) -> WhiteBoxView:
    if not noise:
        return view
    plugin, ctx, architecture = (
        defenses.registry.get("obfuscation"),
        LocalContext(),
        view.unlearned.architecture,
    )
    params, retain = (
        plugin.params.model_validate({"noise": noise}),
        draw_samples("training set", 16),
    )
    blurred = [
        plugin.target(
            view.unlearned.load_network(i), retain, params, SeededSubContext(ctx, i, DELETIONS)
        )
        for i in range(DELETIONS)
    ]
    return replace(view, unlearned=stack(architecture, blurred))


def _compute_spearman(a: Tensor, b: Tensor) -> float:
    """Spearman correlation of values without ties."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


CASES = (
    Case(
        "noise",
        "the more noise on the released weights, the less is reconstructed",
        _measure_correlation,
        low=None,
        high=-0.9,
        unit="Spearman",
    ),
)
