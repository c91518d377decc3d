"""One forward and backward pass for many trials that keeps every layer's input and output
gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.ml.attacks._convolution import TracedConv2d
from shared.ml.attacks._layers import LayerCall, Tensors, TracedBatchNorm, TracedLayer, TracedLinear
from shared.ml.loss import compute_loss
from shared.ml.second_derivatives import (
    copy_with_weights,
    differentiable_attention,
    set_smoothing,
)


@dataclass(frozen=True)
class BackwardPass:
    """The record of a pass over L trials: its layer calls and, per call, the loss's gradient in the
    output (delta)."""

    trials: int
    calls: list[LayerCall]
    deltas: list[Tensor]

    def find_input(self, weight_name: str) -> Tensor | None:
        """The input of the dense layer that has this weight, at its last call; None if it is part
        of a layer of layers."""
        calls = (c for c in reversed(self.calls) if weight_name in c.layer.names.values())
        return next((c.x for c in calls if isinstance(c.layer, TracedLinear)), None)

    @differentiable_attention()
    def compute_gradients(self) -> Tensors:
        """Per trial the gradient of its mean loss in every weight, {name: [L, *shape]}, without a
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

    @differentiable_attention()
    def build_product(self, change: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        """The inner product of the gradients and `change`, as something to differentiate: outputs,
        and the gradients to start from in them.

        It is the sum over calls of <delta, a>, where a is the derivative of the call's output as
        the layer's own weights (and nothing before) move along `change`.
        """
        factors: list[tuple[Tensor, Tensor]] = []
        products: list[Tensor] = []
        for call, delta in zip(self.calls, self.deltas, strict=True):
            of_layer = {short: change[name] for short, name in call.layer.names.items()}
            output_change = call.layer.compute_jvp(call.x, of_layer, self.trials)
            if output_change is not None:
                factors.append((delta, output_change))
            else:
                gradients = call.layer.compute_gradients(call.x, delta, self.trials)
                products += [(g * of_layer[short]).sum() for short, g in gradients.items()]
        outputs = [*(d for d, _ in factors), *(a for _, a in factors), *products]
        starts = [*(a.detach() for _, a in factors), *(d.detach() for d, _ in factors)]
        return outputs, [*starts, *(torch.ones_like(p) for p in products)]


class BatchedGradients:
    """A copy of `network` with `weights`, in eval mode so that trials are independent.

    Raises:
        NotImplementedError: most of the weights are in one layer of layers, so there is nothing to
            share.
    """

    def __init__(self, network: nn.Module, weights: Tensors) -> None:
        self._tape: list[LayerCall] = []
        network_copy = copy_with_weights(network, weights).requires_grad_(False)
        self._network = _trace_layers(network_copy, "", self._tape)
        _check_shares(self._network)

    @differentiable_attention()
    def forward_backward(
        self, x: Tensor, labels: Tensor, create_graph: bool = True, smoothing: float = 0.0
    ) -> BackwardPass:
        """Images [L * k, C, H, W] that require a gradient, and labels [L, k] or class probabilities
        [L, k, K].

        `create_graph`: deltas can be differentiated too, with that `smoothing` of ReLU layers.
        """
        set_smoothing(self._network, smoothing)
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


def has_only_known_layers(network: nn.Module) -> bool:
    """Whether every layer with weights is of a kind that is traced by a class of its own."""
    return all(
        type(_trace_layer(module, "", [])) is not TracedLayer
        for module in network.modules()
        if next(module.parameters(recurse=False), None) is not None
    )


def _check_shares(network: nn.Module) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, TracedLayer)]
    sizes = [sum(w.numel() for w in layer.weights.values()) for layer in layers]
    for layer, size in zip(layers, sizes, strict=True):
        if len(list(layer.wrapped[0].modules())) > 1 and size > sum(sizes) / 2:
            raise NotImplementedError(f"{type(layer.wrapped[0]).__name__} is one layer of layers")


def _trace_layers(module: nn.Module, name: str, tape: list[LayerCall]) -> nn.Module:
    """Replace every submodule that holds weights itself by a TracedLayer."""
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
