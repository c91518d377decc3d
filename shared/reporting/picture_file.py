"""REPORT_PICTURES: the pictures of a report as a zip archive of PNGs, with an index of the rows that
they belong to. Written by the stage `report`, read by the gateway.

The archive is untrusted: everything is bounded before it is read, and nothing in it is compressed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from shared.errors import InvalidRequest
from shared.evaluation import FrozenModel, Number, Rank
from shared.jobs.spec import Seed
from shared.plugin_ref import validate_model
from shared.reporting.evaluations import parse_json
from shared.reporting.models import Defense, Method, Unlearning
from shared.reporting.pictures import (
    Gallery,
    HasRowKey,
    Key,
    Picture,
    UnscoredGallery,
    UnscoredPicture,
    get_row_key,
)
from shared.roles import Role

MEDIA_TYPE = "application/zip"
INDEX = "index.json"
MAX_BYTES = 64 << 20  # of the archive; what does not fit is left out, and counted
MAX_INDEX_BYTES = 8 << 20
MAX_PICTURE_BYTES = 4 << 20
MAX_SIDE = 4096  # pixels: a small PNG can hold a picture that fills the memory of a browser
MAX_GALLERIES, MAX_PICTURES = 10_000, 10_000
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
EARLIEST = (1980, 1, 1, 0, 0, 0)  # of all entries: equal pictures make equal archives
ENTRY_OVERHEAD = 400  # bytes of a zip entry and of its line in the index, at most
FIELD = "pictures"

FileName = Annotated[str, Field(max_length=60, pattern=r"^[0-9]+/[0-9]+-[a-z]+\.png$")]


class IndexedPicture(FrozenModel):
    """The files of one deleted sample, and its caption."""

    truth: FileName
    reconstruction: FileName
    baseline: FileName | None
    psnr: Number
    baseline_psnr: Number | None
    rank: Rank | None
    decoys: int = Field(ge=0, le=1_000_000)
    class_name: str | None = Field(max_length=200)


class IndexedUnscoredPicture(FrozenModel):
    """The files of one reconstruction without a truth, and its caption."""

    reconstruction: FileName
    control: FileName | None
    public: FileName | None
    loss: Number
    control_loss: Number | None
    class_name: str = Field(max_length=200)


class IndexedRow(FrozenModel):
    """What the pictures of one evaluation belong to."""

    seed: Seed
    unlearning: Unlearning
    defense: Defense
    attack: Method
    table: bool


class IndexedGallery(IndexedRow):
    pictures: list[IndexedPicture] = Field(max_length=MAX_PICTURES)


class IndexedUnscoredGallery(IndexedRow):
    pictures: list[IndexedUnscoredPicture] = Field(max_length=MAX_PICTURES)


class Index(FrozenModel):
    """index.json."""

    format: Literal["palimpsest.pictures/1"] = "palimpsest.pictures/1"
    galleries: list[IndexedGallery] = Field(max_length=MAX_GALLERIES)
    unscored: list[IndexedUnscoredGallery] = Field(max_length=MAX_GALLERIES)
    left_out: int = Field(ge=0, description="galleries that were too large together")


@dataclass(frozen=True)
class ReportPictures:
    """The pictures that were asked for.

    left_out: galleries that only the HTML report has.
    """

    galleries: Sequence[Gallery] = ()
    unscored: Sequence[UnscoredGallery] = ()
    left_out: int = 0


def write_pictures(
    galleries: Sequence[Gallery],
    unscored: Sequence[UnscoredGallery] = (),
    max_bytes: int = MAX_BYTES,
) -> bytes:
    """The archive. Equal pictures give equal bytes.

    Args:
        max_bytes: galleries from the first one on that does not fit are left out.
    """
    kept: list[Gallery | UnscoredGallery] = []
    size = ENTRY_OVERHEAD
    drawn: list[Gallery | UnscoredGallery] = [*galleries, *unscored]
    for gallery in drawn:
        size += sum(len(data) + ENTRY_OVERHEAD for _, data in _list_files(0, gallery))
        size += 2 * len(json.dumps(_describe_row(gallery)))
        if size > max_bytes or len(kept) >= MAX_GALLERIES:
            break
        kept.append(gallery)
    index = Index(
        galleries=[_index_scored(n, g) for n, g in enumerate(kept, 1) if isinstance(g, Gallery)],
        unscored=[
            _index_unscored(n, g) for n, g in enumerate(kept, 1) if isinstance(g, UnscoredGallery)
        ],
        left_out=len(galleries) + len(unscored) - len(kept),
    )
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, INDEX, index.model_dump_json(indent=1).encode())
        for number, gallery in enumerate(kept, 1):
            for name, data in _list_files(number, gallery):
                _add(archive, name, data)
    return written.getvalue()


def read_pictures(data: bytes, is_wanted: Callable[[Key], bool]) -> ReportPictures:
    """The pictures of the rows that are wanted; those of others are not read.

    Raises:
        InvalidRequest: it is no such archive, or exceeds a bound; the message says how.
    """
    if len(data) > MAX_BYTES + MAX_INDEX_BYTES:
        raise InvalidRequest(f"{Role.REPORT_PICTURES} is larger than {MAX_BYTES >> 20} MiB", FIELD)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InvalidRequest(f"{Role.REPORT_PICTURES} is no zip archive", FIELD) from error
    with archive:
        raw = _read(archive, INDEX, MAX_INDEX_BYTES)
        value = parse_json(raw, Role.REPORT_PICTURES, FIELD)
        index = validate_model(Index, value, f"{Role.REPORT_PICTURES}.{INDEX}", FIELD)

        def load(name: str) -> bytes:
            return _check_png(name, _read(archive, name, MAX_PICTURE_BYTES))

        return ReportPictures(
            galleries=[
                _load_scored(one, load) for one in index.galleries if is_wanted(get_row_key(one))
            ],
            unscored=[
                _load_unscored(one, load) for one in index.unscored if is_wanted(get_row_key(one))
            ],
            left_out=index.left_out,
        )


def _list_files(number: int, gallery: Gallery | UnscoredGallery) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of every picture that there is."""
    pictures: Sequence[Picture | UnscoredPicture] = gallery.pictures
    for place, picture in enumerate(pictures, start=1):
        images = {"reconstructed": picture.reconstruction}
        if isinstance(picture, Picture):
            further = {"deleted": picture.truth, "baseline": picture.baseline}
        else:
            further = {"random": picture.control, "public": picture.public}
        images |= {name: data for name, data in further.items() if data is not None}
        for name, data in images.items():
            yield _build_path(number, place, name), data


