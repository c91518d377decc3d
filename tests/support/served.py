"""What `make serve` serves, run from a folder of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.system import FAST
from tests.support.tree import ROOT
from tests.support.waiting import PATIENCE, wait_for


def clean_env(**more: str) -> dict[str, str]:
    """The environment without any PALIMPSEST_ variable, running this tree's code."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    return {**env, "PYTHONPATH": str(ROOT), "PATH": path, **more}


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[dict[str, str]]:
    """URL and token, once everything is up; `folder` is the working directory."""
    env = clean_env(PALIMPSEST_RECONCILE_EVERY=FAST["PALIMPSEST_RECONCILE_EVERY"])
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.serve", *arguments], cwd=folder, env=env, stdout=log, stderr=log
        )
    try:
        said = folder / "serve.log"
        wait_for(lambda: "workers are there" in said.read_text() or process.poll() is not None, PATIENCE, "serve is up")
        assert process.poll() is None, said.read_text()
        yield json.loads((folder / ".palimpsest" / "serve.json").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE)
