"""Without an engine: exit status 2, and a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.local_serve import make_clean_env
from tests.support.source_tree import ROOT


def test_no_engine_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    for path, reason in (
        (f"{tmp_path}:/usr/bin:/bin", "no Docker engine answers at unix:///nowhere.sock"),
        ("/nowhere", "the command docker is not installed"),
    ):
        env = make_clean_env(DOCKER_HOST="unix:///nowhere.sock") | {"PATH": path}
        done = subprocess.run(
            [sys.executable, "-m", "tests.compose"], cwd=ROOT, env=env, capture_output=True,
            text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == (f"compose-test: {reason}: start one, and name it in DOCKER_HOST\n")
