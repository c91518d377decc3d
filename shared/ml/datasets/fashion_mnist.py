"""Fashion-MNIST, from wherever its four idx files lie."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from pydantic import Field

from shared.errors import InvalidRequest
from shared.ml.datasets import registry
from shared.ml.datasets._arrays import has_idx, read_idx
from shared.ml.datasets._base import Samples, Split
from shared.ml.datasets._files import data_root, inside
from shared.registry import Params

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
ALL = FILES["train"] + FILES["test"]


class FashionMNISTParams(Params):
    folder: str | None = Field(None, max_length=500, description="folder of the idx files, inside the data root")
    download: bool = Field(True, description="whether to ask torchvision's mirrors when no file is found here")


@registry.register(
    "fashion_mnist",
    params=FashionMNISTParams,
    source="Xiao et al. 2017, arXiv 1708.07747",
    traits={"input_shape": [1, 28, 28], "num_classes": 10},
)
class FashionMNIST:
    """Clothes, 28 x 28 grey, ten classes: 60,000 to train, 10,000 to test."""

    input_shape = (1, 28, 28)
    num_classes = 10
    mean = (0.28604059,)
    std = (0.35302424,)

    def __init__(self, params: FashionMNISTParams) -> None:
        self.params = params

    def load(self, split: Split) -> Samples:
        """Read the split's two files.

        Raises:
            InvalidRequest: there are none to be had, or they are not what they should be.
        """
        folder = self._folder()
        root = DEBIAN if folder == DEBIAN else data_root()
        images, labels = (
            read_idx(folder, name, item, root) for name, item in zip(FILES[split], ((28, 28), ()), strict=True)
        )
        if labels.shape != images.shape[:1]:
            raise InvalidRequest("Fashion-MNIST: images must be [N, 28, 28] and labels [N]", "params.dataset")
        if labels.max(initial=0) >= self.num_classes:
            raise InvalidRequest("Fashion-MNIST: labels must be 0 to 9", "params.dataset")
        grey = torch.from_numpy(images).float().div_(255).unsqueeze(1)
        return Samples(grey, torch.from_numpy(labels).long())

    def _folder(self) -> Path:
        if self.params.folder is not None:
            folder = inside(self.params.folder, "params.dataset.params.folder")
            if not has_idx(folder, ALL):
                raise InvalidRequest(
                    f"{self.params.folder!r} lacks some of {', '.join(ALL)} (or .gz)", "params.dataset.params.folder"
                )
            return folder
        for folder in (data_root() / "fashion_mnist", DEBIAN):
            if has_idx(folder, ALL):
                return folder
        return self._downloaded()

    def _downloaded(self) -> Path:
        root = data_root()
        folder = root / "FashionMNIST" / "raw"
        if self.params.download and not has_idx(folder, ALL):
            import torchvision  # takes seconds, and only needed here

            with suppress(OSError, RuntimeError):  # whatever it was, what can be done about it stands below
                torchvision.datasets.FashionMNIST(str(root), download=True)
        if has_idx(folder, ALL):
            return folder
        raise InvalidRequest(
            "Fashion-MNIST is not on this worker and could not be downloaded: put its four idx files in "
            "fashion_mnist/ under PALIMPSEST_DATA_ROOT, or install Debian's dataset-fashion-mnist",
            "params.dataset",
        )
