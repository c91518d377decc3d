"""The ResNet of 44 layers for CIFAR."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from shared.ml.models import registry
from shared.ml.models._residual import build_residual
from shared.plugins import Params


class ResNet44Params(Params):
    width: int = Field(
        16, ge=1, le=256, description="channels of the first convolution (paper: 16)"
    )


@registry.register(
    "resnet44",
    params=ResNet44Params,
    source="He et al. 2016, arXiv 1512.03385, section 4.2",
    min_size=2,
)
def build(input_shape: tuple[int, int, int], num_classes: int, params: ResNet44Params) -> nn.Module:
    """Twenty-one basic blocks of w, 2w and 4w channels; shortcuts without weights (option A).

    Images [N, C, H, W] -> logits [N, num_classes].
    """
    widths = [factor * params.width for factor in (1, 2, 4)]
    return build_residual(input_shape[0], num_classes, widths, blocks=7, shortcut="pad")
