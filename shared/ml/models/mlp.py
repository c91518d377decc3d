"""A small dense network: quick, and the simplest thing that leaks."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from shared.ml.models import registry
from shared.plugins import Params


class MLPParams(Params):
    hidden: int = Field(128, ge=1, le=4096, description="units of each hidden layer")
    depth: int = Field(
        1, ge=0, le=8, description="number of hidden layers; 0 is logistic regression"
    )


@registry.register("mlp", params=MLPParams)
def build(input_shape: tuple[int, int, int], num_classes: int, params: MLPParams) -> nn.Module:
    """Dense layers with ReLU on the flattened image, or on a row of a table.

    [N, C, H, W] -> logits [N, num_classes].
    """
    channels, height, width = input_shape
    size = channels * height * width
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(params.depth):
        layers += [nn.Linear(size, params.hidden), nn.ReLU()]
        size = params.hidden
    return nn.Sequential(*layers, nn.Linear(size, num_classes))
