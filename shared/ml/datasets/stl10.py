"""STL-10, from an .npz, its binary files, or a download of them."""

from __future__ import annotations

from pathlib import Path

from shared.errors import InvalidRequest
from shared.ml.datasets import registry
from shared.ml.datasets._photographs import (
    FIELD,
    ByteArray,
    Photographs,
    PhotographsParams,
    list_default_paths,
    read_records,
)
from shared.ml.samples import Split


class STL10Params(PhotographsParams):
    pass


@registry.register(
    "stl10",
    params=STL10Params,
    source=(
        "Coates, Lee and Ng 2011, An analysis of single-layer networks in unsupervised feature "
        "learning"
    ),
    data_files=list_default_paths("stl10", "stl10_binary"),
    input_shape=(3, 96, 96),
    num_classes=10,
)
class STL10(Photographs):
    """Photographs of vehicles and animals, 96 x 96 colour, ten classes: 5,000 to train, 8,000 to
    test."""

    title = "STL-10"
    key = "stl10"
    folder = "stl10_binary"
    url = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
    md5 = "91f7769df0f17e558f3565bffb0c7dfb"
    files = {  # noqa: RUF012  (read, never written)
        "train": ("train_X.bin", "train_y.bin"),
        "test": ("test_X.bin", "test_y.bin"),
    }
    input_shape = (3, 96, 96)
    num_classes = 10
    mean = (0.4467106, 0.43980986, 0.40664646)
    std = (0.26034098, 0.25657727, 0.27126738)

    def read_folder(self, folder: Path, split: Split) -> tuple[ByteArray, ByteArray]:
        """Images in column order, one channel after another; labels from 1."""
        images, labels = (
            read_records(folder / name, size, self.title)
            for name, size in zip(self.files[split], (3 * 96 * 96, 1), strict=True)
        )
        if labels.min() < 1:
            raise InvalidRequest("STL-10: labels in the files must be 1 to 10", FIELD)
        return images.reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2), labels[:, 0] - 1
