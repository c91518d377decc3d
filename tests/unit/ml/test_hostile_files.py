"""Files that claim much, wait for ever or lead elsewhere are refused at once, with little
memory."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import InvalidRequest
from shared.ml.datasets import fashion_mnist
from shared.ml.datasets._files import open_file
from shared.ml.metrics.lpips import read_weights
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef
from tests.support.memory import measure_peak_memory
from tests.support.waiting import TIMEOUT_S

SECONDS, MIB = 1.0, 8.0  # CPU seconds; a refusal takes a hundredth of it


@contextmanager
def refused(root: Path, words: str) -> Iterator[None]:
    """Refused with these words, at once and without memory."""
    begun = time.process_time()
    with measure_peak_memory() as peak, pytest.raises(InvalidRequest, match=words) as caught:
        yield
    assert time.process_time() - begun < SECONDS
    assert peak.mib < MIB, f"{peak.mib:.0f} MiB"
    assert str(root) not in caught.value.message  # no path of the machine
    assert len(caught.value.message) < 500


def npz(path: str = "own.npz") -> Any:
    return open_dataset(PluginRef(name="npz", params={"path": path}))


def npy(
    shape: tuple[int, ...], dtype: str = "|u1", version: tuple[int, int] = (1, 0), padding: int = 0
) -> bytes:
    """The head of an .npy member."""
    text = (
        f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
        + b" " * padding
        + b"\n"
    )
    return (
        b"\x93NUMPY"
        + bytes(version)
        + struct.pack("<H" if version == (1, 0) else "<I", len(text))
        + text
    )


def zeros_of(member: Any, count: int) -> None:
    block = bytes(1 << 20)
    for begin in range(0, count, len(block)):
        member.write(block[: min(len(block), count - begin)])


def zipped(
    path: Path, *, zeros: int = 0, method: int = zipfile.ZIP_DEFLATED, **members: bytes
) -> None:
    """A zip with these members; so many zeros follow each head."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, head in {"labels": npy((0,), "<i8"), **members}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head)
                zeros_of(member, zeros if name != "labels" else 0)


def bomb(path: Path) -> None:
    """100 kB that are 100 MB of zeros: 1 GB once they are floats."""
    zipped(path, zeros=100 * 28 * 28 * 1300, images=npy((130_000, 28, 28)))
    assert path.stat().st_size < 120_000


def test_an_npz_of_zeros_is_refused_before_it_is_unpacked(root: Path) -> None:
    bomb(root / "own.npz")
    with refused(root, "'images' and 'labels' would unpack to more than 100 times"):
        npz().load("train")


def test_arrays_that_nobody_asked_for_are_not_read(root: Path) -> None:
    images, labels = np.arange(20 * 81, dtype=np.uint8).reshape(20, 9, 9), np.arange(20) % 4
    np.savez(root / "own.npz", images=images, labels=labels)
    npz().load("train")  # pages of libraries that are used for the first time do not count
    with zipfile.ZipFile(root / "own.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("junk.npy", "w") as member:
            member.write(npy((300 << 20,)))
            zeros_of(member, 300 << 20)
        archive.writestr("pickled.npy", npy((1,), "|O") + b"cos\nsystem\n.")
        archive.writestr("notes.txt", "what this is")
    with measure_peak_memory() as peak:
        assert npz().load("train").images.shape == (16, 1, 9, 9)
    assert peak.mib < MIB


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"images": npy((1 << 40, 9, 9))}, "is shorter than its header says"),
        ({"images": npy((1 << 29, 2, 2))}, "is shorter than its header says"),
        ({"images": npy((1,) * 40)}, "at most 4"),
        ({"images": npy((-1, 9, 9))}, "at most 4"),
        ({"images": npy((1,), "|O") + b"cos\nsystem\n."}, "plain arrays"),
        ({"images": npy((1 << 60,), "|V0")}, "plain arrays"),
        ({"images": npy((9,), "|V8")}, "plain arrays"),
        ({"images": npy((9,), padding=20_000)}, "plain arrays"),
        ({"images": npy((9,), padding=50 << 20, version=(2, 0))}, "plain arrays"),
        ({"images": b"\x93NUMPY"}, "plain arrays"),
        ({"images": b"\x93NUMPY\1\0\xff\0" + b"(" * 255}, "plain arrays"),
        ({"images": npy((81,)) + bytes(100)}, "longer than its header says"),
        ({"n" * 60_000: b""}, "has no array 'images'"),
    ],
)
def test_a_member_that_is_no_array_is_refused_by_its_head(
    root: Path, members: dict[str, bytes], words: str
) -> None:
    zipped(root / "own.npz", **members)
    with refused(root, words):
        npz().load("train")


