"""Folders of pictures as people have them: clutter left out, classes by name, and nothing dropped
in silence."""

from __future__ import annotations

import io
import struct
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data_files import DataRoot
from shared.errors import InvalidRequest
from shared.ml.samples import class_names, open_dataset
from shared.plugin_ref import PluginRef

SIZE = 9
RED = (255, 0, 0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    return tmp_path


def write(folder: Path, n: int = 10, shade: int = 100) -> None:
    """Pictures of one shade."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(n):
        Image.new("RGB", (SIZE, SIZE), (shade, shade, shade)).save(folder / f"{place:04}.png")


def own(**params: Any) -> Any:
    return open_dataset(
        PluginRef(name="image_folder", params={"path": "mine", "size": SIZE, **params})
    )


def load_all(dataset: Any) -> dict[str, set[int]]:
    """By the name of each class the shades of its pictures, in both splits together."""
    names, found = class_names(dataset), dict[str, set[int]]()
    for split in ("train", "test"):
        images, labels = dataset.load(split)
        for image, label in zip(images, labels.tolist(), strict=True):
            found.setdefault(names[label], set()).update(
                (image * 255).round().int().unique().tolist()
            )
    return found


def refusal(**params: Any) -> str:
    dataset = own(**params)
    with pytest.raises(InvalidRequest) as caught:
        [dataset.load(split) for split in ("train", "test")]
    assert caught.value.field == "params.dataset.params.path"
    assert "mine" in caught.value.message
    return caught.value.message


def test_classes_are_in_natural_order_and_each_keeps_its_name(root: Path) -> None:
    for shade, name in enumerate(["10", "2", "1", "x10", "x9"], start=1):
        write(root / "mine" / name, shade=10 * shade)
    dataset = own()
    assert class_names(dataset) == ("1", "2", "10", "x9", "x10")
    assert load_all(dataset) == {"10": {10}, "2": {20}, "1": {30}, "x10": {40}, "x9": {50}}


def test_what_file_managers_leave_behind_is_left_out_and_identifies_nothing(root: Path) -> None:
    for name in ("a", "b"):
        write(root / "mine" / name)
    before = DataRoot(root).compute_digest("mine", "x")
    write(root / "mine" / "__MACOSX" / "a")
    for clutter in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0001.png"):
        (root / "mine" / clutter).write_bytes(b"x")
        (root / "mine" / "a" / clutter).write_bytes(b"x")
    assert load_all(own()) == {"a": {100}, "b": {100}}
    assert DataRoot(root).compute_digest("mine", "x") == before


def test_an_empty_class_is_refused(root: Path) -> None:
    for name in ("a", "b"):
        write(root / "mine" / name)
    (root / "mine" / "c").mkdir()
    (root / "mine" / "c" / "Thumbs.db").write_bytes(b"x")
    assert "'mine/c' is empty: remove it" in refusal()


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val"),
        ("train", "test", "val"),
        ("Train", "Test"),
        ("training", "testing"),
        ("train",),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_splits_of_other_names_are_no_classes(
    root: Path, folders: tuple[str, ...], flat: bool
) -> None:
    if folders == ("train",) and flat:
        folders = ("train", "test")
    for split in folders:
        for name in ("cat", "dog"):
            write(root / "mine" / split / ("" if flat else name))
    told = refusal()
    if folders != ("train", "test"):
        assert "must hold exactly the folders train and test" in told
    if not flat:
        assert load_all(own(path=f"mine/{folders[0]}")) == {"cat": {100}, "dog": {100}}


def test_a_train_may_be_a_class_of_vehicles(root: Path) -> None:
    for name in ("bus", "train"):
        write(root / "mine" / name)
    assert class_names(own()) == ("bus", "train")


def test_a_folder_deeper_or_flatter_than_class_folders_is_refused(root: Path) -> None:
    for name in ("a", "b"):
        write(root / "mine" / "mine" / name)
    assert "set path: mine/mine" in refusal()
    assert class_names(own(path="mine/mine")) == ("a", "b")
    write(root / "mine" / "mine" / "a" / "more")
    with pytest.raises(
        InvalidRequest, match="'mine/mine/a/more' is a folder inside a class folder"
    ):
        own(path="mine/mine").load("train")
    write(root / "mine" / "mine" / "a" / "more", 0)
    assert "is not a folder: put the pictures of each class into a separate folder" in refusal(
        path="mine/mine/b"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("big cat", "big  cat")],
)
def test_classes_that_people_take_for_one_are_refused(root: Path, one: str, other: str) -> None:
    for name in (one, other):
        write(root / "mine" / name)
    assert "differ only in case, blanks or Unicode form" in refusal()


def test_a_class_of_test_in_another_unicode_form_is_reported(root: Path) -> None:
    for split, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("caf\u00e9", "tea"):
            write(root / "mine" / split / unicodedata.normalize(form, name))
    assert "is not one of the class folders of train ('caf\u00e9' differs only in case" in refusal()


def transparent(mode: str) -> bytes:
    """A picture whose left half is red, and whose right half is nothing."""
    picture = Image.new("RGBA", (SIZE + 1, SIZE + 1), (*RED, 255))
    picture.paste((0, 255, 0, 0), (5, 0, SIZE + 1, SIZE + 1))
    body = io.BytesIO()
    if mode == "P":
        picture = Image.new("P", picture.size, 0)
        picture.putpalette([*RED, 0, 255, 0])
        picture.paste(1, (5, 0, SIZE + 1, SIZE + 1))
        picture.save(body, "PNG", transparency=1)
    elif mode == "RGB":
        picture = Image.new("RGB", picture.size, RED)
        picture.paste((0, 255, 0), (5, 0, SIZE + 1, SIZE + 1))
        picture.save(body, "PNG", transparency=(0, 255, 0))
    elif mode == "WEBP":
        picture.save(body, "WEBP", lossless=True, exact=True)
    else:
        picture.convert(mode).save(body, "PNG")
    return body.getvalue()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "WEBP"])
def test_what_is_transparent_is_laid_on_a_stated_colour_or_refused_but_never_dropped(
    root: Path, mode: str
) -> None:
    for name in ("a", "b"):
        write(root / "mine" / name)
        for place in range(10):
            (root / "mine" / name / f"{place:04}.png").write_bytes(transparent(mode))
    assert "is partly transparent: set the parameter background" in refusal(size=10)
    image = own(size=10, background="#0000ff").load("train").images[0]
    assert image[:, 0, 9].tolist() == [0, 0, 1]
    left = (image[:, 0, 0] * 255).round().int().tolist()
    assert left == ([76] * 3 if mode == "LA" else [*RED])


def test_an_alpha_channel_that_hides_nothing_is_no_matter(root: Path) -> None:
    for name in ("a", "b"):
        write(root / "mine" / name)
        Image.new("RGBA", (SIZE, SIZE), (100, 100, 100, 255)).save(
            root / "mine" / name / "0000.png"
        )
    assert load_all(own()) == {"a": {100}, "b": {100}}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "MPO"])
def test_a_second_frame_is_refused(root: Path, kind: str) -> None:
    frames = [Image.new("RGB", (SIZE, SIZE), (shade, 0, 0)) for shade in (0, 255)]
    for name in ("a", "b"):
        write(root / "mine" / name)
        for place in range(10):
            frames[0].save(
                root / "mine" / name / f"{place:04}.png",
                kind,
                save_all=True,
                append_images=frames[1:],
            )
    assert "holds 2 pictures: save the one you mean" in refusal()


def with_broken_rational(orientation: int) -> bytes:
    """A JPEG, black above and white below, whose EXIF has 0 / 0 where a text should be, and a
    rational outside."""
    body = io.BytesIO()
    picture = Image.new("L", (16, 16), 0)
    picture.paste(255, (0, 8, 16, 16))
    nought = 8 + 2 + 3 * 12 + 4  # where the entries end
    tags = ((0x010E, 10, 1, nought), (0x0112, 3, 1, orientation), (0x011B, 5, 1, 60_000))
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    exif = (
        b"Exif\0\0II*\0"
        + struct.pack("<I", 8)
        + struct.pack("<H", 3)
        + entries
        + b"\0" * 4
        + b"\0" * 8
    )
    picture.save(body, "JPEG", exif=exif, quality=100)
    return body.getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 99])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_a_broken_rational_in_exif_is_ignored_and_how_it_was_held_is_not(
    root: Path, orientation: int
) -> None:
    for name in ("a", "b"):
        write(root / "mine" / name)
        for place in range(10):
            (root / "mine" / name / f"{place:04}.png").write_bytes(
                with_broken_rational(orientation)
            )
    image = own(size=16, grey=True).load("train").images[0, 0]
    theirs = np.zeros((16, 16))
    theirs[8:] = 1
    turned = {3: 2, 6: 3, 8: 1}.get(orientation, 0)
    assert torch.equal(image.round(), torch.from_numpy(np.rot90(theirs, turned).copy()).float())


def test_exif_that_is_no_exif_is_ignored(root: Path) -> None:
    for name in ("a", "b"):
        write(root / "mine" / name)
        body = io.BytesIO()
        Image.new("RGB", (SIZE, SIZE), (100, 100, 100)).save(
            body, "JPEG", exif=b"Exif\0\0rubbish", quality=100
        )
        (root / "mine" / name / "0000.png").write_bytes(body.getvalue())
    assert load_all(own()) == {"a": {100}, "b": {100}}
