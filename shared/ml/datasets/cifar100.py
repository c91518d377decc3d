"""CIFAR-100, from an .npz, its binary version, or a download of that."""

from __future__ import annotations

from pathlib import Path

from shared.ml.datasets import registry
from shared.ml.datasets._photographs import (
    ByteArray,
    Photographs,
    PhotographsParams,
    list_default_paths,
    read_records,
)
from shared.ml.samples import Split


class CIFAR100Params(PhotographsParams):
    pass


@registry.register(
    "cifar100",
    params=CIFAR100Params,
    source="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    data_files=list_default_paths("cifar100", "cifar-100-binary"),
    input_shape=(3, 32, 32),
    num_classes=100,
)
class CIFAR100(Photographs):
    """Photographs of things and animals, 32 x 32 colour, a hundred (fine) classes: 50,000 to train,
    10,000 to test."""

    title = "CIFAR-100"
    key = "cifar100"
    folder = "cifar-100-binary"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
    md5 = "03b5dce01913d631647c71ecec9e9cb8"
    files = {"train": ("train.bin",), "test": ("test.bin",)}  # noqa: RUF012  (read, never written)
    input_shape = (3, 32, 32)
    num_classes = 100
    mean = (0.50707516, 0.48654887, 0.44091784)
    std = (0.26733429, 0.25643846, 0.27615047)

    def read_folder(self, folder: Path, split: Split) -> tuple[ByteArray, ByteArray]:
        """Records of a coarse label, a fine one and 3 x 32 x 32 bytes."""
        (name,) = self.files[split]
        file_records = read_records(folder / name, 2 + 3072, self.title)
        return file_records[:, 2:].reshape(-1, 3, 32, 32), file_records[:, 1]