def test_too_many_members_are_refused_before_they_are_listed(root: Path) -> None:
    with zipfile.ZipFile(root / "own.npz", "w") as archive:
        for place in range(70_000):
            archive.writestr(f"{place}.npy", b"")
    with refused(root, "plain arrays"):
        npz().load("train")


def spoilt(path: Path, begin: bytes, offset: int, value: int) -> None:
    """Change a byte of every record of the archive that begins so."""
    data = bytearray(path.read_bytes())
    place = data.find(begin)
    while place >= 0:
        data[place + offset] = value
        place = data.find(begin, place + 1)
    path.write_bytes(data)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 12), (10, 14), (10, 99)])
def test_what_is_locked_or_packed_otherwise_is_refused(root: Path, offset: int, value: int) -> None:
    np.savez_compressed(
        root / "own.npz", images=np.zeros((20, 9, 9), np.uint8), labels=np.arange(20) % 4
    )
    spoilt(root / "own.npz", b"PK\1\2", offset, value)
    spoilt(root / "own.npz", b"PK\3\4", offset - 2, value)
    with refused(root, "plain arrays"):
        npz().load("train")


def test_damaged_bytes_are_refused(root: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, 9, 9), dtype=np.uint8)
    np.savez_compressed(root / "own.npz", images=images, labels=np.arange(40) % 4)
    whole = (root / "own.npz").read_bytes()
    begin = whole.index(b"\x93NUMPY") if b"\x93NUMPY" in whole else 200
    for place in range(begin + 400, begin + 1400, 100):
        (root / "own.npz").write_bytes(
            whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        )
        with pytest.raises(InvalidRequest, match="plain arrays"):
            npz().load("train")


def idx_bomb(folder: Path) -> None:
    folder.mkdir()
    for name in fashion_mnist.ALL_FILES:
        with gzip.open(folder / f"{name}.gz", "wb") as file:
            file.write(b"\0\0\x08\3" + struct.pack(">3I", 60_000, 28, 28))
            zeros_of(file, 60_000 * 28 * 28)


def test_a_gzip_file_of_zeros_is_refused_before_it_is_unpacked(root: Path) -> None:
    idx_bomb(root / "fashion_mnist")
    with refused(root, "would unpack to more than 100 times"):
        open_dataset(PluginRef(name="fashion_mnist")).load("train")


def test_an_idx_file_of_other_images_is_refused_by_its_head(root: Path) -> None:
    folder = root / "fashion_mnist"
    folder.mkdir()
    for name in fashion_mnist.ALL_FILES:
        with (folder / name).open("wb") as file:
            file.write(b"\0\0\x08\3" + struct.pack(">3I", 90, 999, 999))
            file.truncate(90 * 999 * 999 + 16)  # a hole: it takes no room
    with refused(root, r"must be \[N, 28, 28\], but its header says \[90, 999, 999\]"):
        open_dataset(PluginRef(name="fashion_mnist")).load("train")


def test_a_file_of_holes_is_refused(root: Path) -> None:
    (root / "cifar100").mkdir()
    for name in ("train.bin", "test.bin"):
        with (root / "cifar100" / name).open("wb") as file:
            file.truncate(3074 * 200_000)
    with refused(root, "larger than 256 MiB"):
        open_dataset(PluginRef(name="cifar100", params={"download": False})).load("train")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "ppm"])
def test_a_picture_of_one_colour_and_too_many_pixels_is_refused_by_its_head(
    root: Path, suffix: str
) -> None:
    for kind in ("a", "b"):
        (root / "mine" / kind).mkdir(parents=True)
    first = root / "mine" / "a" / "0"
    Image.new("RGB", (8000, 7000)).save(first, format={"jpg": "JPEG"}.get(suffix, suffix.upper()))
    for kind in ("a", "b"):
        for place in range(10):
            if (kind, place) != ("a", 0):
                os.link(first, root / "mine" / kind / str(place))
    with refused(root, "8000 x 7000 pixels|larger than 64 MiB"):
        open_dataset(PluginRef(name="image_folder", params={"path": "mine"})).load("train")


@pytest.mark.slow
def test_a_large_picture_is_held_once(root: Path) -> None:
    """Of 24 million pixels, 96 MB as they are decoded: no copy of all of it is made."""
    for kind in ("a", "b"):
        (root / "mine" / kind).mkdir(parents=True)
        Image.new("RGB", (12_000, 2_000)).save(root / "mine" / kind / "0.png")
        for place in range(1, 5):
            os.link(root / "mine" / kind / "0.png", root / "mine" / kind / f"{place}.png")
    dataset = open_dataset(PluginRef(name="image_folder", params={"path": "mine"}))
    with measure_peak_memory() as peak:
        dataset.load("train")
    assert peak.mib < 150


# What blocks, or is no file: `put` lays it where a file is looked for.


def fifo(place: Path) -> None:
    os.mkfifo(place)


