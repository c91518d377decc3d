"""The deleted samples and public ones of a user who brings a model: two .npz files, or zip archives
of pictures."""

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
        return self


@registry.register(
    "own_samples",
    params=OwnSamplesParams,
    split_params={"train": "deleted", "test": "public"},
)
class OwnSamples(ComputedStatistics):
    """Deleted samples (the train split) and public samples (the test split), for models that you
    bring. Each file has `images` and `labels`; the split of a file that is not brought is empty.

    Images are [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3, either uint8 or floats in
    [0, 1]; labels are the class numbers of the model. A zip archive of CLASS/PICTURE is read as
    `image_folder` reads one; its pictures are in the natural order of their own names.
    """

    def __init__(self, params: OwnSamplesParams) -> None:
        self.params: OwnSamplesParams = params

    @cached_property
    def _splits(self) -> dict[Split, Samples]:
        brought: dict[Split, Samples] = {
            split: self._read(name, path)
            for split, name, path in self._list_files()
            if path is not None
        }
        shapes = [list(samples.images.shape[1:]) for samples in brought.values()]
        if len(shapes) == 2 and shapes[0] != shapes[1]:
            raise InvalidRequest(
                f"the deleted samples are {shapes[0]}, but the public ones {shapes[1]}: bring both "
                "in the shape that the model takes",
                f"{FIELD}.public",
            )
        some = next(iter(brought.values()))
        return {split: brought.get(split, some.pick([])) for split, *_ in self._list_files()}

    def _list_files(self) -> list[tuple[Split, str, str | None]]:
        return [("train", "deleted", self.params.deleted), ("test", "public", self.params.public)]

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
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self._splits["train"].images.shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return self.params.num_classes

    def load(self, split: Split) -> Samples:
        """The deleted samples, or the public ones.

        Raises:
            InvalidRequest: no such file, not an .npz, or arrays that are not as described.
        """
        return self._splits[split]


def _choose_arrays(_available: Collection[str]) -> list[str]:
    return ["images", "labels"]
