"""One forward and backward pass for many lanes, of which every layer's input and output gradient are kept."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.ml.attacks._convolution import Convolution
from shared.ml.attacks._layers import Call, Dense, Layer, Norm, Tensors
from shared.ml.loss import compute_loss


@dataclass(frozen=True)
class Pass:
    """What a pass over L lanes leaves: its calls and, per call, the loss's gradient in the output (deltas)."""

    lanes: int
    calls: list[Call]
    deltas: list[Tensor]

    def gradients(self) -> Tensors:
        """Per lane the gradient of its mean loss in every weight, {name: [L, *shape]}, without a graph."""
        total: Tensors = {}
        with torch.no_grad():
            for call, delta in zip(self.calls, self.deltas, strict=True):
                found = call.layer.gradients(call.x, delta, self.lanes)
                for short, name in call.layer.names.items():
                    total[name] = total[name] + found[short] if name in total else found[short]
        return total

    def along(self, change: Tensors) -> list[Tensor]:
        """Per call the derivative of its output as its weights, and nothing before it, move along `change`."""
        return [
            call.layer.along(call.x, {short: change[name] for short, name in call.layer.names.items()}, self.lanes)
            for call in self.calls
        ]


class Lanes:
    """`network` with `weights`, in eval mode (lanes must not see each other); the network given stays as it is."""

    def __init__(self, network: nn.Module, weights: Tensors) -> None:
        self._tape: list[Call] = []
        own = copy.deepcopy(network).eval().requires_grad_(False)
        for name, weight in own.named_parameters():
            weight.data = weights[name]
        self._network = _stand_in(own, "", self._tape)

    def run(self, x: Tensor, labels: Tensor, twice: bool = True) -> Pass:
        """Images [L * k, C, H, W] that ask for a gradient and labels [L, k], or how likely each class is [L, k, K].

        `twice`: deltas can be derived too.
        """
        lanes, k = labels.shape[:2]
        self._tape.clear()
        loss = compute_loss(self._network(x), labels.flatten(0, 1), reduction="sum") / k
        calls = list(self._tape)
        self._tape.clear()
        assert all(call.x._version == call.version for call in calls), "a layer's input was changed in place"
        deltas = torch.autograd.grad(loss, [call.output for call in calls], create_graph=twice)
        return Pass(lanes, calls, list(deltas))


def _stand_in(module: nn.Module, name: str, tape: list[Call]) -> nn.Module:
    """`module` with a Layer in the place of every part that holds weights itself."""
    if next(module.parameters(recurse=False), None) is not None:
        return _layer(module, name, tape)
    for part, inner in list(module.named_children()):
        setattr(module, part, _stand_in(inner, f"{name}.{part}" if name else part, tape))
    return module


def _layer(module: nn.Module, name: str, tape: list[Call]) -> Layer:
    if type(module) is nn.Linear:
        return Dense(module, name, tape)
    if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return Convolution(module, name, tape)
    if type(module) is nn.BatchNorm2d and module.running_mean is not None:
        return Norm(module, name, tape)
    return Layer(module, name, tape)
