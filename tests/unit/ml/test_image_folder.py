"""Pictures in class folders: read as they are, brought to a size; hostile files refused before they
are decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.errors import InvalidRequest
from shared.ml.datasets import _picture_trees, image_folder
from shared.ml.datasets._statistics import compute_channel_statistics
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef


def write(
    folder: Path, n: int = 10, size: tuple[int, int] = (9, 9), suffix: str = "png"
) -> np.ndarray:
    """Pictures 00, 01, ... of random pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(folder.name)).integers(
        0, 256, (n, size[1], size[0], 3), dtype=np.uint8
    )
    for place, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{place:02}.{suffix}")
    return pixels


def opened(**params: Any) -> Any:
    return open_dataset(
        PluginRef(name="image_folder", params={"path": "mine", "size": 9, **params})
    )


def test_pictures_of_the_asked_size_come_back_pixel_for_pixel(root: Path) -> None:
    cats, birds = write(root / "mine" / "cats"), write(root / "mine" / "birds", n=15)
    (root / "mine" / ".DS_Store").write_bytes(b"x")
    (root / "mine" / "cats" / ".hidden").write_bytes(b"x")
    dataset = opened()
    train, test = dataset.load("train"), dataset.load("test")
    assert (dataset.input_shape, dataset.num_classes) == ((3, 9, 9), 2)
    # birds before cats
    assert (train.labels.bincount().tolist(), test.labels.bincount().tolist()) == ([12, 8], [3, 2])
    assert (dataset.mean, dataset.std) == compute_channel_statistics(train.images)
    want = {
        (0, picture.tobytes()) for picture in birds.transpose(0, 3, 1, 2)
    } | {(1, picture.tobytes()) for picture in cats.transpose(0, 3, 1, 2)}  # fmt: skip
    got = {
        (label, (image * 255).round().to(torch.uint8).numpy().tobytes())
        for images, labels in (train, test)
        for image, label in zip(images, labels.tolist(), strict=True)
    }
    assert got == want
    assert torch.equal(opened().load("test").images, test.images)


def test_the_middle_square_is_brought_to_the_size_and_turned_upright(root: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200  # the middle square is bright all over
    for kind in ("a", "b"):
        (root / "mine" / kind).mkdir(parents=True)
        for place in range(5):
            Image.fromarray(wide).save(root / "mine" / kind / f"{place}.png")
    upside = np.zeros((8, 8, 3), np.uint8)
    upside[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # lies on its head
    Image.fromarray(upside).save(root / "mine" / "a" / "9.jpg", exif=exif, quality=100)
    dataset = opened(size=8, grey=True)
    both = torch.cat([dataset.load("train").images, dataset.load("test").images])
    assert dataset.input_shape == (1, 8, 8)
    turned = [image for image in both if image.unique().numel() > 1]
    assert len(turned) == 1
    assert turned[0][0, :3].max() < 0.1
    assert turned[0][0, 5:].min() > 0.9
    assert sum(torch.equal(image, torch.full((1, 8, 8), 200 / 255)) for image in both) == 10


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "ppm"])
def test_formats_by_their_content(root: Path, suffix: str) -> None:
    for kind in ("a", "b"):
        write(root / "mine" / kind, suffix=suffix)
    (root / "mine" / "a" / f"00.{suffix}").rename(root / "mine" / "a" / "no suffix")
    assert len(opened().load("train").labels) == 16


def test_train_and_test_folders_are_the_splits(root: Path) -> None:
    for split, n in (("train", 12), ("test", 6)):
        for kind in ("a", "b"):
            write(root / "mine" / split / kind, n)
    dataset = opened()
    assert dataset.load("train").labels.bincount().tolist() == [12, 12]
    assert dataset.load("test").labels.bincount().tolist() == [6, 6]
    write(root / "mine" / "test" / "c", 6)
    with pytest.raises(InvalidRequest, match="'mine/test/c' is not one of the class folders"):
        opened().load("test")


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims so many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "is not a PNG"),
        (b"just words", "is not a PNG"),
        (claiming(10_000, 6_000), "10000 x 6000 pixels"),
        (claiming(60_000, 60_000), "cannot be read as a picture|pixels"),
        (claiming(100, 100), "cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a PNG"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_hostile_picture_is_refused_by_name(root: Path, body: bytes, word: str) -> None:
    for kind in ("a", "b"):
        write(root / "mine" / kind)
    for place in range(10):  # whichever split is asked for
        (root / "mine" / "b" / f"{place:02}.png").write_bytes(body)
    for split in ("train", "test"):
        with pytest.raises(InvalidRequest, match=word) as caught:
            opened().load(split)
        assert "'mine/b/0" in caught.value.message
        assert caught.value.field == "params.dataset.params.path"


def test_what_is_cut_short_of_16_bits_or_too_large_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("a", "b"):
        write(root / "mine" / kind, size=(40, 40))
    files = sorted((root / "mine" / "b").iterdir())
    whole = files[0].read_bytes()
    for file in files:
        file.write_bytes(whole[:-900])
    with pytest.raises(InvalidRequest, match="cannot be read as a picture"):
        opened().load("train")
    for file in files:
        Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(file)
    with pytest.raises(InvalidRequest, match="only 8 bits per channel"):
        opened().load("train")
    monkeypatch.setattr(_picture_trees, "MAX_PICTURE_BYTES", 100)
    with pytest.raises(InvalidRequest, match="is larger than 0 MiB"):
        opened().load("train")


def test_links_are_refused_as_they_could_lead_out(root: Path) -> None:
    for kind in ("a", "b"):
        write(root / "mine" / kind)
    write(root.parent / "outside")
    (root / "mine" / "a" / "link.png").symlink_to(root.parent / "outside" / "00.png")
    with pytest.raises(InvalidRequest, match=r"'mine/a/link\.png' is a symbolic link"):
        opened().load("train")
    (root / "mine" / "a" / "link.png").unlink()
    (root / "mine" / "c").symlink_to(root.parent / "outside")
    with pytest.raises(InvalidRequest, match="'mine/c' is a symbolic link"):
        opened().load("train")
    (root / "mine" / "c").unlink()
    for split in ("train", "test"):
        (root / "mine" / split).symlink_to(root.parent / "outside")
    with pytest.raises(InvalidRequest, match="is a symbolic link"):
        opened().load("train")
    with pytest.raises(InvalidRequest, match="stay inside"):
        opened(path="../outside").load("train")


def test_too_few_classes_or_pictures_no_folder_and_too_much_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "mine" / "a", 4)
    with pytest.raises(InvalidRequest, match="2 to 1000 class folders"):
        opened().load("train")
    write(root / "mine" / "b", 4)
    with pytest.raises(InvalidRequest, match="at least ten pictures, got 8"):
        opened().load("train")
    with pytest.raises(InvalidRequest, match="not a zip archive"):
        opened(path="mine/a/00.png").load("train")
    write(root / "mine" / "b", 10)
    (root / "mine" / "notes.txt").write_text("x")
    with pytest.raises(InvalidRequest, match=r"'mine/notes\.txt' is not a folder"):
        opened().load("train")
    (root / "mine" / "notes.txt").unlink()
    monkeypatch.setattr(image_folder, "MAX_BYTES", 1000)
    with pytest.raises(InvalidRequest, match="lower size"):
        opened().load("train")
