"""Arrays as people have them: read as they are meant, or refused by name and index with what to
do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.findings.labels import score_labels
from shared.ml.samples import class_names, open_dataset
from shared.plugin_ref import PluginRef

N = 40
CYCLE = np.arange(N) % 4


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    return tmp_path


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, *shape), dtype=np.uint8)


def write(root: Path, **arrays: np.ndarray) -> None:
    np.savez(root / "own.npz", **arrays)


def own(**params: Any) -> Any:
    return open_dataset(PluginRef(name="npz", params={"path": "own.npz", **params}))


def refusal(**params: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        own(**params).load("train")
    assert caught.value.field == "params.dataset.params.path"
    assert "own.npz" in caught.value.message
    return caught.value.message


def pairs(dataset: Any) -> list[tuple[bytes, str]]:
    """Every sample with the name of its class, in whichever split."""
    names = class_names(dataset)
    found = []
    for split in ("train", "test"):
        images, labels = dataset.load(split)
        found += [
            ((image * 255).round().to(torch.uint8).numpy().tobytes(), names[label])
            for image, label in zip(images, labels.tolist(), strict=True)
        ]
    return sorted(found)


def meant(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, str]]:
    """Of images uint8 [N, C, H, W]."""
    return sorted(
        (image.tobytes(), str(label)) for image, label in zip(images, labels.tolist(), strict=True)
    )


@pytest.mark.parametrize("labels", [CYCLE, CYCLE + 1, CYCLE * 3 + 5, CYCLE * 70_000])
@pytest.mark.parametrize("dtype", [np.uint32, np.int64, ">i4"])
def test_labels_that_start_elsewhere_or_leave_gaps_are_as_many_classes_as_occur(
    root: Path, labels: np.ndarray, dtype: Any
) -> None:
    images = pixels(3, 9, 9)
    write(root, images=images, labels=labels.astype(dtype))
    dataset = own()
    assert dataset.num_classes == 4
    assert class_names(dataset) == tuple(str(label) for label in labels[:4])
    assert pairs(dataset) == meant(images, labels)
    assert dataset.load("train").labels.unique().tolist() == [0, 1, 2, 3]  # none is made up
    assert {*dataset.load("test").labels.tolist()} <= {0, 1, 2, 3}


def test_no_class_that_is_not_there_enters_a_baseline(root: Path) -> None:
    write(root, images=pixels(9, 9), labels=CYCLE * 100 + 1)
    dataset = own()
    labels = dataset.load("test").labels
    scores = score_labels(labels[:, None], labels[:, None], dataset.num_classes, labels)
    assert scores["label_accuracy"]["baselines"]["uniform_guess"] == 0.25


def test_no_class_is_in_the_drawn_test_split_alone(root: Path) -> None:
    labels = np.where(np.arange(N) < 30, 0, np.arange(N))  # ten classes of one sample each
    images = pixels(1, 9, 9)
    write(root, images=images, labels=labels)
    dataset = own()
    assert dataset.load("train").labels.unique().tolist() == list(range(11))
    assert pairs(dataset) == meant(images, labels)
    assert len(dataset.load("test").labels)


def test_one_class_is_refused(root: Path) -> None:
    write(root, images=pixels(9, 9), labels=np.full(N, 3))
    assert "labels holds only one class" in refusal()


def test_a_class_that_only_the_test_arrays_have_is_refused(root: Path) -> None:
    write(
        root, images=pixels(9, 9), labels=CYCLE % 2, test_images=pixels(9, 9), test_labels=CYCLE % 3
    )
    assert "test_labels[2] is of a class that labels does not have" in refusal()


def test_labels_in_a_column_are_taken_and_one_hot_is_refused_with_advice(root: Path) -> None:
    images = pixels(1, 9, 9)
    write(root, images=images, labels=CYCLE[:, None])
    assert pairs(own()) == meant(images, CYCLE)
    write(root, images=images, labels=np.eye(4, dtype=np.int64)[CYCLE])
    assert "one-hot, use labels.argmax(1)" in refusal()


@pytest.mark.parametrize("labels", [CYCLE.astype(float), CYCLE.astype(bool), CYCLE.astype("U3")])
def test_labels_that_are_no_whole_numbers_are_refused(root: Path, labels: np.ndarray) -> None:
    write(root, images=pixels(9, 9), labels=labels)
    assert "labels" in refusal()


def test_labels_that_count_the_samples_are_refused(root: Path) -> None:
    write(root, images=pixels(9, 9), labels=np.arange(N))
    assert "look like measurements or sample numbers" in refusal()


def test_channels_may_be_last(root: Path) -> None:
    images = pixels(9, 10, 3)
    write(root, images=images, labels=CYCLE)
    dataset = own()
    assert dataset.input_shape == (3, 9, 10)
    assert pairs(dataset) == meant(images.transpose(0, 3, 1, 2), CYCLE)
    write(root, images=(images / 255.0).astype(np.float32), labels=CYCLE)
    assert pairs(own()) == meant(images.transpose(0, 3, 1, 2), CYCLE)


def test_a_shape_that_could_be_either_is_refused_and_a_parameter_says(root: Path) -> None:
    images = pixels(3, 9, 3)
    write(root, images=images, labels=CYCLE)
    assert "channels could be first or last: set the parameter channels" in refusal()
    assert own(channels="first").input_shape == (3, 9, 3)
    assert pairs(own(channels="last")) == meant(images.transpose(0, 3, 1, 2), CYCLE)
    write(root, images=pixels(3, 9, 9), labels=CYCLE)
    assert "(C in [N, C, H, W]" in refusal(channels="last")
    write(root, images=pixels(9, 9, 4), labels=CYCLE)
    assert "remove the fourth channel, alpha" in refusal()


def test_names_of_keras_are_taken(root: Path) -> None:
    images, tested = pixels(9, 9, 3), pixels(9, 9, 3)[:10]
    write(root, x_train=images, y_train=CYCLE[:, None], x_test=tested, y_test=CYCLE[:10, None])
    dataset = own()
    assert len(dataset.load("train").labels) == N
    both = [
        *meant(images.transpose(0, 3, 1, 2), CYCLE),
        *meant(tested.transpose(0, 3, 1, 2), CYCLE[:10]),
    ]
    assert pairs(dataset) == sorted(both)
    rows = np.random.default_rng(0).random((N, 5))
    write(root, x_train=rows, y_train=CYCLE)
    assert own().input_shape == (5, 1, 1)
    write(root, x_train=images, y_train=CYCLE, images=images, labels=CYCLE)
    assert "images and x_train" in refusal()
    write(root, pictures=images, y=CYCLE)
    assert "has no array 'images'; it contains pictures, y" in refusal()


GREY = pixels(9, 9)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (GREY.astype(float), "floats must be finite and in [0, 1]; divide by 255"),
        (GREY / 127.5 - 1, "(x + 1) / 2"),
        ((GREY / 255 - 0.5) / 0.2, "undo the normalisation"),
        (GREY / 255 / 255, "divided by 255 twice"),
        (GREY.astype(np.int64), "images.astype(numpy.uint8)"),
        ((GREY > 99).astype(np.uint8), "holds no value above 1: multiply by 255"),
        (GREY.reshape(N, 81), "must be [N, H, W]"),
        (GREY[:5], "at least ten"),
    ],
)
def test_values_in_another_range_are_refused_with_advice(
    root: Path, images: np.ndarray, words: str
) -> None:
    write(root, images=images, labels=CYCLE[: len(images)])
    assert words in refusal()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_reported_by_array_and_index(root: Path, bad: float) -> None:
    images = (GREY / 255).astype(np.float32)
    images[7, 2, 5] = bad
    write(root, images=images, labels=CYCLE)
    assert f"images[7, 2, 5] is {bad:g}" in refusal()
    rows = np.full((N, 6), 0.5)
    rows[3, 2] = bad
    write(root, features=rows, labels=CYCLE)
    assert "features" in refusal()
    assert "3" in refusal()


def test_what_rounding_put_beyond_one_is_one(root: Path) -> None:
    images = GREY / 255
    images[0, 0, 0], images[0, 0, 1] = 1.0000001, -1e-7
    write(root, images=images, labels=CYCLE)
    dataset = own()
    both = torch.cat([dataset.load("train").images, dataset.load("test").images])
    assert (both.min().item(), both.max().item()) == (0, 1)
    images[0, 0, 0] = 1.01
    write(root, images=images, labels=CYCLE)
    assert "images[0, 0, 0] is above 1" in refusal()


def test_arrays_in_another_order_of_bytes_or_axes_are_the_same(root: Path) -> None:
    images = pixels(3, 9, 9)
    write(root, images=np.asfortranarray(images), labels=CYCLE.astype(">i8"))
    assert pairs(own()) == meant(images, CYCLE)
    write(root, images=(images / 255).astype(">f8"), labels=CYCLE)
    assert pairs(own()) == meant(images, CYCLE)
