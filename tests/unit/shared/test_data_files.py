"""What identifies a file or a folder, and what is refused rather than identified."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared import data_files
from shared.artifacts import compute_sha256
from shared.data_files import (
    ABSENT,
    DataFile,
    DataRoot,
    PlannedFiles,
    find_data_path,
    reject_data_files,
    resolve_data_path,
)
from shared.errors import InvalidRequest
from tests.support.waiting import TIMEOUT_S, wait_for

FIELD = "params.path"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataRoot:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(folder))
    return DataRoot(folder)


def write(root: DataRoot, path: str, body: bytes) -> Path:
    file = root.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    return file


def test_a_file_is_its_bytes(root: DataRoot) -> None:
    write(root, "mine.npz", b"one")
    assert root.compute_digest("mine.npz", FIELD) == compute_sha256(b"one")
    assert root.compute_digest("nowhere.npz", FIELD) is None


def test_a_folder_is_its_names_and_bytes(root: DataRoot) -> None:
    changes = [
        lambda: write(root, "faces/a/1.png", b"other"),
        lambda: write(root, "faces/a/2.png", b""),
        (root.folder / "faces/c").mkdir,  # one more class
        lambda: (root.folder / "faces/b/1.png").rename(root.folder / "faces/b/2.png"),
        lambda: (root.folder / "faces/a/1.png").rename(root.folder / "faces/b/1.png"),
        (root.folder / "faces/a/2.png").unlink,
    ]
    write(root, "faces/a/1.png", b"one")
    write(root, "faces/b/1.png", b"two")
    seen = [root.compute_digest("faces", FIELD)]
    for change in changes:
        change()
        seen.append(root.compute_digest("faces", FIELD))
    assert len(set(seen)) == len(changes) + 1
    write(root, "faces/.thumbnails", b"no data")
    assert root.compute_digest("faces", FIELD) == seen[-1]


def test_names_and_bytes_are_told_apart(root: DataRoot) -> None:
    """What stands in a name cannot pass for another file."""
    write(root, "one/a" + compute_sha256(b"x") + "folder 1 b", b"x")
    write(root, "two/a", b"x")
    (root.folder / "two/b").mkdir()
    assert root.compute_digest("one", FIELD) != root.compute_digest("two", FIELD)


def test_an_equal_folder_elsewhere_is_the_same(root: DataRoot) -> None:
    for name in ("b/1", "a/2", "a/1"):
        write(root, f"here/{name}", name.encode())
    for name in ("a/1", "a/2", "b/1"):
        write(root, f"there/{name}", name.encode())
    assert root.compute_digest("here", FIELD) == root.compute_digest("there", FIELD)


def test_an_unchanged_file_is_read_once(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(root, "faces/large.npz", b"one")
    now = time.time_ns()
    monkeypatch.setattr(data_files.time, "time_ns", lambda: now + 10**10)
    first = [root.compute_digest(path, FIELD) for path in ("faces/large.npz", "faces")]

    def unread(*_: object, **__: object) -> None:
        raise AssertionError("it was read again")

    with monkeypatch.context() as patch:
        patch.setattr(data_files.hashlib, "sha256", unread)
        assert root.compute_digest("faces/large.npz", FIELD) == first[0]
    assert root.compute_digest("faces", FIELD) == first[1]
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as long as before, and as old
    assert root.compute_digest("faces/large.npz", FIELD) == compute_sha256(b"two")
    assert root.compute_digest("faces", FIELD) != first[1]


def test_a_file_that_was_written_just_now_is_read_again(root: DataRoot) -> None:
    """The clock of a file system is coarse: two writes may bear one time."""
    for n in range(50):
        write(root, "mine.npz", b"%3d" % n)
        assert root.compute_digest("mine.npz", FIELD) == compute_sha256(b"%3d" % n)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret", "a/../../secret", "out", "faces/../../secret"]
)
def test_no_path_leads_out_of_the_root(root: DataRoot, path: str) -> None:
    write(root, "faces/1.png", b"one")
    (root.folder.parent / "secret").write_bytes(b"secret")
    (root.folder / "out").symlink_to(root.folder.parent / "secret")
    with pytest.raises(InvalidRequest, match="stay inside"):
        root.compute_digest(path, FIELD)


def test_a_link_in_a_folder_is_what_it_leads_to_and_never_leads_out(root: DataRoot) -> None:
    write(root, "store/1.png", b"one")
    write(root, "faces/0.png", b"zero")
    link = root.folder / "faces/1.png"
    link.symlink_to(root.folder / "store/1.png")
    before = root.compute_digest("faces", FIELD)
    write(root, "store/1.png", b"two")
    assert root.compute_digest("faces", FIELD) != before
    link.unlink()
    (root.folder.parent / "secret").write_bytes(b"secret")
    link.symlink_to(root.folder.parent / "secret")
    with pytest.raises(InvalidRequest, match=r"'faces/1.png' is a symbolic link out of its folder"):
        root.compute_digest("faces", FIELD)


def test_a_link_to_a_folder_is_refused(root: DataRoot) -> None:
    write(root, "faces/1.png", b"one")
    (root.folder / "faces/again").symlink_to(root.folder / "faces")
    with pytest.raises(InvalidRequest, match="'faces/again' is not a regular file"):
        root.compute_digest("faces", FIELD)


@pytest.mark.parametrize("place", ["pipe", "faces/pipe"])
def test_nothing_waits_for_the_writer_of_a_pipe(root: DataRoot, place: str) -> None:
    (root.folder / "faces").mkdir()
    os.mkfifo(root.folder / place)
    with pytest.raises(InvalidRequest, match="not a regular file"):
        root.compute_digest(place.partition("/")[0], FIELD)


def test_a_socket_is_refused(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(InvalidRequest, match="cannot be opened"):
            root.compute_digest("socket", FIELD)


def test_what_holds_too_much_is_refused(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(4):
        write(root, f"faces/{n}", b"0" * 1000)
    limits = (
        ("MAX_ENTRIES", 3, "'faces' holds more than 3 files"),
        ("MAX_HASHED_BYTES", 3999, "'faces' is larger than 3,999 bytes"),
    )
    for name, most, said in limits:
        with monkeypatch.context() as patch:
            patch.setattr(data_files, name, most)
            with pytest.raises(InvalidRequest, match=said):
                root.compute_digest("faces", FIELD)
    assert root.compute_digest("faces", FIELD)
    write(root, "deep/" + "d/" * 40 + "x", b"")
    with pytest.raises(
        InvalidRequest, match="'deep' holds folders nested more than 32 levels deep"
    ):
        root.compute_digest("deep", FIELD)


@pytest.mark.parametrize("most", [3999, 1500])
def test_what_is_known_already_counts_too(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for n in range(4):
        write(root, f"faces/{n}", b"%d" % n * 1000)
    now = time.time_ns()
    monkeypatch.setattr(data_files.time, "time_ns", lambda: now + 10**10)
    assert root.compute_digest("faces", FIELD)
    monkeypatch.setattr(data_files, "MAX_HASHED_BYTES", most)
    with pytest.raises(InvalidRequest, match=f"'faces' is larger than {most:,} bytes"):
        root.compute_digest("faces", FIELD)


def test_a_link_is_as_large_as_what_it_leads_to(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(root, "store/1.png", b"0" * 1000)
    (root.folder / "faces").mkdir()
    for n in range(4):
        (root.folder / f"faces/{n}").symlink_to(file)
    monkeypatch.setattr(data_files, "MAX_HASHED_BYTES", 3999)
    with pytest.raises(InvalidRequest, match="'faces' is larger than 3,999 bytes"):
        root.compute_digest("faces", FIELD)
    monkeypatch.setattr(data_files, "MAX_HASHED_BYTES", 4000)
    assert root.compute_digest("faces", FIELD)


@contextmanager
def listing(
    monkeypatch: pytest.MonkeyPatch, after: Callable[[os.DirEntry[str]], object]
) -> Iterator[None]:
    """In here `after` is told of every entry of a folder that was listed."""
    scandir = os.scandir

    @contextmanager
    def told(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        def each() -> Iterator[os.DirEntry[str]]:
            for entry in found:
                after(entry)
                yield entry

        with scandir(folder) as found:
            yield each()

    with monkeypatch.context() as patch:
        patch.setattr(data_files.os, "scandir", told)
        yield


@pytest.mark.parametrize("name", ["{}", ".{}"])
def test_a_folder_is_listed_no_further_than_it_may_be_long(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for n in range(20):
        write(root, "faces/" + name.format(n), b"")
    monkeypatch.setattr(data_files, "MAX_ENTRIES", 3)
    listed: list[str] = []
    with (
        listing(monkeypatch, lambda entry: listed.append(entry.name)),
        pytest.raises(InvalidRequest, match="more than 3"),
    ):
        root.compute_digest("faces", FIELD)
    assert len(listed) == 4


@pytest.mark.parametrize("place", ["faces/a.png", "faces/a/1.png"])
def test_what_disappears_while_it_is_read_is_said_by_its_name(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    file = write(root, place, b"one")

    def remove(entry: os.DirEntry[str]) -> None:
        if entry.name == file.name:
            file.unlink()

    with (
        listing(monkeypatch, remove),
        pytest.raises(InvalidRequest, match=r"'faces(/a/1\.png)?' cannot be ") as caught,
    ):
        root.compute_digest("faces", FIELD)
    assert caught.value.field == FIELD
    assert str(root.folder) not in str(caught.value)


class Read:
    """An opened file, of which each read is told."""

    def __init__(self, file: io.BufferedReader, told: Callable[[], object]) -> None:
        self.file, self.told = file, told

    def __enter__(self) -> Read:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def fileno(self) -> int:
        return self.file.fileno()

    def read(self, size: int) -> bytes:
        self.told()
        return self.file.read(size)


def test_a_file_that_grows_is_not_read_without_end(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(root, "mine.npz", b"one")
    opened, reads = data_files.open_file, 0

    def grow() -> None:
        nonlocal reads
        reads += 1
        assert reads < 100, "it is read without end"
        with file.open("ab") as more:
            more.write(b"and more")

    monkeypatch.setattr(
        data_files, "open_file", lambda *given, **options: Read(opened(*given, **options), grow)
    )
    with pytest.raises(InvalidRequest, match=r"'mine\.npz' is being written"):
        root.compute_digest("mine.npz", FIELD)


def test_a_file_that_several_ask_for_at_a_time_is_read_once(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "mine.npz", b"one")
    now, opened, many = time.time_ns(), data_files.open_file, 4
    reads: list[str] = []

    def wait_for_all() -> None:
        reads.append("one")
        wait_for(
            lambda: [count for _, count in data_files._readers.values()] == [many],
            TIMEOUT_S,
            "all ask for it",
        )

    monkeypatch.setattr(data_files.time, "time_ns", lambda: now + 10**10)
    with monkeypatch.context() as patch, ThreadPoolExecutor(many) as pool:
        patch.setattr(
            data_files,
            "open_file",
            lambda *given, **options: Read(opened(*given, **options), wait_for_all),
        )
        digests = list(pool.map(lambda _: root.compute_digest("mine.npz", FIELD), range(many)))
    assert digests == [compute_sha256(b"one")] * many
    assert len(reads) == 2  # its bytes, and that there are no more
    assert data_files._readers == {}


def test_what_is_known_may_be_forgotten_at_any_moment(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread clears what is remembered when it is full."""

    class Forgetful(dict[Any, str]):
        def __contains__(self, key: object) -> bool:
            there = super().__contains__(key)
            self.clear()
            return there

    now = time.time_ns()
    monkeypatch.setattr(data_files.time, "time_ns", lambda: now + 10**10)
    monkeypatch.setattr(data_files, "_digest_cache", Forgetful())
    write(root, "mine.npz", b"one")
    for _ in range(2):
        assert root.compute_digest("mine.npz", FIELD) == compute_sha256(b"one")


