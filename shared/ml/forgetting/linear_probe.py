"""A linear probe: what the features below the last layer still know of the forgotten samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.ml.networks import Ensemble
from shared.ml.samples import Samples
from shared.ml.training.sgd import compute_logits

MAX_ITERATIONS = 40
WEIGHT_PENALTY = 1e-3


class PenultimateFeatures(nn.Module):
    """A network up to the input of its last dense layer; of an ensemble, all members' side by
    side."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            network.members if isinstance(network, Ensemble) else [network]
        )

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] in [0, 1] -> [N, F]."""
        return torch.cat([_run_to_last_layer(member, images) for member in self.members], 1)


def _run_to_last_layer(network: nn.Module, images: Tensor) -> Tensor:
    layer_inputs: list[Tensor] = []

    def record_input(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        layer_inputs.append(inputs[0])

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(record_input) for layer in layers]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return layer_inputs[-1].flatten(1)


def probe_accuracy(
    network: nn.Module, labelled: Samples, forget: Samples, device: torch.device
) -> float:
    """Accuracy on `forget` of a logistic head that is fitted to the frozen features of `labelled`.

    A method that edits only the last layer changes the model's answers and leaves the probe's as
    they were. Compare the result with that of the same probe on retrained models.

    Source: "An illusion of unlearning?", arXiv 2604.08271. The head is fitted by L-BFGS on
    standardised features, from zero, so it draws nothing.

    Args:
        labelled: samples that no model was trained on.

    Returns:
        a share in [0, 1].
    """
    body = PenultimateFeatures(network)
    known, asked = (
        compute_logits(body, samples.images, device).double() for samples in (labelled, forget)
    )
    mean, std = known.mean(0), known.std(0).clamp_min(1e-6)
    classes = int(max(labelled.labels.max(), forget.labels.max())) + 1
    head = _fit_head((known - mean) / std, labelled.labels, classes)
    answers = (torch.nn.functional.pad((asked - mean) / std, (0, 1), value=1.0) @ head).argmax(1)
    return (answers == forget.labels).double().mean().item()


def _fit_head(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Weights and, in the last row, biases of a logistic regression, float64 [F + 1, K]."""
    inputs = torch.nn.functional.pad(features, (0, 1), value=1.0)
    head = torch.zeros(inputs.shape[1], classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([head], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimiser.zero_grad()
        loss = cross_entropy(inputs @ head, labels) + WEIGHT_PENALTY * head[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(compute_loss)
    return head.detach()
