"""CIFAR-10, from an .npz, its binary version, or a download of that."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.ml.datasets import registry
from shared.ml.datasets._photographs import (
    ByteArray,
    Photographs,
    PhotographsParams,
    list_default_paths,
    read_records,
)
from shared.ml.samples import Split


class CIFAR10Params(PhotographsParams):
    pass


@registry.register(
    "cifar10",
    params=CIFAR10Params,
    source="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    data_files=list_default_paths("cifar10", "cifar-10-batches-bin"),
    input_shape=(3, 32, 32),
    num_classes=10,
)
class CIFAR10(Photographs):
    """Photographs of vehicles and animals, 32 x 32 colour, ten classes: 50,000 to train, 10,000 to
    test."""

    title = "CIFAR-10"
    key = "cifar10"
    folder = "cifar-10-batches-bin"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    files = {  # noqa: RUF012 - read, never written
        "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test": ("test_batch.bin",),
    }
    input_shape = (3, 32, 32)
    num_classes = 10
    mean = (0.49139969, 0.48215842, 0.44653092)
    std = (0.24703224, 0.24348513, 0.26158784)

    def read_folder(self, folder: Path, split: Split) -> tuple[ByteArray, ByteArray]:
        """Records of a label and 3 x 32 x 32 bytes."""
        file_records = np.concatenate(
            [read_records(folder / name, 1 + 3072, self.title) for name in self.files[split]]
        )
        return file_records[:, 1:].reshape(-1, 3, 32, 32), file_records[:, 0]
