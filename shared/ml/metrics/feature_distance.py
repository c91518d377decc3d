"""Distance of two images in the features of a network that is not under attack."""

from __future__ import annotations

from torch import Tensor, nn

from shared.ml.metrics import registry
from shared.ml.metrics._features import join_features, run_in_batches
from shared.roles import Role

LAYERS = 2


@registry.register(
    "feature_distance",
    needs=(Role.FEATURE_NETWORK,),
    source=(
        "the distance of Zhang et al. 2018, arXiv 1801.03924, equation 1, without learned weights"
    ),
    takes="embedding",
    unit="1",
    range=(0, 4),
    higher_is_better=False,
)
def feature_distance(images: Tensor, feature_network: nn.Module) -> Tensor:
    """Distance in the last hidden features of a network pretrained with another seed; not LPIPS.

    Features are the inputs of the network's convolutions and dense layers: activated, pooled, each
    tensor once, in the order of the forward pass, without the image itself. The last two are used
    (the input of the classifier and that of the layer before it), as far as they exist; a network
    without a hidden layer has the normalised image. Each is scaled to length 1 over channels at
    each position; squared differences are summed over channels, averaged over positions, then over
    the two. On MNIST the last two separate classes and identify a truth among decoys better than
    all layers together. [N, C, H, W] in [0, 1] -> [N, F]; the squared distance of two is their
    score, 0 for equal images, at most 4.
    """
    return run_in_batches(_HiddenFeatures(feature_network), images)


class _HiddenFeatures(nn.Module):
    """The feature network up to the inputs of its last layers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        layer_inputs: list[Tensor] = []

        def record_input(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # a shortcut has the same input as its block
            if not any(inputs[0] is one for one in layer_inputs):
                layer_inputs.append(inputs[0])

        layers = [m for m in self.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        hooks = [layer.register_forward_pre_hook(record_input) for layer in layers]
        try:
            self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        last = (layer_inputs[1:] or layer_inputs)[-LAYERS:]
        return join_features(last, [1 / len(last)] * len(last))
