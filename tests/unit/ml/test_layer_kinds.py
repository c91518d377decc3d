"""Gradient matching on every kind of layer: the search's step equals plain double backward, whether
images share passes or not, and the attack says which."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.ml.attacks import _fallback, _matching, _plain
from shared.ml.context import make_generator

CHANNELS, SIDE, CLASSES = 3, 8, 4


class Tokens(nn.Module):
    """Images as 16 tokens of 8 features each, through `body`, averaged, and one dense layer."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.patches = nn.Conv2d(CHANNELS, 8, 2, 2)
        self.body = body
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.patches(x).flatten(2).mT).mean(1))
        return logits


class FusedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + y.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Torch's own, which takes three inputs and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return x + y


class ScaledLayers(nn.Module):
    """A weight of its own beside layers, as ConvNeXt's layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((8,), 0.5))
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.inner(x)


class Functional(nn.Module):
    """Takes a layer's weight without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.linear(x, self.layer.weight).tanh()


class Mixing(nn.Module):
    """Subtracts the mean over the batch: no image has a gradient of its own beside others."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0, keepdim=True) / 2) * self.weight


class Unused(nn.Module):
    """A head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(8, 2)
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class ScaledTokens(nn.Module):
    """A class token beside all layers, as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.patches = nn.Conv2d(CHANNELS, 8, 2, 2)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        logits: Tensor = self.head(
            torch.cat([self.token.expand(len(x), -1, -1), tokens], 1).mean(1)
        )
        return logits


def convolve(*layers: nn.Module) -> nn.Module:
    """Convolutions around `layers`, which take and give 8 channels."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3, stride=2, padding=1), *layers, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, CLASSES),
    )  # fmt: skip


def transformer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")


SHARED: dict[str, Callable[[], nn.Module]] = {
    "group norm": lambda: convolve(nn.GroupNorm(2, 8), nn.ReLU()),
    "batch norm": lambda: convolve(nn.BatchNorm2d(8), nn.Hardtanh()),
    "layer norm": lambda: Tokens(nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8))),
    "instance norm": lambda: convolve(nn.InstanceNorm2d(8, affine=True), nn.ELU()),
    "silu in place": lambda: convolve(nn.BatchNorm2d(8), nn.SiLU(inplace=True), nn.Conv2d(8, 8, 1)),
    "hardswish in place": lambda: convolve(nn.Conv2d(8, 8, 1), nn.Hardswish(inplace=True)),
    "hardsigmoid": lambda: convolve(nn.Conv2d(8, 8, 1), nn.Hardsigmoid(inplace=True)),
    "mish": lambda: convolve(nn.Conv2d(8, 8, 1), nn.Mish()),
    "prelu": lambda: convolve(nn.PReLU(8)),
    "depthwise": lambda: convolve(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(inplace=True)),
    "grouped": lambda: convolve(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.ReLU()),
    "padding of words": lambda: convolve(nn.Conv2d(8, 8, 3, padding="same"), nn.Tanh()),
    "reflection": lambda: convolve(
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Tanh()
    ),
    "dropout": lambda: convolve(nn.Dropout2d(0.5), nn.Conv2d(8, 8, 1), nn.Dropout(0.5)),
    "max pool": lambda: convolve(nn.MaxPool2d(2), nn.LeakyReLU(inplace=True)),
    "layer scale": lambda: Tokens(nn.Sequential(ScaledLayers(), ScaledLayers())),
    "fused attention": lambda: Tokens(FusedAttention()),
    "unused head": lambda: Tokens(Unused()),
}
IMAGE_BY_IMAGE: dict[str, Callable[[], nn.Module]] = {
    "attention of torch": lambda: Tokens(SelfAttention()),
    "transformer of torch": lambda: Tokens(transformer()),
    "functional use": lambda: Tokens(Functional()),
    "weights around all layers": ScaledTokens,
    "mixed images": lambda: Tokens(Mixing()),
}


def make_network(build: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return build().to(dtype).eval()


@pytest.mark.parametrize("name", [*SHARED, *IMAGE_BY_IMAGE])
def test_a_step_is_plain_double_backward_whatever_the_layers_are(name: str) -> None:
    network = make_network((SHARED | IMAGE_BY_IMAGE)[name], torch.float64)
    reason = _fallback.find_fallback_reason(network, (CHANNELS, SIDE, SIDE))
    assert (reason is None) == (name in SHARED), reason

    weights = {n: w.detach() for n, w in network.named_parameters()}
    generator = make_generator(0, "step")
    drawn = {n: torch.randn(2, *w.shape, generator=generator).double() for n, w in weights.items()}
    norm = torch.cat([d.flatten(1) for d in drawn.values()], 1).norm(dim=1)
    direction = {n: d / norm.view(-1, *[1] * (d.dim() - 1)) for n, d in drawn.items()}
    images = torch.rand(2, 1, CHANNELS, SIDE, SIDE, generator=generator).double()
    labels = torch.tensor([[0], [3]])
    implementation = _plain if reason else _matching
    gradient, loss = implementation.build_matcher(network, weights)(images, labels, direction, 0.0)
    again = implementation.compute_matching_loss(network, weights, images, labels, direction)
    torch.testing.assert_close(loss, again, atol=1e-9, rtol=0)

    # finite differences of 1 - cos, whose gradient needs no second derivative
    step = torch.randn(images.shape, generator=generator).double()
    step = 1e-5 * step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    ends = [_measure(network, images + sign * step, labels, direction) for sign in (1, -1)]
    slope = (gradient * step).flatten(1).sum(1)
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / 2, atol=1e-10, rtol=1e-3)


def _measure(
    network: nn.Module, images: Tensor, labels: Tensor, direction: dict[str, Tensor]
) -> Tensor:
    losses = []
    for trial, x in enumerate(images):
        gradients = torch.autograd.grad(
            cross_entropy(network(x), labels[trial]),
            list(network.parameters()),
            materialize_grads=True,
        )
        flat = torch.cat([g.flatten() for g in gradients])
        target = torch.cat([d[trial].flatten() for d in direction.values()])
        losses.append(1 - torch.cosine_similarity(flat, target, dim=0))
    return torch.stack(losses).detach()


def test_the_fast_path_of_attention_is_as_before_afterwards() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    network = make_network(SHARED["fused attention"], torch.float64)
    assert _fallback.find_fallback_reason(network, (CHANNELS, SIDE, SIDE)) is None
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert torch.backends.cuda.flash_sdp_enabled()
