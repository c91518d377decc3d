"""What every artifact store promises: the bytes that were put, whole, or an error that says what to
do."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore, compute_sha256
from shared.errors import DamagedArtifact, InvalidRequest, NotFound, TransientError
from tests.support.artifacts import put_chunks
from tests.support.job_store import run_together
from tests.support.source_tree import ROOT

MISSING = compute_sha256(b"never put")


@pytest.fixture(params=["memory", "file"])
def url(request: Any, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"file://{tmp_path}/deep/artifacts"


@pytest.fixture
def artifacts(url: str) -> ArtifactStore:
    return ArtifactStore.from_url(url)


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(range(256)) * 10_000], ids=["empty", "small", "large"]
)
def test_what_is_put_can_be_had_again(artifacts: ArtifactStore, data: bytes) -> None:
    sha256 = artifacts.put(data)
    assert sha256 == compute_sha256(data)
    assert artifacts.has(sha256, len(data))
    assert artifacts.is_intact(sha256, len(data))
    assert not artifacts.has(sha256, len(data) + 1)
    assert artifacts.get(sha256) == data
    assert b"".join(artifacts.stream(sha256, len(data))) == data


@pytest.mark.parametrize("sizes", [[], [0], [1], [1, 0, 5 << 20, 3], [1 << 20] * 20], ids=len)
def test_bytes_may_come_as_a_stream(artifacts: ArtifactStore, sizes: list[int]) -> None:
    data = os.urandom(sum(sizes))
    ends = list(itertools.accumulate(sizes))
    chunks = (data[end - size : end] for end, size in zip(ends, sizes, strict=True))
    assert put_chunks(artifacts, chunks) == (compute_sha256(data), len(data))
    assert artifacts.get(compute_sha256(data)) == data
    assert artifacts.put(data) == compute_sha256(data)
    assert artifacts.get(compute_sha256(data)) == data


def test_a_stream_that_breaks_leaves_nothing(url: str, tmp_path: Path) -> None:
    artifacts, data = ArtifactStore.from_url(url), os.urandom(9 << 20)

    def breaking(error: Exception) -> Iterator[bytes]:
        yield data
        raise error

    for error in (
        ValueError("a body that is cut short"),
        ConnectionResetError("whoever sent it is gone"),
    ):
        with pytest.raises(type(error), match=str(error)):  # it is no trouble of the store's
            put_chunks(artifacts, breaking(error))
    assert not artifacts.has(compute_sha256(data), len(data))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not artifacts._backend.list().collect()


def test_a_stream_heals_what_is_damaged(tmp_path: Path) -> None:
    artifacts = ArtifactStore.from_url(f"file://{tmp_path}")
    sha256 = artifacts.put(b"data")
    (tmp_path / "sha256" / sha256[:2] / sha256).write_bytes(b"dat4")
    assert put_chunks(artifacts, [b"da", b"ta"]).sha256 == sha256
    assert artifacts.get(sha256) == b"data"


MEASURE = """
import hashlib, pathlib, sys
from shared.artifacts import ArtifactStore

MIB, N = 1 << 20, 2048
block = bytes(range(256)) * 4096

def peak_kib():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

def chunks():
    for n in range(N):
        yield n.to_bytes(8) + block[8:]

store = ArtifactStore.from_url(sys.argv[1])
came = hashlib.sha256()
pathlib.Path("/proc/self/clear_refs").write_text("5")  # what the imports took at their peak does not count
before = peak_kib()
with store.open_draft() as draft:
    for chunk in chunks():
        draft.write(chunk)
    stored = draft.seal()
    draft.place()
in_peak = peak_kib() - before
for chunk in store.stream(stored.sha256, stored.size):
    came.update(chunk)