def _build_path(number: int, place: int, name: str) -> str:
    return f"{number:03d}/{place:03d}-{name}.png"


def _describe_row(row: HasRowKey) -> dict[str, object]:
    return {
        "seed": row.seed,
        "unlearning": row.unlearning.model_dump(mode="json"),
        "defense": row.defense.model_dump(mode="json"),
        "attack": row.attack.model_dump(mode="json"),
    }


def _index_scored(number: int, gallery: Gallery) -> IndexedGallery:
    def path(place: int, name: str) -> str:
        return _build_path(number, place, name)

    return IndexedGallery(
        seed=gallery.seed,
        unlearning=gallery.unlearning,
        defense=gallery.defense,
        attack=gallery.attack,
        table=gallery.table,
        pictures=[
            IndexedPicture(
                truth=path(place, "deleted"),
                reconstruction=path(place, "reconstructed"),
                baseline=None if picture.baseline is None else path(place, "baseline"),
                psnr=picture.psnr,
                baseline_psnr=picture.baseline_psnr,
                rank=picture.rank,
                decoys=picture.decoys,
                class_name=picture.class_name,
            )
            for place, picture in enumerate(gallery.pictures, start=1)
        ],
    )


def _index_unscored(number: int, gallery: UnscoredGallery) -> IndexedUnscoredGallery:
    def path(place: int, name: str) -> str:
        return _build_path(number, place, name)

    return IndexedUnscoredGallery(
        seed=gallery.seed,
        unlearning=gallery.unlearning,
        defense=gallery.defense,
        attack=gallery.attack,
        table=gallery.table,
        pictures=[
            IndexedUnscoredPicture(
                reconstruction=path(place, "reconstructed"),
                control=None if picture.control is None else path(place, "random"),
                public=None if picture.public is None else path(place, "public"),
                loss=picture.loss,
                control_loss=picture.control_loss,
                class_name=picture.class_name,
            )
            for place, picture in enumerate(gallery.pictures, start=1)
        ],
    )


def _load_scored(one: IndexedGallery, load: Callable[[str], bytes]) -> Gallery:
    pictures = [
        Picture(
            load(picture.truth),
            load(picture.reconstruction),
            None if picture.baseline is None else load(picture.baseline),
            picture.psnr,
            picture.baseline_psnr,
            picture.rank,
            picture.decoys,
            picture.class_name,
        )
        for picture in one.pictures
    ]
    return Gallery(one.seed, one.unlearning, one.defense, one.attack, pictures, one.table)


def _load_unscored(one: IndexedUnscoredGallery, load: Callable[[str], bytes]) -> UnscoredGallery:
    pictures = [
        UnscoredPicture(
            load(picture.reconstruction),
            picture.loss,
            None if picture.control is None else load(picture.control),
            picture.control_loss,
            None if picture.public is None else load(picture.public),
            picture.class_name,
        )
        for picture in one.pictures
    ]
    return UnscoredGallery(one.seed, one.unlearning, one.defense, one.attack, pictures, one.table)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, EARLIEST)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _read(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """One file of the archive, if it is not compressed and not too large."""
    try:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > max_bytes:
            raise InvalidRequest(
                f"{name} of {Role.REPORT_PICTURES} is compressed, or larger than "
                f"{max_bytes >> 20} MiB",
                FIELD,
            )
        return archive.read(info)
    except KeyError as error:
        raise InvalidRequest(f"{Role.REPORT_PICTURES} has no {name}", FIELD) from error
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise InvalidRequest(f"{name} of {Role.REPORT_PICTURES} cannot be read", FIELD) from error


def _check_png(name: str, data: bytes) -> bytes:
    """Refuse what is no PNG of a sensible size: browsers are given it."""
    sides = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not data.startswith(PNG_START) or not all(0 < side <= MAX_SIDE for side in sides):
        raise InvalidRequest(
            f"{name} of {Role.REPORT_PICTURES} is no PNG of at most {MAX_SIDE} x {MAX_SIDE} pixels",
            FIELD,
        )
    return data
