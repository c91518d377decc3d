"""The user's own pictures: one folder per class."""

from __future__ import annotations

import math
from functools import cached_property, partial
from pathlib import PurePath
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from shared.errors import InvalidRequest
from shared.forget_sets import Kind
from shared.ml.datasets import registry
from shared.ml.datasets._files import MAX_BYTES, resolve_data_path
from shared.ml.datasets._naming import find_lookalikes, natural_key, normalise_name
from shared.ml.datasets._picture_trees import PictureTree, open_picture_tree
from shared.ml.datasets._pictures import read_picture
from shared.ml.datasets._records import DeletableFiles, Recorded
from shared.ml.samples import Samples, Split
from shared.ml.splits import split_train_and_test
from shared.plugin_ref import data_file_field

FIELD = "params.dataset.params.path"
MAX_CLASSES = 1000
SPLITS = ("train", "test")
SPLIT_WORDS = frozenset(
    {
        *SPLITS,
        "training",
        "testing",
        "val",
        "valid",
        "validation",
        "dev",
        "eval",
        "evaluation",
        "holdout",
    }
)

LabelledFiles = tuple[list[PurePath], torch.Tensor]


class ImageFolderParams(DeletableFiles):
    path: Annotated[str, data_file_field()] = Field(
        min_length=1,
        max_length=500,
        description="the folder of class folders, inside the data root; or a zip archive of it, "
        "there or uploaded (upload:SHA256)",
    )
    size: int = Field(
        32, ge=8, le=224, description="height and width in pixels to which every picture is resized"
    )
    grey: bool = Field(False, description="one channel instead of red, green and blue")
    background: str | None = Field(
        None,
        max_length=7,
        pattern="^#[0-9a-fA-F]{6}$",
        description=(
            "colour behind transparent parts, such as '#ffffff'; without it, partly transparent "
            "pictures are refused"
        ),
    )