def a_socket(place: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # an address is at most 107 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(place.name)
    finally:
        os.chdir(here)


def a_folder(place: Path) -> None:
    place.mkdir()


def a_device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def a_terminal(place: Path) -> None:
    place.symlink_to("/dev/tty")


def link_out(place: Path) -> None:
    outside = place.parent.parent / "outside"
    outside.write_bytes(b"x" * 100)
    place.symlink_to(outside)


def loop(place: Path) -> None:
    place.symlink_to(place.name)


PUTS = [fifo, a_socket, a_folder, a_device, a_terminal, link_out, loop]


@pytest.fixture
def in_time() -> Callable[[Callable[[], Any]], Any]:
    """Runs what may block in a thread of its own, so that a test which shows a fault ends."""

    def run(what: Callable[[], Any]) -> Any:
        outcome: list[Any] = []

        def target() -> None:
            try:
                outcome.append(what())
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        thread.join(timeout=TIMEOUT_S)
        assert outcome, "it blocks"
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return run


def csv(root: Path, put: Callable[[Path], None]) -> Any:
    put(root / "own")
    return open_dataset(PluginRef(name="csv", params={"path": "own", "target": "x"})).load("train")


def arrays(root: Path, put: Callable[[Path], None]) -> Any:
    put(root / "own")
    return npz("own").load("train")


def photographs(root: Path, put: Callable[[Path], None]) -> Any:
    put(root / "own")
    return open_dataset(PluginRef(name="cifar10", params={"path": "own"})).load("train")


def weights(root: Path, put: Callable[[Path], None]) -> Any:
    put(root / "own")
    return read_weights("own")


def opened(root: Path, put: Callable[[Path], None]) -> Any:
    """Put there after it was looked at."""
    put(root / "own")
    return open_file(root / "own", "params")


def picture(root: Path, put: Callable[[Path], None]) -> Any:
    for kind in ("a", "b"):
        (root / "mine" / kind).mkdir(parents=True)
        for place in range(10):
            Image.new("RGB", (9, 9)).save(root / "mine" / kind / f"{place}.png")
    dataset = open_dataset(PluginRef(name="image_folder", params={"path": "mine"}))
    assert dataset.num_classes == 2
    dataset._files_by_split  # noqa: B018 - the pictures were listed
    for file in (root / "mine").rglob("*.png"):
        file.unlink()
        if not (root / "mine" / "b" / "0.png").exists() and file.name == "0.png":
            put(file)
    return dataset.load("train")


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("read", [csv, arrays, photographs, weights, opened, picture])
def test_nothing_but_a_file_is_opened(
    root: Path, in_time: Callable[..., Any], read: Callable[..., Any], put: Callable[[Path], None]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        in_time(lambda: read(root, put))
    assert str(root) not in caught.value.message


def test_a_folder_that_becomes_a_link_between_look_and_open_leads_nowhere(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "own.csv").write_text("secret")
    (root / "sub").mkdir()
    (root / "sub" / "own.csv").write_text("mine")
    resolve = Path.resolve

    def and_then_swapped(self: Path, *given: Any, **named: Any) -> Path:
        found = resolve(self, *given, **named)
        if self.name == "own.csv" and not (root / "sub").is_symlink():
            (root / "sub").rename(root / "was")
            (root / "sub").symlink_to(outside)
        return found

    monkeypatch.setattr(Path, "resolve", and_then_swapped)
    with pytest.raises(InvalidRequest, match="cannot be opened"):
        open_file(root / "sub" / "own.csv", "params")


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "own.csv").write_text("mine")
    (root / "link").symlink_to("sub")
    with open_file(root / "link" / "own.csv", "params") as file:
        assert file.read() == b"mine"


def test_a_file_that_is_too_large_is_not_opened(root: Path) -> None:
    with (root / "own").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(InvalidRequest, match="larger than 16 MiB"):
        open_dataset(PluginRef(name="csv", params={"path": "own", "target": "x"})).load("train")
    with pytest.raises(InvalidRequest, match="larger than 0 MiB"):
        open_file(root / "own", "params", max_bytes=100)


@pytest.mark.parametrize("path", ["a" * 400, "\ud800", "a/" * 200])
def test_a_name_that_no_file_can_have_is_refused(root: Path, path: str) -> None:
    with pytest.raises(InvalidRequest):
        npz(path).load("train")


def test_a_line_of_a_table_that_names_too_many_columns_is_refused(root: Path) -> None:
    (root / "own.csv").write_bytes(b"a" + b",a" * (1 << 21))
    with pytest.raises(InvalidRequest, match="column names must be unique") as caught:
        open_dataset(PluginRef(name="csv", params={"path": "own.csv", "target": "a"})).load("train")
    assert len(caught.value.message) < 500
