"""Residual networks for small images, from torchvision's block."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def residual(channels: int, num_classes: int, widths: Sequence[int], blocks: int) -> nn.Module:
    """A 3x3 stem, then `blocks` basic blocks of each width, global mean, one linear layer.

    Every width but the first begins with a stride of 2; its shortcut is a 1x1 convolution (option B of He et al.).
    """
    from torchvision.models.resnet import BasicBlock  # here, as it brings all of torchvision along

    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(),
    ]  # fmt: skip
    last = widths[0]
    for place, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if place and not block else 1
            shortcut = None
            if stride != 1 or last != width:
                shortcut = nn.Sequential(nn.Conv2d(last, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            layers.append(BasicBlock(last, width, stride, shortcut))
            last = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes))
