"""Haar wavelet-based perceptual similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from shared.ml.metrics import registry

C, ALPHA = 30.0, 4.2  # the paper's, for pixels from 0 to 255
SIZES = (2, 4, 8)  # of the wavelets; the first two are compared, the last one gives the weights
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@registry.register(
    "haarpsi",
    source="Reisenhofer et al. 2018, arXiv 1607.06140, equations 10 to 15",
    takes="image",
    unit="1",
    range=(0, 1),
    higher_is_better=True,
    min_size=16,
    channels=(1, 3),
)
def haarpsi(reconstruction: Tensor, target: Tensor) -> Tensor:
    """HaarPSI of pixels in [0, 1]: similarity of edges at two scales, weighted by edges at a third;
    1 for equal images.

    Images are halved first, as the paper does for its viewing distance, so the widest wavelet
    covers 16 pixels of the original. Three channels are red, green and blue. Two all-black images
    have no edges to weight by: there all positions weigh the same. [N, 1 or 3, H, W] twice, H and W
    at least 16 -> [N] in [0, 1].
    """
    image, true_image = _halve(reconstruction), _halve(target)
    edges, true_edges = _compute_edges(image[:, :1]), _compute_edges(true_image[:, :1])
    similarity = _compute_similarity(edges[:, :, :2], true_edges[:, :, :2]).mean(2)
    weights = torch.maximum(edges[:, :, 2], true_edges[:, :, 2])
    if image.shape[1] == 3:
        colour_similarity = _compute_similarity(
            _blur(image[:, 1:]).abs(), _blur(true_image[:, 1:]).abs()
        )
        similarity = torch.cat([similarity, colour_similarity.mean(1, keepdim=True)], 1)
        weights = torch.cat([weights, weights.mean(1, keepdim=True)], 1)
    weights = torch.where(weights.sum((1, 2, 3), keepdim=True) > 0, weights, 1.0)
    total = ((ALPHA * similarity).sigmoid() * weights).double().sum((1, 2, 3))
    # in float64, as the logit amplifies rounding errors
    mean = total / weights.double().sum((1, 2, 3))
    return (mean.logit() / ALPHA).square().clamp_max(1).to(reconstruction.dtype)


def _halve(images: Tensor) -> Tensor:
    """Grey or YIQ, from 0 to 255, at half the size."""
    if images.shape[1] == 3:
        images = torch.einsum("yc,nchw->nyhw", images.new_tensor(YIQ), images)
    return avg_pool2d(pad(255 * images, (0, images.shape[3] % 2, 0, images.shape[2] % 2)), 2)


def _compute_edges(grey: Tensor) -> Tensor:
    """Magnitudes of Haar coefficients: [N, 1, H, W] -> [N, 2 directions, 3 scales, H, W]. Beyond
    the image is 0."""
    scales = []
    for size in SIZES:
        step = grey.new_ones(size, size) / size
        step[: size // 2] *= -1
        before, after = size // 2 - 1, size // 2
        scales.append(
            conv2d(
                pad(grey, (before, after, before, after)), torch.stack([step, step.T]).unsqueeze(1)
            ).abs()
        )
    return torch.stack(scales, 2)


def _blur(images: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, of the same size."""
    return avg_pool2d(pad(images, (0, 1, 0, 1)), 2, stride=1)


def _compute_similarity(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a * b + C) / (a.square() + b.square() + C)