print(stored.size, stored.sha256 == came.hexdigest(), in_peak // 1024, (peak_kib() - before) // 1024)
"""


@pytest.mark.slow
def test_two_gigabytes_go_in_and_out_in_little_memory(tmp_path: Path) -> None:
    """In a process of its own, whose peak is its own: growth since its imports, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, f"file://{tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr
    size, whole, into, out = done.stdout.split()
    print(f"2 GiB in: {into} MiB more at the peak; and out again: {out} MiB")  # noqa: T201 - what the test measures
    assert (int(size), whole) == (2 << 30, "True")
    assert int(into) <= 64
    assert int(out) <= 64


def test_a_draft_is_seen_by_nobody_before_it_is_placed(artifacts: ArtifactStore) -> None:
    with artifacts.open_draft() as draft:
        draft.write(b"data")
        stored = draft.seal()
        assert not artifacts.has(stored.sha256, 4)
    assert not artifacts.has(stored.sha256, 4)
    assert put_chunks(artifacts, [b"data"]) == stored
    assert artifacts.has(stored.sha256, 4)


def test_what_is_deleted_is_gone(url: str, tmp_path: Path) -> None:
    artifacts = ArtifactStore.from_url(url)
    sha256, other = artifacts.put(b"data"), artifacts.put(b"other")
    for _ in range(2):  # there may be none
        artifacts.delete(sha256)
        assert not artifacts.has(sha256, 4)
    assert artifacts.get(other) == b"other"
    assert not any(b"data" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert artifacts.put(b"data") == sha256
    assert artifacts.get(sha256) == b"data"


def test_a_part_is_read_alone(artifacts: ArtifactStore) -> None:
    data = os.urandom(3 << 20)
    sha256 = artifacts.put(data)
    for start, end in ((0, 1), (5, 2 << 20), (len(data) - 3, len(data)), (0, len(data))):
        assert b"".join(artifacts.stream_range(sha256, start, end)) == data[start:end]
    with pytest.raises(NotFound):
        artifacts.stream_range(MISSING, 0, 1)


def test_a_stream_comes_in_pieces(tmp_path: Path) -> None:
    artifacts = ArtifactStore.from_url(f"file://{tmp_path}")
    sha256 = artifacts.put(os.urandom(5 << 20))
    assert len(list(artifacts.stream(sha256, 5 << 20))) > 1


def test_the_same_bytes_are_one_artifact(artifacts: ArtifactStore) -> None:
    assert artifacts.put(b"twice") == artifacts.put(b"twice")
    assert artifacts.get(compute_sha256(b"twice")) == b"twice"


def test_the_same_bytes_put_at_the_same_moment_are_one_artifact(artifacts: ArtifactStore) -> None:
    data = os.urandom(1 << 20)
    assert run_together(*[lambda: artifacts.put(data)] * 6) == [compute_sha256(data)] * 6
    assert artifacts.get(compute_sha256(data)) == data


def test_a_reader_never_sees_half_of_one(artifacts: ArtifactStore) -> None:
    for n in range(4):
        data = bytes([n]) * (4 << 20)

        def look(sha256: str = compute_sha256(data)) -> int:
            for _ in range(200):
                if artifacts.has(sha256, 4 << 20):
                    return len(artifacts.get(sha256))
            return -1

        _, *seen = run_together(lambda data=data: artifacts.put(data), look, look)
        assert set(seen) <= {-1, len(data)}


def test_what_was_never_put_is_not_found(artifacts: ArtifactStore) -> None:
    assert not artifacts.has(MISSING, 9)
    assert not artifacts.is_intact(MISSING, 9)
    with pytest.raises(NotFound, match=MISSING):
        artifacts.get(MISSING)
    with pytest.raises(NotFound, match=MISSING):
        # before the first piece: an answer's status has not gone out yet
        artifacts.stream(MISSING, 9)


@pytest.mark.parametrize(
    "name", ["", "abc", "A" * 64, "g" * 64, "../" * 21 + "x", compute_sha256(b"x") + "0", "é" * 64]
)
def test_what_is_no_digest_is_refused(artifacts: ArtifactStore, name: str) -> None:
    for ask in (artifacts.get, lambda n: artifacts.stream(n, 1), lambda n: artifacts.has(n, 1)):
        with pytest.raises(InvalidRequest, match="not a sha256"):
            ask(name)


def test_two_stores_in_memory_are_two() -> None:
    one, two = ArtifactStore.from_url("memory://"), ArtifactStore.from_url("memory://")
    assert not two.has(one.put(b"x"), 1)


def test_a_folder_may_be_relative_and_outlives_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sha256 = ArtifactStore.from_url("file://here/artifacts").put(b"x")
    assert (tmp_path / "here/artifacts/sha256" / sha256[:2] / sha256).read_bytes() == b"x"
    assert ArtifactStore.from_url(f"file://{tmp_path}/here/artifacts").get(sha256) == b"x"


@pytest.mark.parametrize("damage", [b"", b"dat", b"dat4", b"data and more"])
def test_a_damaged_artifact_is_told_and_putting_it_again_heals_it(
    tmp_path: Path, damage: bytes
) -> None:
    artifacts = ArtifactStore.from_url(f"file://{tmp_path}")
    sha256 = artifacts.put(b"data")
    (tmp_path / "sha256" / sha256[:2] / sha256).write_bytes(damage)
    with pytest.raises(DamagedArtifact, match="damaged"):
        artifacts.get(sha256)
    with pytest.raises(DamagedArtifact, match="damaged"):
        artifacts.stream(sha256, 4)  # before the first piece
    assert artifacts.has(sha256, 4) == (len(damage) == 4)
    assert not artifacts.is_intact(sha256, 4)
    assert artifacts.put(b"data") == sha256
    assert artifacts.get(sha256) == b"data"


def test_whoever_streams_damaged_bytes_never_has_them_all(tmp_path: Path) -> None:
    artifacts = ArtifactStore.from_url(f"file://{tmp_path}")
    data = os.urandom(5 << 20)
    sha256 = artifacts.put(data)
    (tmp_path / "sha256" / sha256[:2] / sha256).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    had: list[int] = []
    with pytest.raises(DamagedArtifact, match="digest"):
        had.extend(len(chunk) for chunk in artifacts.stream(sha256, len(data)))
    assert 0 < sum(had) < len(data)


@pytest.fixture(params=["a file in the way", "nobody listens"])
def broken(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """A store that cannot serve: a folder whose place a file has taken, an S3 endpoint that
    refuses."""
    if request.param == "a file in the way":
        (tmp_path / "sha256").write_text("in the way")
        return ArtifactStore.from_url(f"file://{tmp_path}")
    nobody = {"ENDPOINT": "http://127.0.0.1:9", "ALLOW_HTTP": "true", "REGION": "x"}
    for name, value in {**nobody, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return ArtifactStore.from_url("s3://bucket")


def test_a_store_that_cannot_serve_says_so_every_time(broken: ArtifactStore) -> None:
    """None of it may look like an artifact that is missing, or like a defect of the job."""
    calls = {
        "put": lambda: broken.put(b"x"),
        "draft": lambda: put_chunks(broken, [b"x"]),
        "get": lambda: broken.get(MISSING),
        "has": lambda: broken.has(MISSING, 9),
        "whole": lambda: broken.is_intact(MISSING, 9),
        "stream": lambda: list(itertools.chain(broken.stream(MISSING, 9))),
        "range": lambda: list(broken.stream_range(MISSING, 0, 9)),
    }
    for call in calls.values():
        with pytest.raises(TransientError):
            call()
