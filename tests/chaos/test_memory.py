"""A job that takes more memory than its worker may: told as that, at once and once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT, copy_tree
from tests.support.system import System, wait_for
from tests.support.waiting import TIMEOUT_S
from workers.memory import read_usage

TAKE = {"workers/stages/take.py": (ROOT / "tests/support/stages/take.py").read_text()}
LIMIT = 1_200_000_000


@pytest.fixture(scope="module")
def take_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"), TAKE)


@pytest.fixture
def system(make_system: Callable[..., System], take_tree: Path) -> System:
    made = make_system(take_tree, PALIMPSEST_MEMORY_LIMIT_BYTES=str(LIMIT))
    made.start_worker("take")
    return made


def taken(system: System) -> int:
    """What the idle pool child has."""
    child = System.find_child(system.processes["worker-take"])
    assert child is not None
    now = read_usage(child.pid)
    assert now is not None
    return now.used_bytes


def test_more_than_the_limit_is_out_of_memory_and_not_repeated_and_less_is_not(
    system: System,
) -> None:
    own = taken(system)
    for how in ("bytearray", "numpy", "torch", "shared"):
        small = system.wait(system.submit("take", {"bytes": int(0.6 * LIMIT), "how": how}))
        assert (small.state, small.attempt) == ("succeeded", 1), (how, small.message)
        nearly = system.wait(system.submit("take", {"bytes": int(0.9 * (LIMIT - own)), "how": how}))
        assert (nearly.state, nearly.attempt) == ("succeeded", 1), (how, nearly.message)
        large = system.wait(system.submit("take", {"bytes": 10 * LIMIT, "how": how}))
        assert (large.state, large.failure, large.attempt, large.lost_count) == (
            "failed",
            "out_of_memory",
            1,
            0,
        ), how
        assert "its worker process used 1." in str(large.message)
        assert "the limit is 1.2 GB" in str(large.message)


@pytest.mark.long
def test_a_plain_kill_of_a_large_child_is_a_lost_worker(system: System) -> None:
    job = system.submit("take", {"bytes": int(0.9 * (LIMIT - taken(system))), "die": True})
    wait_for(lambda: system.get_job(job).lost_count == 1, TIMEOUT_S, "it is charged")
    ended = system.wait(job)
    assert (ended.failure, ended.attempt, ended.lost_count) == ("lost_worker", 3, 3)


def test_a_limit_that_the_worker_itself_is_over_is_refused(
    make_system: Callable[..., System], take_tree: Path
) -> None:
    system = make_system(take_tree, PALIMPSEST_MEMORY_LIMIT_BYTES="100000000")
    process = system.start_worker("take", timeout_s=0)
    assert process.wait(timeout=TIMEOUT_S) == 1
    assert "the memory limit of a worker is 100 MB, but it uses" in system.read_log("worker-take")
    assert "PALIMPSEST_MEMORY_LIMIT_BYTES" in system.read_log("worker-take")
