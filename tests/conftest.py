"""Fixtures that every kind of test may use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import create_database, serve_postgres
from tests.support.source_tree import ROOT, SLEEP_STAGE, copy_tree
from tests.support.system import System

CHAOS = ROOT / "tests/chaos"

# Each test process has one core: torch must not take both.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a script runs in the background ignores Ctrl-C, and so would every program that a test starts
# to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: tests of faults, then files with slow tests. One that is left for the end
    would run alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.parent != CHAOS, item.path not in slow))


def pytest_collection_finish() -> None:
    """Thousands of tests and their modules stay to the end: no collector need go through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def sleep_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree with the tests' `sleep` stage in it."""
    return copy_tree(tmp_path_factory.mktemp("tree"), SLEEP_STAGE)


@pytest.fixture
def make_system(tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Whole systems, closed at the end of the test."""
    made: list[System] = []

    def make(tree: Path = ROOT, database_url: str | None = None, **env: str) -> System:
        made.append(System(tmp_path / f"system{len(made)}", tree, database_url, **env))
        return made[-1]

    yield make
    for system in made:
        system.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL."""
    with serve_postgres() as url:
        yield url


@pytest.fixture
def sqlite_system(make_system: Callable[..., System], sleep_tree: Path) -> System:
    """A system with the `sleep` stage on SQLite; no worker runs yet."""
    return make_system(sleep_tree)


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def system(request: Any, make_system: Callable[..., System], sleep_tree: Path) -> System:
    """The same on each kind of job store."""
    if request.param == "sqlite":
        return make_system(sleep_tree)
    return make_system(sleep_tree, create_database(request.getfixturevalue("postgres_server")))