def test_digests_of_what_a_job_names(root: DataRoot) -> None:
    write(root, "mine.npz", b"one")
    files = [DataFile("mine.npz", FIELD), DataFile("cifar10.npz", "params", optional=True)]
    assert root.identify_files(files) == {"mine.npz": compute_sha256(b"one"), "cifar10.npz": ABSENT}
    with pytest.raises(InvalidRequest, match=r"no 'other\.npz' .* PALIMPSEST_DATA_ROOT") as caught:
        root.identify_files([DataFile("other.npz", FIELD)])
    assert caught.value.field == FIELD


def test_without_a_data_root_no_file_can_be_named() -> None:
    assert reject_data_files([DataFile("cifar10.npz", "params", optional=True)]) == {}
    with pytest.raises(InvalidRequest, match="has no data root") as caught:
        reject_data_files([DataFile("mine.npz", FIELD)])
    assert caught.value.field == FIELD


@pytest.mark.parametrize(
    ("planned", "now", "said"),
    [
        (compute_sha256(b"one"), b"two", "has changed since .* submit it again"),
        (compute_sha256(b"one"), None, "is not in the data root of the worker, .* put it back"),
        (None, b"two", "is new since .* submit it again"),
        (ABSENT, b"two", "is new since .* submit it again"),
    ],
)
def test_within_a_job_only_what_was_planned_is_found(
    root: DataRoot, planned: str | None, now: bytes | None, said: str
) -> None:
    if now is not None:
        write(root, "mine.npz", now)
    files = PlannedFiles({} if planned is None else {"mine.npz": planned})
    with files.guard_reads(), pytest.raises(InvalidRequest, match=f"'mine.npz' .*{said}"):
        resolve_data_path("mine.npz", FIELD)
    if now is not None:
        assert resolve_data_path("mine.npz", FIELD).read_bytes() == now  # no job


def test_what_was_not_there_when_the_job_was_planned_is_not_there_still(root: DataRoot) -> None:
    files = PlannedFiles(root.identify_files([DataFile("mine.npz", FIELD, optional=True)]))
    with files.guard_reads():
        assert find_data_path(["mine.npz"], FIELD) is None
    files.require_unchanged()


def test_what_changes_while_a_job_reads_it_is_noticed(root: DataRoot) -> None:
    write(root, "mine.npz", b"one")
    files = PlannedFiles({"mine.npz": compute_sha256(b"one")})
    with files.guard_reads():
        assert resolve_data_path("mine.npz", FIELD).read_bytes() == b"one"
    files.require_unchanged()
    write(root, "mine.npz", b"two")
    with pytest.raises(InvalidRequest, match="has changed"):
        files.require_unchanged()
