"""Models against the sizes that their papers and the field give. On the meta device: nothing is
allocated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.models._residual import build_residual
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef

CIFAR, FASHION = (3, 32, 32), (1, 28, 28)


def on_meta(model: str, shape: tuple[int, int, int], **params: object) -> nn.Module:
    mean = (0.5,) * shape[0]
    about = Architecture(
        model=PluginRef(name=model, params=params),
        input_shape=shape,
        num_classes=10,
        mean=mean,
        std=mean,
    )
    with torch.device("meta"):
        return build_network(about)


def layers(network: nn.Module) -> int:
    """Convolutions and dense layers on the longest way through: 1x1 convolutions are shortcuts."""
    return sum(
        isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1))
        for m in network.modules()
    )


@pytest.mark.parametrize(
    ("model", "shape", "weights", "depth"),
    [
        ("resnet20", CIFAR, 269_722, 20),  # 0.27 M in table 6 of He et al.
        ("resnet44", CIFAR, 658_586, 44),  # 0.66 M
        ("resnet18", CIFAR, 11_173_962, 18),  # 11.17 M with a 3x3 stem
        ("vgg11_bn", CIFAR, 9_231_114, 9),  # eleven, less the two dense layers that are left out
        ("lenet", FASHION, 61_706, 5),
        ("mlp", FASHION, 101_770, 2),
    ],
)
def test_a_model_has_as_many_weights_and_layers_as_its_paper_says(
    model: str, shape: tuple[int, int, int], weights: int, depth: int
) -> None:
    network = on_meta(model, shape)
    assert sum(p.numel() for p in network.parameters()) == weights
    assert layers(network) == depth
    assert network(torch.empty(2, *shape, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("model", ["resnet18", "resnet20", "resnet44", "vgg11_bn"])
@pytest.mark.parametrize("side", [2, 7, 28, 33])
def test_residual_and_vgg_networks_take_any_image(model: str, side: int) -> None:
    network = on_meta(model, (1, side, side), width=2)
    assert network(torch.empty(2, 1, side, side, device="meta")).shape == (2, 10)


def test_a_stem_of_small_images_keeps_every_pixel() -> None:
    stem = on_meta("resnet18", CIFAR).get_submodule("network.0")
    assert stem(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 64, 32, 32)


def test_a_padded_shortcut_adds_the_input_thinned_out_and_has_no_weights() -> None:
    """With the block's own way shut, what is left is its shortcut."""
    network = build_residual(1, 3, [2, 4], blocks=1, shortcut="pad").eval()
    block = next(
        m for m in network if type(m).__name__ == "BasicBlock" and m.downsample is not None
    )
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    images = torch.rand(1, 2, 7, 7, generator=make_generator(0, "x"))
    expected = torch.cat([images[:, :, ::2, ::2], torch.zeros(1, 2, 4, 4)], dim=1)
    assert torch.equal(block(images), expected)
    assert not list(block.downsample.parameters())


@pytest.mark.parametrize(("model", "side"), [("lenet", 11), ("convnet", 8), ("resnet20", 1)])
def test_an_image_too_small_is_refused_in_words(model: str, side: int) -> None:
    with pytest.raises(InvalidRequest, match="at least"):
        on_meta(model, (1, side, side))
    assert on_meta(model, (1, side + 1, side + 1))
