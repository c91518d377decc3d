"""The deleted, public and retained samples of a user who brings a model: .npz files, or zip archives of
pictures."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, model_validator

from shared.errors import InvalidRequest
from shared.ml.datasets import registry
from shared.ml.datasets._array_files import read_npz
from shared.ml.datasets._files import resolve_data_path
from shared.ml.datasets._numbered_pictures import is_zip, read_numbered_pictures
from shared.ml.datasets._own_arrays import Channels, read_images, read_labels
from shared.ml.datasets._statistics import ComputedStatistics
from shared.ml.samples import Samples, Split
from shared.plugin_ref import data_file_field
from shared.plugins import Params

FIELD = "params.dataset.params"


class OwnSamplesParams(Params):
    deleted: Annotated[str | None, data_file_field()] = Field(
        None,
        min_length=1,
        max_length=500,
        description="the .npz file of the deleted samples, in the order of their deletions: an "
        "upload (upload:SHA256), or a file in the data root; or a .zip of pictures in folders that "
        "are called by the number of their class; null: none are brought",
    )
    public: Annotated[str | None, data_file_field()] = Field(
        None,
        min_length=1,
        max_length=500,
        description="samples of the same kind that the model was not trained on, in such a file; "
        "null: none are brought",
    )
    retained: Annotated[str, data_file_field()] | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="an .npz file of samples that the model was trained on and that no deletion "
        "forgot; null: none are known",
    )
    num_classes: int = Field(
        ge=2, le=1000, description="classes of the model; labels are numbered from 0, as it does"
    )
    channels: Channels | None = Field(
        None, description="where the channels of images are; needed only if the shape is ambiguous"
    )
    size: int | None = Field(
        None, ge=8, le=224, description="pictures: height and width to which they are resized"
    )
    grey: bool = Field(False, description="pictures: one channel instead of red, green and blue")

    @model_validator(mode="after")
    def _require_some(self) -> OwnSamplesParams:
        if self.deleted is None and self.public is None:
            raise ValueError("name deleted or public samples, or leave the data set out")
        if self.retained is not None and self.deleted is None:
            raise ValueError("retained samples are of use beside deleted ones: name these too")
        return self


@registry.register(
    "own_samples",
    params=OwnSamplesParams,
    split_params={"train": "deleted", "test": "public"},
)
class OwnSamples(ComputedStatistics):
    """Deleted samples (the train split, with retained ones after them) and public samples (the test
    split), for models that you bring. Each file has `images` and `labels`; the split of a file that
    is not brought is empty.

    Images are [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3, either uint8 or floats in
    [0, 1]; labels are the class numbers of the model. A zip archive of CLASS/PICTURE is read as
    `image_folder` reads one; its pictures are in the natural order of their own names.
    """

    def __init__(self, params: OwnSamplesParams) -> None:
        self.params: OwnSamplesParams = params
        self._retained_count = 0  # known once the splits are read

    @cached_property
    def _splits(self) -> dict[Split, Samples]:
        brought = {
            name: self._read(name, path) for name, path in self._list_files() if path is not None
        }
        some = next(iter(brought.values()))
        for name, samples in brought.items():
            shapes = [list(one.images.shape[1:]) for one in (some, samples)]
            if shapes[0] == shapes[1]:
                continue
            raise InvalidRequest(
                f"the deleted samples are {shapes[0]}, but the {name} ones {shapes[1]}: bring both "
                "in the shape that the model takes",
                f"{FIELD}.{name}",
            )
        self._retained_count = len(brought["retained"].labels) if "retained" in brought else 0
        train = [brought[name] for name in ("deleted", "retained") if name in brought]
        return {
            "train": Samples(*(torch.cat(pair) for pair in zip(*train, strict=True)))
            if train
            else some.pick([]),
            "test": brought.get("public", some.pick([])),
        }

    def _list_files(self) -> list[tuple[str, str | None]]:
        params = self.params
        return [
            ("deleted", params.deleted), ("public", params.public), ("retained", params.retained),
        ]  # fmt: skip

    def _read(self, name: str, path: str) -> Samples:
        field = f"{FIELD}.{name}"
        try:
            samples = self._read_file(resolve_data_path(path, field), field)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name} samples: {error.message}", error.field) from error
        if int(samples.labels.max()) >= self.params.num_classes:
            raise InvalidRequest(
                f"{name} samples: a label is beyond the {self.params.num_classes} classes of the "
                "model, which are numbered from 0: number them as in training",
                field,
            )
        return samples

    def _read_file(self, path: Path, field: str) -> Samples:
        params = self.params
        if is_zip(path, field):
            return read_numbered_pictures(path, params.size, params.grey, field)
        arrays = read_npz(path, field, _choose_arrays)
        images = read_images(arrays["images"], "images", params.channels, field, fewest=1)
        labels = read_labels(arrays["labels"], "labels", len(images), field)
        return Samples(images, torch.from_numpy(labels))

    @property
    def retained_from(self) -> int:
        """The number of deleted samples: retained ones come after them in the train split."""
        return len(self._splits["train"].labels) - self._retained_count

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self._splits["train"].images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return self.params.num_classes

    def load(self, split: Split) -> Samples:
        """The deleted samples and the retained ones after them, or the public ones.

        Raises:
            InvalidRequest: no such file, not an .npz, or arrays that are not as described.
        """
        return self._splits[split]


def _choose_arrays(_available: Collection[str]) -> list[str]:
    return ["images", "labels"]
