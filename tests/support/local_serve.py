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

from tests.support.source_tree import ROOT
from tests.support.system import FAST_SETTINGS
from tests.support.waiting import TIMEOUT_S, wait_for


def make_clean_env(**more: str) -> dict[str, str]:
    """The environment without any PALIMPSEST_ variable, running this tree's code."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    return {**env, "PYTHONPATH": str(ROOT), "PATH": path, **more}


@contextlib.contextmanager
def run_serve(
    folder: Path, *arguments: str, site: Path | None = None, **settings: str
) -> Iterator[dict[str, str]]:
    """URL and token, once everything is up; `folder` is the working directory.

    Args:
        site: where further packages are installed.
        settings: further environment variables.
    """
    env = make_clean_env(
        PALIMPSEST_RECONCILE_INTERVAL_S=FAST_SETTINGS["PALIMPSEST_RECONCILE_INTERVAL_S"],
        **settings,
    )
    if site is not None:
        env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(site)])
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.serve", *arguments],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        log_path = folder / "serve.log"
        wait_for(
            lambda: "workers are ready" in log_path.read_text() or process.poll() is not None,
            TIMEOUT_S,
            "serve is up",
        )
        assert process.poll() is None, log_path.read_text()
        yield json.loads((folder / ".palimpsest" / "serve.json").read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=TIMEOUT_S)
