"""A misspelt variable PALIMPSEST_* stops every process before it does anything, and the message
names the right one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.environment import KNOWN_VARIABLES
from shared.config import OTHERS, known_variables
from tests.support.local_serve import make_clean_env
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.slow

PROCESSES = [
    ["services.gateway", "--port", "0"],
    ["services.reconciler"],
    ["services.pod_costs"],
    ["services.admin", "migrate"],
    ["services.cli", "jobs"],
    ["workers", "--stages", "attack"],
    ["workers.catalog", "--publish"],
    ["deploy.local.serve"],
    ["deploy.local.demo"],
    ["deploy.local.worker", "attack"],
    ["deploy.local.doctor"],
]


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder, env=make_clean_env(**variables), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", PROCESSES, ids=lambda command: command[0])
def test_an_unknown_variable_stops_a_process_and_the_nearest_is_named(
    tmp_path: Path, command: list[str]
) -> None:
    done = run(command, tmp_path, PALIMPSEST_LAESE="10", PALIMPSEST_URL="http://127.0.0.1:1")
    assert done.returncode in (1, 2), done.stderr
    (said,) = done.stderr.splitlines()
    assert "PALIMPSEST_LAESE" in said
    assert "PALIMPSEST_LEASE_S?" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [c for c in PROCESSES if c[0] != "services.cli"],  # which does not read the services' settings
    ids=lambda command: command[0],
)
def test_a_wrong_value_stops_a_process_and_is_not_repeated(
    tmp_path: Path, command: list[str]
) -> None:
    done = run(command, tmp_path, PALIMPSEST_LEASE_S="secret-7")
    assert done.returncode in (1, 2), done.stderr
    (said,) = done.stderr.splitlines()
    assert "PALIMPSEST_LEASE_S" in said
    assert "secret-7" not in said
    assert not list(tmp_path.iterdir())


def test_every_known_variable_is_known_to_all(tmp_path: Path) -> None:
    assert known_variables() == KNOWN_VARIABLES
    others = dict.fromkeys(OTHERS, "nothing")
    others["PALIMPSEST_DATABASE_URL"] = f"sqlite:///{tmp_path}/palimpsest.db"
    done = run(["services.admin", "migrate"], tmp_path, **others)
    assert done.returncode == 0, done.stderr
    done = run(["services.cli", "jobs"], tmp_path, **others)
    assert "no token for" in " ".join(done.stderr.split())
