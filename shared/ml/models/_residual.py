"""Residual networks for small images, from torchvision's block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import pad


def build_residual(
    channels: int,
    num_classes: int,
    widths: Sequence[int],
    blocks: int,
    shortcut: Literal["pad", "convolve"],
) -> nn.Module:
    """A 3x3 stem, then `blocks` basic blocks of each width, global mean, one linear layer.

    Every width except the first begins with a stride of 2. Its shortcut: `pad` takes every other
    pixel and adds channels of zeros (option A of He et al.), `convolve` is a 1x1 convolution with
    BatchNorm (B).
    """
    from torchvision.models.resnet import BasicBlock  # here, as it brings all of torchvision along

    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(),
    ]  # fmt: skip
    in_channels = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            shortcut_module: nn.Module | None = None
            if stride == 2 and shortcut == "pad":
                shortcut_module = _PadShortcut(width - in_channels)
            elif stride == 2:
                shortcut_module = nn.Sequential(
                    nn.Conv2d(in_channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                )
            layers.append(BasicBlock(in_channels, width, stride, shortcut_module))
            in_channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes)
    )


class _PadShortcut(nn.Module):
    """Every other pixel, with channels of zeros appended. No weights."""

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels

    def forward(self, images: Tensor) -> Tensor:
        return pad(images[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra_channels))
