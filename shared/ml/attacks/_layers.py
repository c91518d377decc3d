"""Layers with weights, for gradient matching: the weights are fixed, trials share one batch.

A trial is k images whose loss has its own weight gradient; L trials form one batch [L * k, ...].
Weight gradients and weight changes differ between trials: [L, *shape of the weight].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: its input, and the graph edge of its output's derivative."""

    layer: TracedLayer
    x: Tensor
    input_version: int
    output: GradientEdge


class TracedLayer(nn.Module):
    """Replaces `module` and records its calls on `tape`. This class works for every kind of module
    that takes one tensor and returns one.

    Subclasses do the same for one kind, for all trials together.
    """

    def __init__(self, module: nn.Module, name: str, tape: list[LayerCall]) -> None:
        super().__init__()
        self.tape = tape
        self.wrapped = [module]  # in a list, so that it is no submodule
        self.weights = {n: w.detach() for n, w in module.named_parameters()}
        self.names = {n: f"{name}.{n}" if name else n for n in self.weights}

    def forward(self, x: Tensor) -> Tensor:
        y = self.compute_output(x)
        # An edge, as y itself may later be changed in place (ReLU, residuals).
        self.tape.append(LayerCall(self, x, x._version, get_gradient_edge(y)))
        return y

    def compute_output(self, x: Tensor) -> Tensor:
        """The module's output."""
        y: Tensor = self.wrapped[0](x)
        return y

    def compute_gradients(self, x: Tensor, delta: Tensor, trials: int) -> Tensors:
        """Per trial the gradient in the weights, given the gradient `delta` in the output; with a
        graph where gradients are enabled.

        Trial by trial: what torch.func makes of a pass over all of them (vmap of vjp, or of jvp)
        has wrong derivatives for nn.LayerNorm and nn.InstanceNorm2d.
        """
        with_graph = torch.is_grad_enabled()
        weights = {n: w.detach().requires_grad_() for n, w in self.weights.items()}
        rows = []
        with torch.enable_grad():
            for inputs, gradient in zip(
                split_trials(x if with_graph else x.detach(), trials),
                split_trials(delta, trials),
                strict=True,
            ):
                y = functional_call(self.wrapped[0], weights, (inputs,))
                rows.append(
                    torch.autograd.grad(
                        y,
                        list(weights.values()),
                        gradient,
                        create_graph=with_graph,
                        materialize_grads=True,
                    )
                )
        return {
            n: torch.stack(alike) for n, alike in zip(weights, zip(*rows, strict=True), strict=True)
        }

    def compute_jvp(self, x: Tensor, change: Tensors, trials: int) -> Tensor | None:  # noqa: ARG002
        """The derivative of the output as each trial's weights move along `change`; None where
        `compute_gradients` has to be differentiated instead."""
        return None


class TracedLinear(TracedLayer):
    """nn.Linear on [N, ..., in]."""

    def compute_gradients(self, x: Tensor, delta: Tensor, trials: int) -> Tensors:
        x, delta = x.reshape(trials, -1, x.shape[-1]), delta.reshape(trials, -1, delta.shape[-1])
        return {"weight": delta.mT @ x, "bias": delta.sum(1)}

    def compute_jvp(self, x: Tensor, change: Tensors, trials: int) -> Tensor:
        y = x.reshape(trials, -1, x.shape[-1]) @ change["weight"].mT
        if "bias" in change:
            y = y + change["bias"].unsqueeze(1)
        return y.view(*x.shape[:-1], -1)


class TracedBatchNorm(TracedLayer):
    """nn.BatchNorm2d in eval mode: (x - mean) * precision * weight + bias, mean and precision
    constant.

    One multiplication and one addition, whose second derivatives are cheap; torch's own are slow.
    """

    def __init__(self, module: nn.BatchNorm2d, name: str, tape: list[LayerCall]) -> None:
        super().__init__(module, name, tape)
        mean, variance = module.running_mean, module.running_var
        assert mean is not None
        assert variance is not None
        self.mean, self.precision = mean, (variance + module.eps).rsqrt()
        self.scale = (self.weights["weight"] * self.precision).view(-1, 1, 1)
        self.shift = self.weights["bias"].view(-1, 1, 1) - mean.view(-1, 1, 1) * self.scale

    def compute_output(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def compute_gradients(self, x: Tensor, delta: Tensor, trials: int) -> Tensors:
        bias = split_trials(delta.sum((2, 3)), trials).sum(1)
        product = split_trials((delta * x).sum((2, 3)), trials).sum(1)
        return {"weight": (product - self.mean * bias) * self.precision, "bias": bias}

    def compute_jvp(self, x: Tensor, change: Tensors, trials: int) -> Tensor:
        scale = change["weight"] * self.precision
        shift = change["bias"] - self.mean * scale
        broadcast_shape = (trials, 1, -1, 1, 1)
        return (
            split_trials(x, trials) * scale.view(broadcast_shape) + shift.view(broadcast_shape)
        ).flatten(0, 1)


def split_trials(x: Tensor, trials: int) -> Tensor:
    """[L * k, ...] -> [L, k, ...]."""
    return x.unflatten(0, (trials, -1))
