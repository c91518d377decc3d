"""Metrics against naive loops and numbers known beforehand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shared.ml.context import make_generator
from shared.ml.metrics import accuracy, decoy_rank, label_accuracy, mse, psnr, ssim
from shared.ml.samples import Samples


def images(n: int = 3) -> torch.Tensor:
    return torch.rand(n, 1, 12, 12, generator=make_generator(0, "images"))


def test_mse_of_one_hundredth_is_20_db() -> None:
    target = torch.full((2, 3, 8, 8), 0.5)
    assert mse.mse(target + 0.1, target).tolist() == pytest.approx([0.01, 0.01], abs=1e-6)
    assert psnr.psnr(target + 0.1, target).tolist() == pytest.approx([20, 20], abs=1e-4)


def test_equal_images_are_100_db() -> None:
    assert psnr.psnr(images(), images()).tolist() == [100, 100, 100]


def test_mse_is_the_naive_loop() -> None:
    a, b = images(), images().flip(0)
    for i, score in enumerate(mse.mse(a, b).tolist()):
        pairs = list(zip(a[i].flatten().tolist(), b[i].flatten().tolist(), strict=True))
        assert score == pytest.approx(
            math.fsum((x - y) ** 2 for x, y in pairs) / len(pairs), rel=1e-5
        )


def test_ssim_is_one_for_equal_images_and_lower_for_others() -> None:
    a = images()
    assert ssim.ssim(a, a).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert bool((ssim.ssim(a, a.flip(0))[[0, 2]] < 0.5).all())
    assert ssim.ssim(a[:1], a[:1]).shape == (1,)


def test_ssim_is_that_of_windows_within_the_image() -> None:
    """A naive loop over them, with the window of Wang et al.: sigma 1.5, 11 pixels."""
    a, b = (image[0].double() for image in images(2))
    at = torch.arange(11).double() - 5
    weights = torch.exp(-(at**2) / (2 * 1.5**2))
    window = torch.outer(weights, weights) / weights.sum() ** 2
    values = []
    for top in range(2):
        for left in range(2):
            x, y = (image[top : top + 11, left : left + 11] for image in (a, b))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2
            cov = (window * x * y).sum() - mx * my
            luminance = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
            values.append(luminance * (2 * cov + 0.03**2) / (vx + vy + 0.03**2))
    own = ssim.ssim(a[None, None].float(), b[None, None].float()).item()
    assert own == pytest.approx(torch.stack(values).mean().item(), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "channels", "side", "expected"),
    [
        ("shifted", 1, 28, 0.822494),
        ("shifted", 3, 32, 0.872579),
        ("shifted", 1, 11, 0.397136),
        ("dark", 1, 28, 0.952129),
        ("dark", 3, 32, 0.952096),
        ("dark", 1, 11, 0.951926),
        ("flat", 1, 28, 0.015508),
        ("flat", 3, 32, 0.014165),
        ("flat", 1, 11, 0.007313),
        ("inverted", 1, 28, -0.580511),
        ("inverted", 3, 32, -0.632201),
        ("inverted", 1, 11, -0.964160),
    ],
)
def test_ssim_is_that_of_scikit_image(kind: str, channels: int, side: int, expected: float) -> None:
    """scikit-image 0.26.0, structural_similarity(image, other, channel_axis=0, data_range=1,
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False), whose window is that of Wang et
    al. 2004 and which leaves out the border, as the published measure does."""
    row, column = torch.meshgrid(*[torch.arange(side).double() / side] * 2, indexing="ij")
    waves = [(channel + 1) * row + 2 * column for channel in range(channels)]
    image = 0.5 + 0.5 * torch.sin(2 * math.pi * torch.stack(waves))
    others = {
        "shifted": image.roll(1, 2),
        "dark": 0.8 * image,
        "flat": torch.full_like(image, 0.5),
        "inverted": 1 - image,
    }
    own = ssim.ssim(image[None].float(), others[kind][None].float()).item()
    assert own == pytest.approx(expected, abs=1e-5)


def test_each_image_counts_by_the_nearest_of_several_reconstructions() -> None:
    found = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1)
    decoys = torch.tensor([0.5, 0.9]).view(1, 2, 1, 1, 1)
    assert decoy_rank.decoy_rank(found, torch.tensor([[[[0.95]]]]), decoys).tolist() == [1]
    assert decoy_rank.decoy_rank(found, torch.tensor([[[[0.2]]]]), decoys).tolist() == [2]


def test_decoy_rank_counts_decoys_as_near_as_the_truth() -> None:
    target = torch.zeros(1, 1, 1, 1)
    decoys = torch.tensor([0.5, 0.1, -0.1, 0.05]).view(1, 4, 1, 1, 1)
    assert decoy_rank.decoy_rank(torch.tensor([[[[0.01]]]]), target, decoys).tolist() == [1]
    assert decoy_rank.decoy_rank(torch.tensor([[[[0.08]]]]), target, decoys).tolist() == [3]
    tie = torch.zeros(1, 1, 1, 1, 1)
    assert decoy_rank.decoy_rank(target, target, tie).tolist() == [2]


def test_label_accuracy_uses_each_answer_once() -> None:
    answers = torch.tensor([[1, 2], [1, 1], [3, 4], [0, 0]])
    truth = torch.tensor([[2, 1], [1, 2], [0, 1], [0, 0]])
    assert label_accuracy.label_accuracy(answers, truth).tolist() == [1.0, 0.5, 0.0, 1.0]


def test_accuracy_counts_the_highest_logit() -> None:
    class Brightest(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)

    data = Samples(torch.eye(4).view(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]))
    assert accuracy.accuracy(Brightest(), data, torch.device("cpu")) == 0.75
