"""VGG-11 with BatchNorm, for small images."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from shared.ml.models import registry
from shared.plugins import Params

# Multiples of the first width; None is a pool.
LAYERS = (1, None, 2, None, 4, 4, None, 8, 8, None, 8, 8, None)


class VGG11Params(Params):
    width: int = Field(64, ge=1, le=256, description="channels of the first convolution (VGG: 64)")


@registry.register(
    "vgg11_bn",
    params=VGG11Params,
    source="Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, A",
    min_size=2,
)
def build(input_shape: tuple[int, int, int], num_classes: int, params: VGG11Params) -> nn.Module:
    """Eight 3x3 convolutions with BatchNorm and ReLU, five max-pools of 2, one linear layer instead
    of three.

    The paper's network has neither BatchNorm nor so small a head: its three dense layers are for
    224 x 224 pixels. A pool that would leave nothing of a small image is left out. Images [N, C, H,
    W] -> logits [N, num_classes].
    """
    channels, *sides = input_shape
    layers: list[nn.Module] = []
    for factor in LAYERS:
        if factor is not None:
            out = factor * params.width
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        elif min(sides) >= 2:
            sides = [side // 2 for side in sides]
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], num_classes)
    )
