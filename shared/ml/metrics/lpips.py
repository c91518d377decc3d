"""Learned perceptual distance, with weights provided by the user."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared.errors import InvalidRequest
from shared.ml.datasets.api import open_file, resolve_data_path
from shared.ml.metrics import registry
from shared.ml.metrics._features import join_features, run_in_batches
from shared.ml.tensors import read_tensors
from shared.roles import Role

FIELD = "params.lpips_weights"
MAX_BYTES = 64 << 20  # the weights are 10 MiB
MIN_SIDE_PX = 64  # pixels that the smaller side is enlarged to at least
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
CHANNELS = (64, 192, 384, 256, 256)
HEADS = tuple(f"lin{place}.model.1.weight" for place in range(len(CHANNELS)))


@registry.register(
    "lpips",
    needs=(Role.LPIPS_WEIGHTS,),
    source="Zhang et al. 2018, arXiv 1801.03924, equation 1; AlexNet, linear heads, version 0.1",
    takes="embedding",
    unit="1",
    range=(0, None),
    higher_is_better=False,
    min_size=8,
    channels=(1, 3),
)
def lpips(images: Tensor, weights: nn.Module) -> Tensor:
    """LPIPS with AlexNet and the weights in `lpips_weights`; omitted without them.

    Grey images become three equal channels. Images whose smaller side is below 64 pixels are
    enlarged to that (bilinear), as AlexNet's first layers would leave nothing of them: values are
    comparable with other work only if it enlarges the same way. [N, 1 or 3, H, W] in [0, 1] -> [N,
    F]; the squared distance of two is their score, 0 for equal images.
    """
    return run_in_batches(weights, images)


class LPIPS(nn.Module):
    """Images -> vectors whose squared distance is LPIPS."""

    shift: Tensor
    scale: Tensor

    def __init__(self, features: nn.Sequential, heads: list[Tensor]) -> None:
        super().__init__()
        self.features = features
        for name, values in (("shift", torch.tensor(SHIFT)), ("scale", torch.tensor(SCALE))):
            self.register_buffer(name, values.view(-1, 1, 1))
        for place, head in enumerate(heads):
            self.register_buffer(f"head{place}", head)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if min(height, width) < MIN_SIDE_PX:
            factor = MIN_SIDE_PX / min(height, width)
            size = (round(height * factor), round(width * factor))
            images = interpolate(images, size, mode="bilinear", align_corners=False)
        x = (2 * images.expand(-1, 3, -1, -1) - 1 - self.shift) / self.scale
        activations = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                activations.append(x)
        return join_features(
            activations, [getattr(self, f"head{place}") for place in range(len(activations))]
        )


def read_weights(path: str) -> tuple[LPIPS, str]:
    """The network from a .safetensors file of the data root, on the CPU, and the sha256 of the
    file.

    It holds float32 tensors: `features.*` of torchvision's AlexNet (five convolutions with biases)
    and the heads `lin0.model.1.weight` to `lin4.model.1.weight`, [1, C, 1, 1], not negative.

    Raises:
        InvalidRequest: no such file; not a safetensors file; a tensor missing, unknown, of another
            shape or dtype, not finite, or negative where it is a head.
    """
    from torchvision.models import AlexNet  # here, as it brings all of torchvision along

    with open_file(resolve_data_path(path, FIELD), FIELD, max_bytes=MAX_BYTES, name=path) as file:
        data = file.read(MAX_BYTES)
    try:
        tensors, _ = read_tensors(data, path)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, FIELD) from error
    with torch.device("meta"):  # the classifier behind the features is most of AlexNet
        features = AlexNet().features[:12]
    expected = {
        f"features.{name}": tuple(spec.shape) for name, spec in features.state_dict().items()
    }
    expected |= {name: (1, channels, 1, 1) for name, channels in zip(HEADS, CHANNELS, strict=True)}
    if odd := sorted(tensors.keys() ^ expected.keys()):
        raise InvalidRequest(
            f"{path}: tensor {odd[0]!r} is {'unknown' if odd[0] in tensors else 'missing'}", FIELD
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            actual = f"{list(tensor.shape)} {tensor.dtype}"
            raise InvalidRequest(
                f"{path}: {name!r} is {actual}, expected {list(shape)} torch.float32", FIELD
            )
    for name in HEADS:
        if tensors[name].min() < 0:
            raise InvalidRequest(
                f"{path}: {name!r} holds negative weights; heads of LPIPS have none", FIELD
            )
    state = {name.removeprefix("features."): t for name, t in tensors.items() if name not in HEADS}
    features.load_state_dict(state, assign=True)
    return LPIPS(features, [tensors[name].flatten() for name in HEADS]).eval(), hashlib.sha256(
        data
    ).hexdigest()
