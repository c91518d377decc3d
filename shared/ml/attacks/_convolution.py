"""A convolution with fixed weights, twice differentiable in its input, and its part in gradient matching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from shared.ml.attacks._layers import Call, Layer, Tensors, by_lane


class Convolution(Layer):
    """nn.Conv2d padded with zeros. Weights that differ between lanes make one convolution of L times the groups."""

    def __init__(self, of: nn.Conv2d, name: str, tape: list[Call]) -> None:
        super().__init__(of, name, tape)
        self.how: dict[str, Any] = {"stride": of.stride, "padding": of.padding, "dilation": of.dilation}
        self.groups = of.groups

    def output(self, x: Tensor) -> Tensor:
        y: Tensor = _Map.apply(x, self.weights["weight"], self.weights.get("bias"), {**self.how, "groups": self.groups})
        return y

    def gradients(self, x: Tensor, delta: Tensor, lanes: int) -> Tensors:
        out, *rest = self.weights["weight"].shape
        wide = (lanes * out, *rest)
        weight = conv2d_weight(_wide(x, lanes), wide, _wide(delta, lanes), **self.how, groups=lanes * self.groups)
        bias = by_lane(delta.sum((2, 3)), lanes).sum(1)
        return {"weight": weight.view(lanes, out, *rest), "bias": bias}

    def along(self, x: Tensor, change: Tensors, lanes: int) -> Tensor:
        bias = change["bias"].flatten() if "bias" in change else None
        y = conv2d(_wide(x, lanes), change["weight"].flatten(0, 1), bias, **self.how, groups=lanes * self.groups)
        return y.unflatten(1, (lanes, -1)).transpose(0, 1).flatten(0, 1)


def _wide(x: Tensor, lanes: int) -> Tensor:
    """[L * k, C, H, W] -> [k, L * C, H, W]: a view for k = 1, where it matters."""
    return by_lane(x, lanes).transpose(0, 1).flatten(1, 2)


class _Map(torch.autograd.Function):
    """conv2d of x. Torch's own second derivative also computes the one in the weight, an eighth of a step's work."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: dict[str, Any]) -> Tensor:
        ctx.weight, ctx.how, ctx.shape = weight, how, x.shape
        return conv2d(x, weight, bias, **how)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None, None]:
        return _Transpose.apply(above[0], ctx.weight, ctx.shape, ctx.how), None, None, None


class _Transpose(torch.autograd.Function):
    """The transpose of that linear map; the transpose of the transpose is the map, without the bias."""

    @staticmethod
    def forward(ctx: Any, above: Tensor, weight: Tensor, shape: torch.Size, how: dict[str, Any]) -> Tensor:
        ctx.weight, ctx.how = weight, how
        return conv2d_input(shape, weight, above, **how)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None, None]:
        return conv2d(above[0], ctx.weight, None, **ctx.how), None, None, None
