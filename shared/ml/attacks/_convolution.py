"""A convolution with fixed weights, twice differentiable in its input, for gradient matching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from shared.ml.attacks._layers import LayerCall, Tensors, TracedLayer, split_trials


class TracedConv2d(TracedLayer):
    """nn.Conv2d with zero padding. Weights that differ between trials become one convolution of L
    times the groups."""

    def __init__(self, module: nn.Conv2d, name: str, tape: list[LayerCall]) -> None:
        super().__init__(module, name, tape)
        self.conv_args: dict[str, Any] = {
            "stride": module.stride,
            "padding": module.padding,
            "dilation": module.dilation,
        }
        self.groups = module.groups

    def compute_output(self, x: Tensor) -> Tensor:
        y: Tensor = _FixedConv2d.apply(
            x,
            self.weights["weight"],
            self.weights.get("bias"),
            {**self.conv_args, "groups": self.groups},
        )
        return y

    def compute_gradients(self, x: Tensor, delta: Tensor, trials: int) -> Tensors:
        out_channels, *rest = self.weights["weight"].shape
        grouped_shape = (trials * out_channels, *rest)
        weight = conv2d_weight(
            _fold_into_channels(x, trials),
            grouped_shape,
            _fold_into_channels(delta, trials),
            **self.conv_args,
            groups=trials * self.groups,
        )
        bias = split_trials(delta.sum((2, 3)), trials).sum(1)
        return {"weight": weight.view(trials, out_channels, *rest), "bias": bias}

    def compute_jvp(self, x: Tensor, change: Tensors, trials: int) -> Tensor:
        bias = change["bias"].flatten() if "bias" in change else None
        y = conv2d(
            _fold_into_channels(x, trials),
            change["weight"].flatten(0, 1),
            bias,
            **self.conv_args,
            groups=trials * self.groups,
        )
        return y.unflatten(1, (trials, -1)).transpose(0, 1).flatten(0, 1)


def _fold_into_channels(x: Tensor, trials: int) -> Tensor:
    """[L * k, C, H, W] -> [k, L * C, H, W]: a view for k = 1, where it matters."""
    return split_trials(x, trials).transpose(0, 1).flatten(1, 2)


class _FixedConv2d(torch.autograd.Function):
    """conv2d of x. Torch's own second derivative also computes that in the weight, an eighth of a
    step's work."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv_args: dict[str, Any]
    ) -> Tensor:
        ctx.weight, ctx.how, ctx.shape = weight, conv_args, x.shape
        return conv2d(x, weight, bias, **conv_args)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        return (
            _FixedConv2dTranspose.apply(grad_outputs[0], ctx.weight, ctx.shape, ctx.how),
            None,
            None,
            None,
        )


class _FixedConv2dTranspose(torch.autograd.Function):
    """The transpose of that linear map; the transpose of the transpose is the map, without the
    bias."""

    @staticmethod
    def forward(
        ctx: Any, grad_output: Tensor, weight: Tensor, shape: torch.Size, conv_args: dict[str, Any]
    ) -> Tensor:
        ctx.weight, ctx.how = weight, conv_args
        return conv2d_input(shape, weight, grad_output, **conv_args)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        return conv2d(grad_outputs[0], ctx.weight, None, **ctx.how), None, None, None