@registry.register("image_folder", params=ImageFolderParams)
class ImageFolder(Recorded):
    """Pictures in class folders: the middle square of each, resized to `size`; classes in natural
    order (1, 2, 10).

    Either `path`/CLASS/PICTURE, of which a fifth of each class, drawn with a fixed seed, is the
    test split, or `path`/train/CLASS/PICTURE and `path`/test/CLASS/PICTURE; no other names of
    splits count. PNG, JPEG, WebP, BMP or PPM of one frame, at most 64 MiB and 50 million pixels per
    file. Names that begin with a dot, `__MACOSX`, `Thumbs.db` and `desktop.ini` are left out;
    links, empty class folders and files that are not pictures are refused. A zip archive is read
    in place, and may hold all this in one folder.
    """

    def __init__(self, params: ImageFolderParams) -> None:
        self.params: ImageFolderParams = params

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (1 if self.params.grey else 3), self.params.size, self.params.size

    @property
    def num_classes(self) -> int:
        return len(self._classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the folders."""
        return tuple(self._classes)

    def load(self, split: Split) -> Samples:
        """Decode the split's pictures, in the order of class and name.

        Raises:
            InvalidRequest: no such folder, fewer than two classes or ten pictures, or one cannot be
                read.
        """
        files, labels = self._files_by_split[split]
        shape = (len(files), *self.input_shape)
        if math.prod(shape) > MAX_BYTES:
            raise InvalidRequest(
                f"{len(files)} pictures of {shape[1:]} do not fit into memory: lower size", FIELD
            )
        params = self.params
        pixels = np.empty(shape, np.uint8)
        with self._tree.reading() as open_picture:
            for place, file in enumerate(files):
                pixels[place] = read_picture(
                    partial(open_picture, file),
                    self._tree.describe(file),
                    params.size,
                    params.grey,
                    params.background,
                    FIELD,
                )
        return Samples(torch.from_numpy(pixels).float().div_(255), labels)

    @cached_property
    def _tree(self) -> PictureTree:
        path = resolve_data_path(self.params.path, FIELD)
        return open_picture_tree(path, self.params.path, FIELD)

    @property
    def _root(self) -> PurePath:
        return self._tree.root

    @cached_property
    def _has_test_split(self) -> bool:
        """Whether the folder has its own test split.

        Raises:
            InvalidRequest: it has splits with other names, or further ones.
        """
        entries = self._list_entries(self._root)
        splits = [entry for entry in entries if entry.name.casefold() in SPLIT_WORDS]
        if len(splits) < 2 and not any(self._holds_folders(entry) for entry in splits):
            return False  # a train may be a class of vehicles
        other = next((entry for entry in entries if entry.name not in SPLITS), None)
        if other is not None or len(splits) < len(SPLITS):
            there = ", ".join(repr(entry.name) for entry in splits)
            raise InvalidRequest(
                f"{self.params.path!r} holds {there}, but a data set with splits must hold exactly "
                "the folders train and test: rename the folders, or set path to one of "
                f"them{self._but(other)}",
                FIELD,
            )
        return True

    def _but(self, other: PurePath | None) -> str:
        return "" if other is None else f" ({self._quote_path(other)} is neither)"

    @cached_property
    def _classes(self) -> list[str]:
        above = self._root / "train" if self._has_test_split else self._root
        folders = self._list_entries(above)
        for folder in folders:
            if not self._tree.is_dir(folder):
                raise InvalidRequest(
                    f"{self._quote_path(folder)} is not a folder: put the pictures of each class "
                    "into a separate folder",
                    FIELD,
                )
            if not folder.name.isprintable():
                raise InvalidRequest(
                    f"the name of the folder {self._quote_path(folder)} is not text: rename it",
                    FIELD,
                )
        names = sorted((folder.name for folder in folders), key=natural_key)
        if (pair := find_lookalikes(names)) is not None:
            raise InvalidRequest(
                f"{self._quote_path(above / pair[0])} and {self._quote_path(above / pair[1])} "
                "differ only in case, blanks or Unicode form: merge them, or rename one",
                FIELD,
            )
        if len(folders) == 1 and self._holds_folders(folders[0]):
            raise InvalidRequest(
                f"{self._quote_path(above)} holds a single folder with further folders in it: set "
                f"path: {self.params.path}/{folders[0].name}",
                FIELD,
            )
        if not 2 <= len(names) <= MAX_CLASSES:
            raise InvalidRequest(
                f"{self._quote_path(above)} must hold 2 to {MAX_CLASSES} class folders, got "
                f"{len(names)}",
                FIELD,
            )
        return names

    @cached_property
    def _files_by_split(self) -> dict[str, LabelledFiles]:
        files, labels = self._nameable
        if not self._has_test_split:
            return {split: (_pick(files, rows), labels[rows]) for split, rows in self._rows.items()}
        rows = self._rows["train"]
        return {
            "train": (_pick(files, rows), labels[rows]),
            "test": self._list_files(self._root / "test"),
        }

    @cached_property
    def _nameable(self) -> LabelledFiles:
        """All files that deletions may name: all files, or those of train."""
        return self._list_files(self._root / "train" if self._has_test_split else self._root)

    @cached_property
    def _rows(self) -> dict[str, torch.Tensor]:
        """For each split, the numbers of its files among `_nameable`."""
        _, labels = self._nameable
        every = torch.arange(len(labels))
        splits = {"train": every, "test": every[:0]}
        return self._arrange(
            splits if self._has_test_split else split_train_and_test(labels, "image_folder test")
        )

    @property
    def origins(self) -> torch.Tensor:
        """The file of each training sample, in the order of classes and names."""
        return self._rows["train"]

    @property
    def records(self) -> int:
        return len(self._nameable[0])

    def number(self, kind: Kind, name: int | str, field: str) -> int:
        if kind != "files":
            raise InvalidRequest(
                f"pictures cannot be named by {kind}: name files, such as CLASS/PICTURE", field
            )
        number = self._by_name.get(str(name))
        if number is None:
            where = (
                "train/CLASS/PICTURE (the pictures in test are public and cannot be deleted)"
                if self._has_test_split
                else "CLASS/PICTURE"
            )
            alike = next(
                (
                    there
                    for there in self._by_name
                    if normalise_name(there) == normalise_name(str(name))
                ),
                None,
            )
            hint = f" ({alike!r} is nearly the same)" if alike else ""
            raise InvalidRequest(
                f"{self.params.path!r} has no picture {name!r}{hint}: write {where}", field
            )
        return number

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {
            file.relative_to(self._root).as_posix(): number
            for number, file in enumerate(self._nameable[0])
        }

    def _list_files(self, root: PurePath) -> LabelledFiles:
        files: list[PurePath] = []
        labels: list[int] = []
        for folder in sorted(self._list_entries(root), key=lambda folder: natural_key(folder.name)):
            if folder.name not in self._classes or not self._tree.is_dir(folder):
                alike = next(
                    (
                        name
                        for name in self._classes
                        if normalise_name(name) == normalise_name(folder.name)
                    ),
                    None,
                )
                hint = f" ({alike!r} differs only in case, blanks or Unicode form)" if alike else ""
                raise InvalidRequest(
                    f"{self._quote_path(folder)} is not one of the class folders of train{hint}",
                    FIELD,
                )
            pictures = self._list_entries(folder)
            if not pictures:
                raise InvalidRequest(
                    f"{self._quote_path(folder)} is empty: remove it, or put the pictures of that "
                    "class into it",
                    FIELD,
                )
            if (
                below := next((one for one in pictures if self._tree.is_dir(one)), None)
            ) is not None:
                raise InvalidRequest(
                    f"{self._quote_path(below)} is a folder inside a class folder: put its "
                    f"pictures into {self._quote_path(folder)}, or make it a separate class",
                    FIELD,
                )
            files += pictures
            labels += [self._classes.index(folder.name)] * len(pictures)
        if len(files) < 10:
            raise InvalidRequest(
                f"{self._quote_path(root)} must hold at least ten pictures, got {len(files)}", FIELD
            )
        return files, torch.tensor(labels)

    def _quote_path(self, path: PurePath) -> str:
        return repr(self._tree.describe(path))

    def _holds_folders(self, folder: PurePath) -> bool:
        return self._tree.is_dir(folder) and any(
            self._tree.is_dir(entry) for entry in self._list_entries(folder)
        )

    def _list_entries(self, folder: PurePath) -> list[PurePath]:
        return self._tree.list_entries(folder)


def _pick(files: list[PurePath], places: torch.Tensor) -> list[PurePath]:
    return [files[place] for place in places.tolist()]
