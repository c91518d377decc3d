"""The pictures of a report as an archive: what is written is read, and nothing else."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import pytest

from shared.errors import InvalidRequest
from shared.reporting.models import Defense, Method, Unlearning
from shared.reporting.picture_file import MAX_SIDE, PNG_START, read_pictures, write_pictures
from shared.reporting.pictures import Gallery, Picture, UnscoredGallery, UnscoredPicture


def make_png(tag: str = "", side: int = 28) -> bytes:
    """The head of a PNG, which is all that is looked at."""
    return PNG_START + side.to_bytes(4, "big") * 2 + tag.encode()


PICTURE = Picture(
    make_png("t"), make_png("r"), make_png("b"), psnr=22.0, baseline_psnr=13.0, rank=1, decoys=100,
    class_name="3",
)  # fmt: skip
BARE = Picture(make_png("t"), make_png("r"), None, psnr=7.0, baseline_psnr=None)
ROW = Unlearning(method="ascent"), Defense(method="none"), Method(method="invert")


def make_gallery(seed: int = 0, pictures: int = 2) -> Gallery:
    return Gallery(seed, *ROW, [PICTURE] * pictures + [BARE])


UNSCORED = UnscoredGallery(
    0, *ROW, [UnscoredPicture(make_png("r"), 0.2, make_png("c"), 0.5, None, "7")], table=True
)


def test_what_is_written_is_read() -> None:
    data = write_pictures([make_gallery()], [UNSCORED])
    back = read_pictures(data, lambda _: True)
    assert (list(back.galleries), list(back.unscored)) == ([make_gallery()], [UNSCORED])
    assert back.left_out == 0
    assert data == write_pictures([make_gallery()], [UNSCORED])


def test_it_is_a_plain_archive_for_people_too() -> None:
    with zipfile.ZipFile(io.BytesIO(write_pictures([make_gallery(pictures=1)]))) as archive:
        assert archive.namelist() == [
            "index.json", "001/001-reconstructed.png", "001/001-deleted.png",
            "001/001-baseline.png", "001/002-reconstructed.png", "001/002-deleted.png",
        ]  # fmt: skip
        assert archive.read("001/001-deleted.png") == PICTURE.truth


def test_only_rows_that_are_wanted_are_read() -> None:
    data = write_pictures([make_gallery(0), make_gallery(1)])
    (gallery,) = read_pictures(data, lambda key: key[0] == 1).galleries
    assert gallery.seed == 1


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    back = read_pictures(
        write_pictures([make_gallery(seed) for seed in range(5)], max_bytes=9000), lambda _: True
    )
    assert 0 < len(back.galleries) < 5
    assert len(back.galleries) + back.left_out == 5


def rewrite(data: bytes, change: Callable[[dict[str, bytes]], None], **options: int) -> bytes:
    """The archive with other files in it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def set_index(**changes: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files["index.json"] = json.dumps(json.loads(files["index.json"]) | changes).encode()

    return change


def set_picture(content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({"001/001-deleted.png": content})


def point_outside(files: dict[str, bytes]) -> None:
    index = files["index.json"].replace(b"001/001-deleted.png", b"../../etc/passwd")
    files["index.json"] = index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop("index.json"), "has no index.json"),
        (lambda files: files.pop("001/001-deleted.png"), "has no 001/001-deleted.png"),
        (set_index(format="palimpsest.pictures/9"), "format"),
        (set_index(galleries=[{"seed": 0}]), "galleries.0"),
        (set_index(left_out=-1), "left_out"),
        (lambda files: files.update({"index.json": b"[" * 5000}), "is not JSON"),
        (set_picture(b"<svg onload=alert(1)>"), "no PNG"),
        (set_picture(make_png(side=MAX_SIDE + 1)), "no PNG of at most 4096"),
        (set_picture(b""), "no PNG"),
        (point_outside, "pictures.0.truth"),
    ],
)
def test_a_malformed_archive_is_refused(
    change: Callable[[dict[str, bytes]], None], message: str
) -> None:
    data = rewrite(write_pictures([make_gallery()]), change)
    with pytest.raises(InvalidRequest, match=message):
        read_pictures(data, lambda _: True)


def test_nothing_compressed_is_read() -> None:
    bomb = rewrite(
        write_pictures([make_gallery()]),
        set_picture(PNG_START + bytes(1 << 22)),
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(bomb) < 1 << 15
    with pytest.raises(InvalidRequest, match="is compressed, or larger"):
        read_pictures(bomb, lambda _: True)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), b"no archive", b"PK\x03\x04"])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_pictures(data, lambda _: True)
