"""Zip archives of pictures: read as their folders are, and every hostile form refused in a
sentence."""

from __future__ import annotations

import io
import os
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.artifacts import ArtifactStore
from shared.errors import InvalidRequest
from shared.ml.datasets import _picture_trees
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef
from workers.uploads import uploads_as_files

CANARY = "canary"


def make_picture(n: int) -> bytes:
    pixels = np.random.default_rng(n).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURES = {
    f"{c}/{n:02}.png": make_picture(n + 100 * len(c)) for c in ("a", "bb") for n in range(10)
}


def make_zip(*more: tuple[zipfile.ZipInfo | str, bytes], prefix: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*((prefix + n, d) for n, d in PICTURES.items()), *more]:
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data root. Nothing that an archive holds may ever lie around it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(folder))
    monkeypatch.chdir(folder)
    yield folder
    assert not [path for path in tmp_path.rglob("*") if CANARY in path.name]
    assert not Path(f"/{CANARY}").exists()


def opened(path: str = "mine.zip", **params: Any) -> Any:
    return open_dataset(PluginRef(name="image_folder", params={"path": path, "size": 9, **params}))


def refuse(root: Path, data: bytes) -> str:
    """The one sentence with which an archive is refused."""
    (root / "mine.zip").write_bytes(data)
    with pytest.raises(InvalidRequest) as caught:
        [opened().load(split) for split in ("train", "test")]
    assert "\n" not in caught.value.message
    assert str(root) not in caught.value.message
    return caught.value.message


def test_an_archive_is_read_as_its_folder(root: Path) -> None:
    for name, data in PICTURES.items():
        (root / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "mine" / name).write_bytes(data)
    clutter = [("__MACOSX/a/._00.png", b"x"), ("a/.DS_Store", b"x"), ("a/", b"")]
    (root / "mine.zip").write_bytes(make_zip(*clutter))
    (root / "nested.zip").write_bytes(make_zip(prefix="faces/2024/"))
    folder = opened("mine")
    for path in ("mine.zip", "nested.zip"):
        archive = opened(path)
        assert archive.class_names == folder.class_names
        for split in ("train", "test"):
            one, other = archive.load(split), folder.load(split)
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
        named = opened(path, deletable_files=["bb/03.png"])
        assert named.number("files", "bb/03.png", "f") == 13


def test_splits_are_those_of_the_archive(root: Path) -> None:
    both = [(f"test/{name}", data) for name, data in PICTURES.items()]
    (root / "mine.zip").write_bytes(make_zip(*both, prefix="train/"))
    assert len(opened().load("train").labels) == len(opened().load("test").labels) == 20


def test_an_uploaded_archive_is_read_in_place(tmp_path: Path, root: Path) -> None:
    store = ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    path = f"upload:{store.put(make_zip())}"
    before = {*tmp_path.rglob("*")}
    with uploads_as_files(store):
        assert len(opened(path).load("train").labels) == 16
    assert {*tmp_path.rglob("*")} == before


def make_entry(name: str, mode: int = 0o100644, **fields: Any) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("x")
    entry.filename = entry.orig_filename = name
    entry.external_attr, entry.create_system = mode << 16, 3
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


def patch(old: bytes, new: bytes, data: bytes) -> bytes:
    assert len(old) == len(new)
    assert old in data
    return data.replace(old, new)


def set_flag(data: bytes, flag: int) -> bytes:
    """Set a flag of every member, where it stands first and in the list."""
    changed = bytearray(data)
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(signature)
        while place >= 0:
            changed[place + at] |= flag
            place = data.find(signature, place + 4)
    return bytes(changed)


def change_list(data: bytes, at: int, value: bytes, member: int = 0) -> bytes:
    """Change the list's record of a member, `at` bytes after its signature."""
    place = -1
    for _ in range(member + 1):
        place = data.find(b"PK\1\2", place + 1)
    return data[: place + at] + value + data[place + at + len(value) :]


def corrupt(data: bytes) -> bytes:
    """Another checksum for every member."""
    changed = bytearray(data)
    for signature, at in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        place = data.find(signature)
        while place >= 0:
            changed[place + at] ^= 0xFF
            place = data.find(signature, place + 4)
    return bytes(changed)


def make_bomb() -> bytes:
    """Zeros, a thousand to one."""
    return make_zip(("a/zeros.bmp", bytes(20 << 20)))


OK = b"not a picture"


