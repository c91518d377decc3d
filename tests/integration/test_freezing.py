"""A process that is stopped while it writes leaves the store open to others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.freezing import freeze
from tests.support.migrated import open_migrated
from tests.support.waiting import TIMEOUT_S, wait_for

WRITES_NEARLY_ALWAYS = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print("ready", flush=True)
while True:
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(random.uniform(0, 0.05))
    connection.execute("ROLLBACK")
    time.sleep(random.uniform(0, 0.05))
"""


@pytest.mark.slow
def test_it_is_stopped_between_two_transactions(tmp_path: Path) -> None:
    db = open_migrated(tmp_path / "palimpsest.db")
    with subprocess.Popen(
        [sys.executable, "-c", WRITES_NEARLY_ALWAYS, str(db.file)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            writer = psutil.Process(process.pid)
            for _ in range(3):
                with freeze(writer, db):
                    assert writer.status() == psutil.STATUS_STOPPED
                    with db.write() as connection:
                        connection.exec_driver_sql("DELETE FROM jobs")
                wait_for(
                    lambda: writer.status() != psutil.STATUS_STOPPED, TIMEOUT_S, "it runs again"
                )
        finally:
            process.kill()
