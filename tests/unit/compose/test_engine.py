"""Without an engine: exit status 2, and a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compose.__main__ import main


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Cannot connect' >&2; exit 1", "no Docker engine answers at unix:///nowhere.sock"),
        (None, "the command docker is not installed"),
        ("test $1 = version", "neither `docker compose` nor `docker-compose` is installed"),
    ],
)
def test_no_engine_is_one_sentence_and_status_2(
    script: str | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if script is not None:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert main([]) == 2
    assert capsys.readouterr().err == (
        f"compose-test: {reason}: start one, and name it in DOCKER_HOST\n"
    )
