"""Class folders of pictures: a folder of the data root, or a zip archive that is read in place.

An archive is hostile until every member has been checked: nothing of it is written to a disk, and
nothing is unpacked beyond what was announced and allowed.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Protocol, cast

from shared.data_root import describe_os_error, is_clutter, open_file
from shared.errors import InvalidRequest
from shared.ml.datasets._files import check_unpacked_size, read_exactly

MAX_MEMBERS = 50_000  # files and folders of an archive
# what zipfile reads at once: the list of members, which takes 46 bytes and a name for each
MAX_LIST_BYTES = 8 << 20
MAX_NAME = 500
MAX_DEPTH = 8  # folders in folders
MAX_PICTURE_BYTES = 64 << 20
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: a member, strongly, the list of members

OpenPicture = Callable[[PurePath], IO[bytes]]


class PictureTree(Protocol):
    """Folders and files below `root`."""

    root: PurePath

    def describe(self, path: PurePath) -> str:
        """What messages call a path."""

    def is_dir(self, path: PurePath) -> bool:
        """Whether it is a folder."""

    def list_entries(self, folder: PurePath) -> list[PurePath]:
        """The entries of a folder, by name, without clutter.

        Raises:
            InvalidRequest: it cannot be listed, or one is a link.
        """

    def reading(self) -> AbstractContextManager[OpenPicture]:
        """A context in which files can be opened."""


class FolderTree:
    """A folder of the data root.

    Args:
        name: what messages call it.
    """

    def __init__(self, root: Path, name: str, field: str) -> None:
        self.root: PurePath = root
        self._name, self._field = name, field

    def describe(self, path: PurePath) -> str:
        return str(Path(self._name) / path.relative_to(self.root))

    def is_dir(self, path: PurePath) -> bool:
        return Path(path).is_dir()

    def list_entries(self, folder: PurePath) -> list[PurePath]:
        try:
            entries = sorted(path for path in Path(folder).iterdir() if not is_clutter(path.name))
        except OSError as error:
            raise InvalidRequest(
                f"{self.describe(folder)!r} cannot be listed: {describe_os_error(error)}",
                self._field,
            ) from error
        for path in entries:
            if path.is_symlink():
                raise InvalidRequest(
                    f"{self.describe(path)!r} is a symbolic link: replace it with the picture "
                    "or folder itself",
                    self._field,
                )
        return list(entries)

    @contextmanager
    def reading(self) -> Iterator[OpenPicture]:
        yield lambda path: open_file(
            Path(path), self._field, max_bytes=MAX_PICTURE_BYTES, name=self.describe(path)
        )


class ZipTree:
    """A zip archive, whose single folder, if it holds further ones, is left out of all paths.

    Raises:
        InvalidRequest: not a zip archive; encrypted, too large or compressed too much; or a member
            has a name or a kind that no picture has.
    """

    def __init__(self, file: Path, field: str) -> None:
        self._file, self._field = file, field
        self._members: dict[PurePosixPath, zipfile.ZipInfo] = {}
        self._entries: dict[PurePosixPath, set[PurePosixPath]] = {PurePosixPath(): set()}
        with self._open() as archive:
            self._index(archive)
        self.root: PurePath = PurePosixPath()
        while len(below := self.list_entries(self.root)) == 1 and any(
            self.is_dir(entry) for entry in self.list_entries(below[0])
        ):
            self.root = below[0]

    def describe(self, path: PurePath) -> str:
        return str(path) if path.parts else "the archive"

    def is_dir(self, path: PurePath) -> bool:
        return path in self._entries

    def list_entries(self, folder: PurePath) -> list[PurePath]:
        return sorted(self._entries.get(cast(PurePosixPath, folder), ()))

    @contextmanager
    def reading(self) -> Iterator[OpenPicture]:
        with self._open() as archive:

            def read(path: PurePath) -> IO[bytes]:
                member = self._members[cast(PurePosixPath, path)]
                with archive.open(member) as packed:
                    data = read_exactly(cast(io.BufferedIOBase, packed), member.file_size)
                    packed.read(1)  # reaching the end verifies the checksum
                return io.BytesIO(data)

            yield read

    @contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        with _BoundedReader(open_file(self._file, self._field).detach()) as bounded:
            try:
                archive = zipfile.ZipFile(cast(IO[bytes], bounded))
            except Exception as error:  # anything zipfile raises on hostile bytes
                raise self._refuse(f"not a zip archive ({str(error)[:200]})") from error
            with archive:
                yield archive

    def _refuse(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"the archive cannot be read: {why}", self._field)

    def _index(self, archive: zipfile.ZipFile) -> None:
        """Check every member, and list what is no clutter."""
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise self._refuse(
                f"it holds {len(members):,} files, above the limit of {MAX_MEMBERS:,}"
            )
        names = [self._check_name(member) for member in members]
        seen: set[PurePosixPath] = set()
        for member, name in zip(members, names, strict=True):
            if name in seen:
                raise self._refuse(f"it holds {_shorten(str(name))} twice")
            seen.add(name)
            self._check_kind(member)
        files = {n for n, member in zip(names, members, strict=True) if not member.is_dir()}
        for name in names:
            if not files.isdisjoint(name.parents):
                raise self._refuse(f"{_shorten(str(name))} lies below a file")
        self._check_places(archive, members)
        check_unpacked_size(
            sum(member.file_size for member in members),
            sum(member.compress_size for member in members),
            "the archive",
            self._field,
        )
        for member, name in zip(members, names, strict=True):
            if any(is_clutter(part) for part in name.parts):
                continue
            if member.is_dir():
                self._entries.setdefault(name, set())
            else:
                self._members[name] = member
            for path in (name, *name.parents)[:-1]:
                self._entries.setdefault(path.parent, set()).add(path)

    def _check_name(self, member: zipfile.ZipInfo) -> PurePosixPath:
        name = member.orig_filename  # as it stands there: zipfile cuts it at a NUL
        shown = _shorten(name)
        if len(name) > MAX_NAME:
            raise self._refuse(f"the name {shown} has more than {MAX_NAME} characters")
        if not name.isprintable():
            raise self._refuse(f"the name {shown} is not text: it holds control characters")
        parts = name.removesuffix("/").split("/")
        if name.startswith("/") or "\\" in name or name[1:2] == ":":
            raise self._refuse(f"the name {shown} is not a relative path with slashes")
        if any(part in ("", ".", "..") for part in parts):
            raise self._refuse(f"the name {shown} holds '..', '.' or an empty part")
        if len(parts) > MAX_DEPTH:
            raise self._refuse(f"{shown} lies more than {MAX_DEPTH} folders deep")
        return PurePosixPath(*parts)

    def _check_kind(self, member: zipfile.ZipInfo) -> None:
        shown = _shorten(member.filename)
        if member.flag_bits & _ENCRYPTED:
            raise self._refuse(f"{shown} is encrypted: store it without a password")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._refuse(f"{shown} is a link or a device: store the file itself")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._refuse(f"{shown} is compressed in an unusual way: use deflate, or none")
        if member.is_dir() and member.file_size:
            raise self._refuse(f"{shown} is called a folder, but has contents")
        if member.file_size > MAX_PICTURE_BYTES:
            raise self._refuse(f"{shown} is larger than {MAX_PICTURE_BYTES >> 20} MiB")

    def _check_places(self, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
        """No byte of the archive belongs to two members."""
        end = 0
        for member in sorted(members, key=lambda member: member.header_offset):
            if member.header_offset < end:
                raise self._refuse(f"{_shorten(member.filename)} overlaps another file")
            end = member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size
        if end > archive.start_dir:
            raise self._refuse("a file is larger than the archive")


class _BoundedReader(io.BufferedReader):
    """A file that bounds the size of each read."""

    def read(self, size: int | None = -1, /) -> bytes:
        limit = MAX_LIST_BYTES + 1
        data = super().read(limit if size is None or size < 0 else min(size, limit))
        if len(data) == limit:
            raise zipfile.BadZipFile("its list of files is too long")
        return data


def _shorten(name: str) -> str:
    return ascii(name if len(name) <= 80 else f"{name[:77]}...")


def open_picture_tree(path: Path, name: str, field: str) -> PictureTree:
    """The pictures of a folder, or of a zip archive.

    Args:
        name: what messages call the folder.

    Raises:
        InvalidRequest: it is neither; or see `ZipTree`.
    """
    return FolderTree(path, name, field) if path.is_dir() else ZipTree(path, field)
