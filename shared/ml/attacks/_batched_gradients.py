"""One forward and backward pass for many lanes, of which every layer's input and output gradient
are kept."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.ml.attacks._convolution import TracedConv2d
from shared.ml.attacks._layers import LayerCall, Tensors, TracedBatchNorm, TracedLayer, TracedLinear
from shared.ml.loss import compute_loss


@dataclass(frozen=True)
class BackwardPass:
    """What a pass over L lanes leaves: its calls and, per call, the loss's gradient in the output
    (deltas)."""

    trials: int
    calls: list[LayerCall]
    deltas: list[Tensor]

    def compute_gradients(self) -> Tensors:
        """Per lane the gradient of its mean loss in every weight, {name: [L, *shape]}, without a
        graph."""
        total: Tensors = {}
        with torch.no_grad():
            for call, delta in zip(self.calls, self.deltas, strict=True):
                gradients = call.layer.compute_gradients(call.x, delta, self.trials)
                for short, name in call.layer.names.items():
                    total[name] = (
                        total[name] + gradients[short] if name in total else gradients[short]
                    )
        return total

    def compute_jvps(self, change: Tensors) -> list[Tensor]:
        """Per call the derivative of its output as its weights, and nothing before it, move along
        `change`."""
        return [
            call.layer.compute_jvp(
                call.x,
                {short: change[name] for short, name in call.layer.names.items()},
                self.trials,
            )
            for call in self.calls
        ]


class BatchedGradients:
    """`network` with `weights`, in eval mode (lanes must not see each other); the network given
    stays as it is."""

    def __init__(self, network: nn.Module, weights: Tensors) -> None:
        self._tape: list[LayerCall] = []
        network_copy = copy.deepcopy(network).eval().requires_grad_(False)
        for name, weight in network_copy.named_parameters():
            weight.data = weights[name]
        self._network = _trace_layers(network_copy, "", self._tape)

    def forward_backward(
        self, x: Tensor, labels: Tensor, create_graph: bool = True
    ) -> BackwardPass:
        """Images [L * k, C, H, W] that ask for a gradient and labels [L, k], or how likely each
        class is [L, k, K].

        `twice`: deltas can be derived too.
        """
        trials, k = labels.shape[:2]
        self._tape.clear()
        loss = compute_loss(self._network(x), labels.flatten(0, 1), reduction="sum") / k
        calls = list(self._tape)
        self._tape.clear()
        assert all(call.x._version == call.input_version for call in calls), (
            "a layer's input was changed in place"
        )
        deltas = torch.autograd.grad(
            loss, [call.output for call in calls], create_graph=create_graph
        )
        return BackwardPass(trials, calls, list(deltas))


def _trace_layers(module: nn.Module, name: str, tape: list[LayerCall]) -> nn.Module:
    """`module` with a Layer in the place of every part that holds weights itself."""
    if next(module.parameters(recurse=False), None) is not None:
        return _trace_layer(module, name, tape)
    for child_name, child in list(module.named_children()):
        setattr(
            module,
            child_name,
            _trace_layers(child, f"{name}.{child_name}" if name else child_name, tape),
        )
    return module


def _trace_layer(module: nn.Module, name: str, tape: list[LayerCall]) -> TracedLayer:
    if type(module) is nn.Linear:
        return TracedLinear(module, name, tape)
    if (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ):
        return TracedConv2d(module, name, tape)
    if type(module) is nn.BatchNorm2d and module.running_mean is not None:
        return TracedBatchNorm(module, name, tape)
    return TracedLayer(module, name, tape)
