"""The deleted samples, public and retained ones of a user who brings a model, as .npz files."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field

from shared.errors import InvalidRequest
from shared.ml.datasets import registry
from shared.ml.datasets._array_files import read_npz
from shared.ml.datasets._files import resolve_data_path
from shared.ml.datasets._own_arrays import Channels, read_images, read_labels
from shared.ml.datasets._statistics import ComputedStatistics
from shared.ml.samples import Samples, Split
from shared.plugin_ref import data_file_field
from shared.plugins import Params

FIELD = "params.dataset.params"


class OwnSamplesParams(Params):
    deleted: Annotated[str, data_file_field()] = Field(
        min_length=1,
        max_length=500,
        description="the .npz file of the deleted samples, in the order of their deletions: an "
        "upload (upload:SHA256), or a file in the data root",
    )
    public: Annotated[str, data_file_field()] = Field(
        min_length=1,
        max_length=500,
        description="an .npz file of samples of the same kind that the model was not trained on",
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


@registry.register("own_samples", params=OwnSamplesParams)
class OwnSamples(ComputedStatistics):
    """Deleted samples (the train split, with retained ones after them) and public samples (the test
    split), for models that you bring. Each file has `images` and `labels`.

    Images are [N, H, W], [N, C, H, W] or [N, H, W, C] with C = 1 or 3, either uint8 or floats in
    [0, 1]; labels are the class numbers of the model.
    """

    def __init__(self, params: OwnSamplesParams) -> None:
        self.params: OwnSamplesParams = params

    @cached_property
    def _splits(self) -> dict[Split, Samples]:
        deleted = self._deleted
        if self.params.retained is None:
            return {"train": deleted, "test": self._read_alike("public", self.params.public)}
        retained = self._read_alike("retained", self.params.retained)
        return {
            "train": Samples(
                torch.cat([deleted.images, retained.images]),
                torch.cat([deleted.labels, retained.labels]),
            ),
            "test": self._read_alike("public", self.params.public),
        }

    @cached_property
    def _deleted(self) -> Samples:
        return self._read("deleted", self.params.deleted)

    def _read_alike(self, name: str, path: str) -> Samples:
        """Samples of the shape of the deleted ones."""
        samples = self._read(name, path)
        shapes = [list(one.images.shape[1:]) for one in (self._deleted, samples)]
        if shapes[0] != shapes[1]:
            raise InvalidRequest(
                f"the deleted samples are {shapes[0]}, but the {name} ones {shapes[1]}: bring both "
                "in the shape that the model takes",
                f"{FIELD}.{name}",
            )
        return samples

    def _read(self, name: str, path: str) -> Samples:
        field = f"{FIELD}.{name}"
        try:
            arrays = read_npz(resolve_data_path(path, field), field, _choose_arrays)
            images = read_images(arrays["images"], "images", self.params.channels, field, fewest=1)
            labels = torch.from_numpy(read_labels(arrays["labels"], "labels", len(images), field))
        except InvalidRequest as error:
            raise InvalidRequest(f"{name} samples: {error.message}", error.field) from error
        if int(labels.max()) >= self.params.num_classes:
            raise InvalidRequest(
                f"{name} samples: a label is beyond the {self.params.num_classes} classes of the "
                "model, which are numbered from 0: number them as in training",
                field,
            )
        return Samples(images, labels)

    @property
    def retained_from(self) -> int:
        """The number of deleted samples: retained ones come after them in the train split."""
        return len(self._deleted.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self._deleted.images.shape
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
