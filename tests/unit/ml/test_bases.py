"""The coordinates of a search: linear, orthonormal up to their amplitudes, with an exact adjoint."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from shared.ml.attacks._bases import (
    FrequencyBasis,
    PixelBasis,
    build_dct,
    build_falling_spectrum,
)
from shared.ml.context import make_generator

SHAPES = [(3, 32, 32), (1, 28, 28), (1, 9, 12), (4, 5, 7), (1, 1, 1), (6, 1, 1)]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def draw(*shape: int, purpose: str = "values") -> Tensor:
    return torch.randn(*shape, generator=make_generator(0, purpose))


def frequency_basis(shape: tuple[int, int, int], mean: float = 0.5) -> FrequencyBasis:
    return FrequencyBasis(torch.full((shape[0], 1, 1), mean), build_falling_spectrum(shape, 1.0))


@pytest.mark.parametrize("size", [1, 2, 3, 28, 32])
def test_the_dct_is_orthonormal_and_its_first_row_is_constant(size: int) -> None:
    matrix = build_dct(size)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(size))
    torch.testing.assert_close(matrix[0], torch.full((size,), size**-0.5))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_in_the_coordinates_is_autograds(shape: tuple[int, int, int]) -> None:
    basis = frequency_basis(shape)
    # wide enough that many pixels are clamped
    coordinates = (2 * draw(2, 1, *shape)).requires_grad_()
    images = basis.render(coordinates)
    gradient = draw(*images.shape, purpose="gradient")
    # of the clamped pixels autograd keeps none, the search those that would come back
    clamped = (images == 0) | (images == 1)
    (expected,) = torch.autograd.grad(images, coordinates, gradient)
    inner = gradient.masked_fill(clamped, 0)
    torch.testing.assert_close(basis.pull_back(images.detach(), inner), expected)
    coming_back = clamped & ((images == 0) == (gradient < 0))
    (expected,) = torch.autograd.grad(
        basis.expand(coordinates), coordinates, gradient.masked_fill(clamped & ~coming_back, 0)
    )
    torch.testing.assert_close(basis.pull_back(images.detach(), gradient), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_coordinates_make_pixels_of_the_same_deviation(shape: tuple[int, int, int]) -> None:
    basis = frequency_basis(shape)
    drawn = draw(2000, *shape)
    images = basis.expand(drawn) - 0.5
    assert images.square().mean().sqrt().item() == pytest.approx(1, abs=0.05)
    assert basis.scale.square().mean().item() == pytest.approx(1)


def test_the_first_coordinate_is_grey_and_the_last_flickers() -> None:
    shape = (3, 4, 4)
    coordinates = torch.zeros(2, *shape)
    coordinates[0, 0, 0, 0] = coordinates[1, 0, 3, 3] = 0.1
    grey, flicker = frequency_basis(shape).expand(coordinates) - 0.5
    torch.testing.assert_close(grey, grey.mean().expand_as(grey))
    assert flicker.mean().item() == pytest.approx(0, abs=1e-12)
    assert flicker.abs().max() < grey.abs().max()  # its amplitude is smaller


def test_a_tables_row_has_no_spectrum() -> None:
    assert torch.equal(build_falling_spectrum((6, 1, 1), 1.0), torch.ones(6, 1, 1))


def test_in_pixels_the_coordinates_are_clamped_themselves() -> None:
    pixels, gradient = torch.tensor([-0.5, 0.5, 1.5]), torch.tensor([1.0, 2.0, 3.0])
    basis = PixelBasis()
    assert basis.expand(pixels).tolist() == [-0.5, 0.5, 1.5]
    assert basis.render(pixels).tolist() == [0, 0.5, 1]
    assert pixels.tolist() == [0, 0.5, 1]
    assert torch.equal(basis.pull_back(pixels, gradient), gradient)
