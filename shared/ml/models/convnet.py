"""The convolutional network that the paper attacks, without its second block."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from shared.ml.models import registry
from shared.plugins import Params


class ConvNetParams(Params):
    width: int = Field(
        16, ge=1, le=128, description="channels of the first convolution (paper: 64)"
    )
    pooling: Literal["early", "late"] = Field(
        "early",
        description=(
            "first pool after three convolutions (early, four times quicker) or after six (late)"
        ),
    )


@registry.register(
    "convnet",
    params=ConvNetParams,
    source="Hu et al. 2024, arXiv 2404.03233, appendix",
    min_size=9,
)
def build(input_shape: tuple[int, int, int], num_classes: int, params: ConvNetParams) -> nn.Module:
    """Six 3x3 convolutions with BatchNorm and ReLU, two max-pools of 3, and one linear layer.

    The paper's network is (w, 2w, 2w, 4w, 4w, 4w), pool, (4w, 4w), pool, linear. Ours, for images
    of about 30 x 30 pixels, leaves out the two convolutions of the second block (`late`), and by
    default also moves the first pool between 2w and 4w (`early`): then the wide convolutions see a
    ninth of the pixels. Images [N, C, H, W] with H, W >= 9 -> logits [N, num_classes].
    """
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for place, factor in enumerate((1, 2, 2, 4, 4, 4), start=1):
        out = factor * params.width
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
        if place == (3 if params.pooling == "early" else 6):
            layers.append(nn.MaxPool2d(3))
    layers += [nn.MaxPool2d(3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels * (height // 9) * (width // 9), num_classes))
