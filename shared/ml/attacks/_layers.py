"""Layers with weights as gradient matching sees them: the weights are fixed, lanes share one batch.

A lane is k images whose loss has a weight gradient of its own; L lanes travel as one batch [L * k, ...].
What differs between lanes are weight gradients and weight changes, [L, *shape of the weight].
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, jvp, vjp, vmap

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Call:
    """One use of a layer: its input, and where the derivative in its output can be asked for."""

    layer: Layer
    x: Tensor
    version: int
    output: GradientEdge


class Layer(nn.Module):
    """Stands in for the module `of` and notes its calls on `tape`. This class suits every kind of module.

    Subclasses are the same for one kind, without what the transforms of torch.func cost.
    """

    def __init__(self, of: nn.Module, name: str, tape: list[Call]) -> None:
        super().__init__()
        self.tape = tape
        self.held = [of]  # in a list: not a part of this module
        self.weights = {n: w.detach() for n, w in of.named_parameters()}
        self.names = {n: f"{name}.{n}" if name else n for n in self.weights}

    def forward(self, x: Tensor) -> Tensor:
        y = self.output(x)
        # An edge, as y itself may be changed in place further on (ReLU, residuals).
        self.tape.append(Call(self, x, x._version, get_gradient_edge(y)))
        return y

    def output(self, x: Tensor) -> Tensor:
        """What the module gives."""
        y: Tensor = self.held[0](x)
        return y

    def gradients(self, x: Tensor, delta: Tensor, lanes: int) -> Tensors:
        """Per lane the gradient in the weights, given the gradient `delta` in the output."""

        def one(x: Tensor, delta: Tensor) -> Tensors:
            pull = vjp(lambda w: functional_call(self.held[0], w, (x,)), self.weights)[1]
            found: Tensors = pull(delta)[0]
            return found

        return vmap(one)(by_lane(x, lanes), by_lane(delta, lanes))

    def along(self, x: Tensor, change: Tensors, lanes: int) -> Tensor:
        """The derivative of the output as each lane's weights move along `change`."""

        def one(x: Tensor, change: Tensors) -> Tensor:
            return jvp(lambda w: functional_call(self.held[0], w, (x,)), (self.weights,), (change,))[1]

        return vmap(one)(by_lane(x, lanes), change).flatten(0, 1)


class Dense(Layer):
    """nn.Linear on [N, ..., in]."""

    def gradients(self, x: Tensor, delta: Tensor, lanes: int) -> Tensors:
        x, delta = x.reshape(lanes, -1, x.shape[-1]), delta.reshape(lanes, -1, delta.shape[-1])
        return {"weight": delta.mT @ x, "bias": delta.sum(1)}

    def along(self, x: Tensor, change: Tensors, lanes: int) -> Tensor:
        y = x.reshape(lanes, -1, x.shape[-1]) @ change["weight"].mT
        if "bias" in change:
            y = y + change["bias"].unsqueeze(1)
        return y.view(*x.shape[:-1], -1)


class Norm(Layer):
    """nn.BatchNorm2d in eval mode: (x - mean) * precision * weight + bias, mean and precision constant.

    One multiplication and one addition, whose second derivatives are as cheap; torch's own are slow.
    """

    def __init__(self, of: nn.BatchNorm2d, name: str, tape: list[Call]) -> None:
        super().__init__(of, name, tape)
        mean, variance = of.running_mean, of.running_var
        assert mean is not None
        assert variance is not None
        self.mean, self.precision = mean, (variance + of.eps).rsqrt()
        self.scale = (self.weights["weight"] * self.precision).view(-1, 1, 1)
        self.shift = self.weights["bias"].view(-1, 1, 1) - mean.view(-1, 1, 1) * self.scale

    def output(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def gradients(self, x: Tensor, delta: Tensor, lanes: int) -> Tensors:
        bias = by_lane(delta.sum((2, 3)), lanes).sum(1)
        product = by_lane((delta * x).sum((2, 3)), lanes).sum(1)
        return {"weight": (product - self.mean * bias) * self.precision, "bias": bias}

    def along(self, x: Tensor, change: Tensors, lanes: int) -> Tensor:
        scale = change["weight"] * self.precision
        shift = change["bias"] - self.mean * scale
        wide = (lanes, 1, -1, 1, 1)
        return (by_lane(x, lanes) * scale.view(wide) + shift.view(wide)).flatten(0, 1)


def by_lane(x: Tensor, lanes: int) -> Tensor:
    """[L * k, ...] -> [L, k, ...]."""
    return x.unflatten(0, (lanes, -1))