def make_clutter() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(".a/0.png", OK)
    return file.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a way up": (lambda: make_zip((f"../{CANARY}.png", OK)), r"holds '\.\.'"),
    "a way up inside": (lambda: make_zip((f"a/../../{CANARY}.png", OK)), r"holds '\.\.'"),
    "an absolute name": (lambda: make_zip((f"/{CANARY}.png", OK)), "not a relative path"),
    "a drive": (lambda: make_zip((f"C:/{CANARY}.png", OK)), "not a relative path"),
    "a backslash": (lambda: make_zip((f"..\\{CANARY}.png", OK)), "not a relative path"),
    "an empty part": (lambda: make_zip((f"a//{CANARY}.png", OK)), "an empty part"),
    "a line break": (lambda: make_zip((f"a/\n{CANARY}.png", OK)), "control characters"),
    "an escape": (lambda: make_zip((f"a/\x1b[2J{CANARY}", OK)), "control characters"),
    "a zero": (lambda: patch(b"zero_", b"zero\0", make_zip(("a/zero_", OK))), "control characters"),
    "a long name": (lambda: make_zip(("a/" + "n" * 600, OK)), "more than 500 characters"),
    "deep": (lambda: make_zip(("d/" * 9 + "x", OK)), "more than 8 folders deep"),
    "a link": (lambda: make_zip((make_entry(f"a/{CANARY}", 0o120777), b"/etc")), "a link or a device"),
    "a device": (lambda: make_zip((make_entry(f"a/{CANARY}", 0o020666), b"")), "a link or a device"),
    "twice": (lambda: make_zip(("a/00.png", OK)), "'a/00.png' twice"),
    "below a file": (lambda: make_zip((f"a/00.png/{CANARY}", OK)), "lies below a file"),
    "encrypted": (lambda: set_flag(make_zip(), 1), "is encrypted"),
    "a folder with contents": (lambda: make_zip((make_entry("a/x/"), OK)), "but has contents"),
    "unusually packed": (
        lambda: make_zip((make_entry("a/x", compress_type=zipfile.ZIP_LZMA), OK)), "unusual way",
    ),
    "a bomb": (make_bomb, "more than 100 times its size"),
    "claims of 4 GB": (lambda: change_list(make_zip(), 24, b"\xfe\xff\xff\xff"), "larger than 64 MiB"),
    "less than announced": (lambda: change_list(make_zip(), 24, b"\0\1\0\0"), "00.png' cannot be read"),
    "overlapping": (
        lambda: change_list(make_zip(), 42, bytes(4), member=1), "overlaps another file",
    ),
    "beyond the archive": (
        lambda: change_list(make_zip(("z/0.png", OK)), 20, b"\xff\xff\xff\x00", 20), "larger than the archive",
    ),
    "a wrong checksum": (lambda: corrupt(make_zip()), "Bad CRC-32"),
    "an archive in it": (lambda: make_zip(("a/inner.zip", make_zip())), "'a/inner.zip' is not a PNG"),
    "no archive": (lambda: b"PK\3\4" + os.urandom(99), "not a zip archive"),
    "cut short": (lambda: make_zip()[:-40], "not a zip archive"),
    "only clutter": (make_clutter, "'the archive' must hold at least ten pictures"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("form", HOSTILE)
def test_a_hostile_archive_is_refused(root: Path, form: str) -> None:
    make, says = HOSTILE[form]
    assert re.search(says, refuse(root, make()))


def test_a_list_of_members_of_a_gigabyte_is_not_read(root: Path) -> None:
    size = (1 << 30) - 100
    with (root / "mine.zip").open("wb") as file:  # sparse: nothing is written but its end
        file.truncate(size)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 20, 20, size, 0, 0))
    tracemalloc.start()
    with pytest.raises(InvalidRequest, match="its list of files is too long"):
        opened().load("train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_too_many_members_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_picture_trees, "MAX_MEMBERS", 19)
    assert "20 files, above the limit of 19" in refuse(root, make_zip())


def make_numbered(names: dict[str, int]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, n in names.items():
            archive.writestr(name, make_picture(n))
    return file.getvalue()


def open_own(root: Path, deleted: bytes, **params: Any) -> Any:
    (root / "deleted.zip").write_bytes(deleted)
    (root / "public.zip").write_bytes(make_numbered({f"{n % 3}/{n}.png": n for n in range(12)}))
    given = {"deleted": "deleted.zip", "public": "public.zip", "num_classes": 10, "size": 9}
    return open_dataset(PluginRef(name="own_samples", params=given | params))


def test_deleted_samples_come_from_folders_called_by_their_class(root: Path) -> None:
    """In the order of their own names, which is that of the deletions."""
    own = open_own(root, make_numbered({"7/10.png": 1, "0/2.png": 2, "3/1.png": 3}))
    deleted, public = own.load("train"), own.load("test")
    assert deleted.labels.tolist() == [3, 0, 7]
    expected = [np.asarray(Image.open(io.BytesIO(make_picture(n)))) for n in (3, 2, 1)]
    assert torch.equal(
        (deleted.images * 255).round().byte().permute(0, 2, 3, 1), torch.tensor(np.stack(expected))
    )
    assert (own.input_shape, len(public.labels)) == ((3, 9, 9), 12)
    assert open_own(root, make_numbered({"7/1.png": 1}), grey=True).input_shape == (1, 9, 9)


@pytest.mark.parametrize(
    ("names", "params", "says"),
    [
        (
            {"cat/1.png": 1},
            {},
            "deleted samples: 'cat' is not a folder that is called by the number",
        ),
        ({"1.png": 1}, {}, "'1.png' is not a folder"),
        ({"01/1.png": 1}, {}, "'01' is not the number of a class"),
        ({"10/1.png": 1}, {}, "beyond the 10 classes"),
        ({"1/1.png": 1}, {"size": None}, "set the parameter size"),
        ({"1/x/y/1.png": 1, "2/1.png": 1}, {}, "'1/x' is a folder"),
    ],
)
def test_other_archives_of_samples_are_refused(
    root: Path, names: dict[str, int], params: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        open_own(root, make_numbered(names), **params).load("train")
