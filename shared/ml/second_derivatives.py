"""What second derivatives ask of a network: operations that have them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
    """A copy in eval mode that holds these weights themselves, with second derivatives."""
    network_copy = copy.deepcopy(network).eval()
    for name, weight in network_copy.named_parameters():
        weight.data = weights[name]
    return _replace_hardsigmoids(network_copy)


def _replace_hardsigmoids(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Hardsigmoid):
        return _Hardsigmoid()
    for name, child in list(module.named_children()):
        setattr(module, name, _replace_hardsigmoids(child))
    return module


class _Hardsigmoid(nn.Module):
    """nn.Hardsigmoid, whose derivative torch cannot differentiate. Not in place."""

    def forward(self, x: Tensor) -> Tensor:
        return relu6(x + 3) / 6
