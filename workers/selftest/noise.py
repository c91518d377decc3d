"""The more noise is released with the weights, the less of the image comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from shared.ml import defenses, metrics
from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import LocalContext, SeededSubContext
from workers.selftest._case import Case
from workers.selftest._world import architecture, observe, pretrained, recover, samples, stack

DELETIONS, STEPS = 6, 80
NOISE = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def _correlation() -> float:
    """Spearman's, of the noise and the mean PSNR at six strengths."""
    made, data = architecture("mlp", hidden=16), samples("training set", 16)
    seen = observe(made, pretrained(made), data, "gradient_ascent", DELETIONS)
    psnr: Any = metrics.registry.get("psnr").target
    leaked = [
        psnr(
            recover(_released(seen, noise), STEPS).images[:, 0].clamp(0, 1), data.images[:DELETIONS]
        ).mean()
        for noise in NOISE
    ]
    return _spearman(torch.tensor(NOISE), torch.stack(leaked))


def _released(seen: WhiteBoxView, noise: float) -> WhiteBoxView:
    if not noise:
        return seen
    plugin, ctx, made = (
        defenses.registry.get("obfuscation"),
        LocalContext(),
        seen.unlearned.architecture,
    )
    params, retain = plugin.params.model_validate({"noise": noise}), samples("training set", 16)
    blurred = [
        plugin.target(
            seen.unlearned.load_network(i), retain, params, SeededSubContext(ctx, i, DELETIONS)
        )
        for i in range(DELETIONS)
    ]
    return replace(seen, unlearned=stack(made, blurred))


def _spearman(a: Tensor, b: Tensor) -> float:
    """Without ties, of which there are none here."""
    ranks = torch.stack([x.argsort().argsort().double() for x in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


CASES = (
    Case(
        "noise",
        "the more noise on the released weights, the less comes back",
        _correlation,
        low=None,
        high=-0.9,
        unit="Spearman",
    ),
)
