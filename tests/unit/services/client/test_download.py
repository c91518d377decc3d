"""services.client.atomic_file, .download and .reports: whole files or none."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path

import httpx
import pytest

from services.client import (
    Artifact,
    ClientError,
    DigestMismatch,
    Job,
    NoReport,
    Report,
    WriteError,
    atomic_file,
)
from services.client.atomic_file import write_atomically
from services.client.download import ArchiveDownload, Download
from services.client.reports import find_report_artifacts


def test_a_file_is_replaced_and_readable_by_others(tmp_path):
    path = tmp_path / ("n" * 250)
    for data in (b"one", b"another"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("when", ["write", "close"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, when):
    path = tmp_path / "kept"
    path.write_bytes(b"before")

    class Full:
        def __init__(self, file: object) -> None:
            self.file = file

        def write(self, data: bytes) -> None:
            if when == "write":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            self.file.close()  # type: ignore[attr-defined]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open
    monkeypatch.setattr(atomic_file.Path, "open", lambda *a, **k: Full(opened(*a, **k)))
    with pytest.raises(
        WriteError, match=r"cannot write .*kept: No space left on device; nothing was kept"
    ):
        write_atomically(path, b"after")
    monkeypatch.undo()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("to_file", [True, False])
def test_bytes_that_were_changed_on_the_way_are_not_kept(tmp_path, to_file):
    sha256 = hashlib.sha256(b"as it should be").hexdigest()
    for data, kept in ((b"as it shouldn't", False), (b"as it should be", True)):
        with contextlib.ExitStack() as stack:
            if not kept:
                stack.enter_context(pytest.raises(DigestMismatch, match="nothing was kept"))
            download = stack.enter_context(
                Download(sha256, httpx.Response(200), tmp_path if to_file else None)
            )
            download.write(data[:4])
            download.write(data[4:])
        assert len(list(tmp_path.iterdir())) == (kept and to_file)


def test_more_bytes_than_the_artifact_has_are_refused_as_they_come(tmp_path):
    sha256 = hashlib.sha256(b"four").hexdigest()
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(DigestMismatch, match="has 4 bytes, but more"))
        download = stack.enter_context(Download(sha256, httpx.Response(200), tmp_path, 4))
        while True:
            download.write(b"fourfour")
    assert list(tmp_path.iterdir()) == []


def report_job(state: str = "succeeded", stage: str = "report", *roles: str) -> Job:
    kinds = {
        "REPORT": "application/json",
        "REPORT_HTML": "text/html; charset=utf-8",
        "REPORT_PICTURES": "application/zip",
    }
    made = {role: Artifact(role, role.lower(), 1, kinds[role]) for role in roles}
    return Job(
        "job_1", stage, state, artifacts=made, message="it broke" if state == "failed" else None
    )


def test_a_report_is_ready_or_says_why_not():
    _, artifacts = find_report_artifacts(
        report_job("succeeded", "report", "REPORT", "REPORT_HTML", "REPORT_PICTURES"), "aud_1"
    )
    assert {kind: artifact.role for kind, artifact in artifacts.items()} == {
        "application/json": "REPORT",
        "text/html": "REPORT_HTML",
    }
    for job, why in (
        (None, "aud_1 has no report job"),
        (report_job("succeeded", "attack"), "is a job of the stage attack"),
        (report_job("running"), "its job job_1 is running"),
        (report_job("failed"), "is failed: it broke"),
    ):
        with pytest.raises(NoReport, match=why):
            find_report_artifacts(job, "aud_1")


def test_a_report_is_saved_as_it_came(tmp_path):
    data = b'{"rows": [{"seed": 0}], "missing": [{}]}'
    found = Report.from_bytes(report_job(), {"application/json": data, "text/html": b"<p>"})
    assert (found.rows, found.missing) == ([{"seed": 0}], [{}])
    folder = tmp_path / "a" / "b"
    assert found.save(folder) == [folder / "report.json", folder / "report.html"]
    assert (folder / "report.json").read_bytes() == data
    assert Report.from_bytes(report_job(), {"application/json": data}).save(folder) == [
        folder / "report.json"
    ]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"cannot write .*file: "):
        found.save(tmp_path / "file")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"rows": 1}', b"\xff"])
def test_what_is_no_report_is_told(data):
    with pytest.raises(ClientError, match="job job_1"):
        Report.from_bytes(report_job(), {"application/json": data})


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_archive_is_kept_if_it_is_complete(tmp_path: Path, size: int) -> None:
    head = {"Content-Disposition": 'attachment; filename="aud_1.zip"'}
    content, received = b"PK\x03\x04 files " * 9 + b"PK\x05\x06" + b"\0" * 18, list[int]()
    chunks = [content[n : n + size] for n in range(0, len(content), size)]
    with ArchiveDownload(httpx.Response(200, headers=head), tmp_path, received.append) as whole:
        for chunk in chunks:
            whole.write(chunk)
    assert whole.path == tmp_path / "aud_1.zip"
    assert (whole.path.read_bytes(), received[-1]) == (content, len(content))
    other = tmp_path / "other.zip"
    with (
        pytest.raises(ClientError, match="was interrupted"),
        ArchiveDownload(httpx.Response(200), other, received.append) as broken,
    ):
        broken.write(content[:-30])
    assert [path.name for path in tmp_path.iterdir()] == ["aud_1.zip"]
