"""LeNet-5."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from shared.ml.models import registry
from shared.plugins import Params

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class LeNetParams(Params):
    width: int = Field(6, ge=1, le=256, description="channels of the first convolution (LeCun: 6)")
    activation: Literal["tanh", "relu", "sigmoid"] = Field(
        "tanh", description="activation after every layer except the last"
    )


@registry.register(
    "lenet",
    params=LeNetParams,
    source="LeCun et al. 1998, Gradient-based learning, figure 2",
    min_size=12,
)
def build(input_shape: tuple[int, int, int], num_classes: int, params: LeNetParams) -> nn.Module:
    """Two 5x5 convolutions, each with a mean pool of 2, then 120 and 84 units. No BatchNorm.

    As usual today: pools have no weights, channels are fully connected, and the outputs are logits,
    where LeCun et al. have a weight and a bias per pool, a table of connections, and distances to
    drawn digits. Images [N, C, H, W] with H, W >= 12 -> logits [N, num_classes].
    """
    channels, height, width = input_shape
    activation = ACTIVATIONS[params.activation]
    first, second = params.width, params.width * 16 // 6
    sides = [(side // 2 - 4) // 2 for side in (height, width)]  # the first convolution is padded
    return nn.Sequential(
        nn.Conv2d(channels, first, 5, padding=2), activation(), nn.AvgPool2d(2),
        nn.Conv2d(first, second, 5), activation(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(second * sides[0] * sides[1], 120), activation(),
        nn.Linear(120, 84), activation(), nn.Linear(84, num_classes),
    )  # fmt: skip
