"""What the machine or the container has, read from the kernel's files."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from shared import machine


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    return tmp_path


def _in_group(monkeypatch: pytest.MonkeyPatch, path: Path, lines: str) -> None:
    path.write_text(lines)
    monkeypatch.setattr(machine, "_OWN_CGROUP", path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_group_it_is_the_machine_s(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_group(monkeypatch, files / "own", "0::/\n")
    assert machine.get_memory_bytes() == psutil.virtual_memory().total


def test_the_least_of_a_group_and_of_those_around_it_counts(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_group(monkeypatch, files / "own", "0::/outer/inner\n")
    _write(files / "outer/inner/memory.max", "max\n")
    _write(files / "outer/memory.max", "1000000\n")
    assert machine.get_memory_bytes() == 1_000_000
    assert machine.compute_memory_share_bytes(4) == 225_000


def test_the_first_version_and_a_container_that_sees_only_its_own_part(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_group(monkeypatch, files / "own", "5:devices:/x\n4:cpu,memory:/docker/abc\n0::/\n")
    _write(files / "memory/memory.limit_in_bytes", "2000000\n")
    assert machine.get_memory_bytes() == 2_000_000
    _write(files / "memory/memory.limit_in_bytes", "9223372036854771712\n")  # none
    assert machine.get_memory_bytes() == psutil.virtual_memory().total
