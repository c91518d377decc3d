"""A file of LPIPS weights: of the right shapes, and random. The real ones are the user's to
bring."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from shared.ml.context import make_generator
from shared.ml.metrics.lpips import CHANNELS, HEADS

FILE = "lpips.safetensors"


def make_random_weights() -> dict[str, Tensor]:
    """Convolutions scaled as for ReLU, so that activations neither die nor grow; heads not
    negative."""
    from torchvision.models import alexnet  # here: it takes a second

    source = make_generator(0, "lpips")
    with torch.device("meta"):
        names = {
            name: t.shape
            for name, t in alexnet(weights=None).state_dict().items()
            if name.startswith("features")
        }
    weights = {}
    for name, shape in names.items():
        spread = (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.05
        weights[name] = spread * torch.randn(shape, generator=source)
    return weights | {
        name: torch.rand(1, channels, 1, 1, generator=source)
        for name, channels in zip(HEADS, CHANNELS, strict=True)
    }


def write_weights(folder: Path, name: str = FILE) -> dict[str, Tensor]:
    """Write them into a data root; returns what was written."""
    weights = make_random_weights()
    save_file(weights, folder / name)
    return weights
