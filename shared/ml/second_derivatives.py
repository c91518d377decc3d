"""What second derivatives ask of a network: operations that have them, and that have useful ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import relu6


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Attention by torch's math kernel; a decorator too.

    The fused kernels, and the fast path of nn.MultiheadAttention, have no second derivative and no
    forward-mode one.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def copy_with_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy in eval mode that holds these weights themselves, with second derivatives.

    Its ReLU layers have a smoothed one once `set_smoothing` asks for that.
    """
    network_copy = copy.deepcopy(network).eval()
    for name, weight in network_copy.named_parameters():
        weight.data = weights[name]
    return _replace_activations(network_copy)


def set_smoothing(network: nn.Module, weight: float) -> None:
    """How much the smoothed second derivative of every ReLU layer counts from now on, in a network
    of `copy_with_weights`: 0 is torch's own, which is zero."""
    for layer in network.modules():
        if isinstance(layer, _ReLU):
            layer.smoothing = weight


def _replace_activations(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Hardsigmoid):
        return _Hardsigmoid()
    if isinstance(module, nn.ReLU):
        return _ReLU()
    for name, child in list(module.named_children()):
        setattr(module, name, _replace_activations(child))
    return module


class _Hardsigmoid(nn.Module):
    """nn.Hardsigmoid, whose derivative torch cannot differentiate. Not in place."""

    def forward(self, x: Tensor) -> Tensor:
        return relu6(x + 3) / 6


class _ReLU(nn.Module):
    """nn.ReLU, not in place. Its derivative is a step, whose own derivative is zero: how a gradient
    depends on which units are active, a search cannot see. `smoothing` times a triangle around the
    step takes its place, as in training spiking networks (surrogate gradients, Neftci et al. 2019,
    arXiv 1901.09948); outputs and first derivatives stay exact."""

    def __init__(self) -> None:
        super().__init__()
        self.smoothing = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.smoothing:
            return x.relu()
        y: Tensor = _SmoothedReLU.apply(x, self.smoothing)
        return y


class _SmoothedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, smoothing: float) -> Tensor:
        ctx.smoothing = smoothing
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return _SmoothedStep.apply(x, grad_outputs[0], ctx.smoothing), None


class _SmoothedStep(torch.autograd.Function):
    """The gradient where x > 0, and 0 elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, smoothing: float) -> Tensor:
        ctx.smoothing = smoothing
        ctx.save_for_backward(x, gradient)
        return gradient * (x > 0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gradient = ctx.saved_tensors
        (grad_output,) = grad_outputs
        # by image, so that those that share a pass stay independent
        width = torch.linalg.vector_norm(x.flatten(1), dim=1) / x[0].numel() ** 0.5
        width = width.clamp_min(torch.finfo(x.dtype).tiny ** 0.25).view(-1, *[1] * (x.dim() - 1))
        triangle = torch.sub(width, x.abs()).clamp_min_(0).mul_(ctx.smoothing / width**2)
        return triangle.mul_(gradient).mul_(grad_output), grad_output * (x > 0), None
