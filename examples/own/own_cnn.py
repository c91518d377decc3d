"""An architecture of your own, as Palimpsest takes it: a function that builds the network."""

from __future__ import annotations

from torch import nn

from shared.ml.models.api import Params, register


@register("own_cnn", params=Params, min_size=4)
def build(input_shape: tuple[int, int, int], num_classes: int, _params: Params) -> nn.Module:
    """Two convolutions and a linear layer."""
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2, padding=2), nn.SiLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten(),
        nn.Linear(32 * ((height + 3) // 4) * ((width + 3) // 4), num_classes),
    )  # fmt: skip
