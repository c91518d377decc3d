"""Five thousand real MNIST digits, bundled: no download."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from shared.ml.context import make_generator
from shared.ml.datasets import registry
from shared.ml.datasets._files import read_bundled
from shared.ml.samples import Samples, Split
from shared.plugins import Params

TEST_PER_CLASS = 100
SHA256 = "246e0c30eeea57c8d0037d3f38c8e00651ec204cc61b8022563e9aeeb9d756f4"


class MNIST5kParams(Params):
    pass


@registry.register(
    "mnist_5k",
    params=MNIST5kParams,
    source="LeCun et al. 1998; 5,000 of them",
    input_shape=(1, 28, 28),
    num_classes=10,
)
class MNIST5k:
    """Handwritten digits, 28 x 28 grey, 500 per class: 4,000 to train, 100 per class to test."""

    input_shape = (1, 28, 28)
    num_classes = 10
    mean = (0.13115253,)
    std = (0.30834040,)

    def __init__(self, params: MNIST5kParams) -> None:
        self.params = params

    def load(self, split: Split) -> Samples:
        """The split, drawn with a fixed seed."""
        images, labels = _load_all()
        test = torch.cat([_draw_test_positions(labels, c) for c in range(self.num_classes)])
        train = torch.ones(len(labels), dtype=torch.bool)
        train[test] = False
        return Samples(images, labels).pick(test if split == "test" else train.nonzero().flatten())


def _draw_test_positions(labels: torch.Tensor, digit: int) -> torch.Tensor:
    members = (labels == digit).nonzero().flatten()
    order = torch.randperm(len(members), generator=make_generator(0, f"mnist_5k test {digit}"))
    return members[order[:TEST_PER_CLASS]]


@cache
def _load_all() -> Samples:
    """All 5,000, cached: unpacking takes a moment."""
    with np.load(read_bundled("mnist_5k.npz", SHA256), allow_pickle=False) as arrays:
        images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    return Samples(images.float().div(255).unsqueeze(1), labels.long())
