"""Fashion-MNIST, from its four idx files."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from shared.errors import InvalidRequest
from shared.ml.datasets import _downloads as downloads
from shared.ml.datasets import registry
from shared.ml.datasets._array_files import has_idx, read_idx
from shared.ml.datasets._files import find_data_path, get_data_root, resolve_data_path
from shared.ml.samples import Samples, Split
from shared.plugin_ref import data_file_field
from shared.plugins import Params

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
ALL_FILES = FILES["train"] + FILES["test"]
USER_FOLDER = "fashion_mnist"  # the user's, in the data root
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
MD5 = {  # of the packed files there
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
# of the authors' files without their headers: packages and downloads must match
SHA256 = {
    "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}


class FashionMNISTParams(Params):
    folder: Annotated[str | None, data_file_field()] = Field(
        None,
        min_length=1,
        max_length=500,
        description="folder of the idx files, inside the data root",
    )
    download: bool = Field(
        True, description="whether to download from the authors' server if no file is found"
    )


@registry.register(
    "fashion_mnist",
    params=FashionMNISTParams,
    source="Xiao et al. 2017, arXiv 1708.07747",
    data_files=(USER_FOLDER,),
    input_shape=(1, 28, 28),
    num_classes=10,
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
            InvalidRequest: they are not available or not as expected.
        """
        user_folder = self._find_user_folder()
        folder = user_folder or self._find_or_download()
        root = DEBIAN_FOLDER if folder == DEBIAN_FOLDER else get_data_root()
        images, labels = (
            read_idx(folder, name, item, root)
            for name, item in zip(FILES[split], ((28, 28), ()), strict=True)
        )
        for name, array in zip(FILES[split], (images, labels), strict=True):
            if user_folder is None and hashlib.sha256(array.tobytes()).hexdigest() != SHA256[name]:
                raise InvalidRequest(
                    f"Fashion-MNIST: {name} in {folder.name}/ differs from the authors' file",
                    "params.dataset",
                )
        if labels.shape != images.shape[:1]:
            raise InvalidRequest(
                "Fashion-MNIST: images must be [N, 28, 28] and labels [N]", "params.dataset"
            )
        if labels.max(initial=0) >= self.num_classes:
            raise InvalidRequest("Fashion-MNIST: labels must be 0 to 9", "params.dataset")
        grey = torch.from_numpy(images).float().div_(255).unsqueeze(1)
        return Samples(grey, torch.from_numpy(labels).long())

    def _find_user_folder(self) -> Path | None:
        """The user's folder, if there is one."""
        if self.params.folder is not None:
            folder = resolve_data_path(self.params.folder, "params.dataset.params.folder")
            if not has_idx(folder, ALL_FILES):
                raise InvalidRequest(
                    f"{self.params.folder!r} does not contain all of {', '.join(ALL_FILES)} (or "
                    ".gz)",
                    "params.dataset.params.folder",
                )
            return folder
        return find_data_path(
            [USER_FOLDER], "params.dataset", lambda folder: has_idx(folder, ALL_FILES)
        )

    def _find_or_download(self) -> Path:
        """The Debian package's folder, or a download."""
        if has_idx(DEBIAN_FOLDER, ALL_FILES):
            return DEBIAN_FOLDER
        folder = get_data_root() / downloads.FOLDER / USER_FOLDER
        if self.params.download and not has_idx(folder, ALL_FILES):
            # whatever the cause, the message below says what to do
            with suppress(OSError, ValueError):
                for name in ALL_FILES:
                    downloads.fetch(f"{URL}/{name}.gz", MD5[name], folder, f"{name}.gz")
        if has_idx(folder, ALL_FILES):
            return folder
        raise InvalidRequest(
            "Fashion-MNIST is not on this worker and could not be downloaded: put its four idx "
            "files in fashion_mnist/ under PALIMPSEST_DATA_ROOT, or install Debian's "
            "dataset-fashion-mnist",
            "params.dataset",
        )
