"""ResNet-18 with the stem of small images."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from shared.ml.models import registry
from shared.ml.models._residual import build_residual
from shared.plugins import Params


class ResNet18Params(Params):
    width: int = Field(
        64, ge=1, le=256, description="channels of the first convolution (paper: 64)"
    )


@registry.register(
    "resnet18",
    params=ResNet18Params,
    source="He et al. 2016, arXiv 1512.03385, table 1",
    min_size=2,
)
def build(input_shape: tuple[int, int, int], num_classes: int, params: ResNet18Params) -> nn.Module:
    """Eight basic blocks of w, 2w, 4w and 8w channels, after one 3x3 convolution instead of 7x7 and
    pool.

    Shortcuts between widths are 1x1 convolutions (option B), as usual for this network.
    Images [N, C, H, W] -> logits [N, num_classes].
    """
    widths = [factor * params.width for factor in (1, 2, 4, 8)]
    return build_residual(input_shape[0], num_classes, widths, blocks=2, shortcut="convolve")
