"""What counts as standing still; the one that is looked at is a real process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.system import wait_for
from tests.support.waiting import TIMEOUT_S
from workers.stall import WALL_FACTOR, StallDetector

BUSY = "while True: pass"
ASLEEP = "import time; time.sleep(600)"
THREADS = """
import hashlib, threading
def work():
    while True: hashlib.sha256(bytes(1 << 20))  # lets go of Python's lock
for _ in range(8): threading.Thread(target=work).start()
"""


@pytest.fixture
def started() -> Iterator[Callable[[str], int]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> int:
        processes.append(subprocess.Popen([sys.executable, "-c", code]))
        return processes[-1].pid

    yield start
    for process in processes:
        process.kill()
        process.wait()


def look(clock: StallDetector, counter: int = 1, waits: bool = False) -> StallDetector:
    time.sleep(0.05)
    clock.update(counter, waits)
    return clock


def test_one_that_computes_for_its_limit_without_a_beat_stands_still(
    started: Callable[[str], int],
) -> None:
    clock = StallDetector(started(BUSY), 0.3, max_gap_s=60)
    wait_for(lambda: look(clock).stall_reason(), TIMEOUT_S, "it is caught")
    assert clock.stall_reason() == "it made no progress for 0.3 s of computing"
    assert clock.wall_s < 0.3 * WALL_FACTOR or clock.cpu_s > 0.3
    look(clock, counter=2)
    assert clock.stall_reason() is None


def test_one_that_is_given_no_cpu_is_caught_by_the_wall_clock_and_not_before(
    started: Callable[[str], int],
) -> None:
    clock = StallDetector(started(ASLEEP), 0.2, max_gap_s=60)
    wait_for(lambda: look(clock).wall_s > 0.2 * 3, TIMEOUT_S, "three times its limit has passed")
    assert clock.stall_reason() is None
    wait_for(lambda: look(clock).stall_reason(), TIMEOUT_S, "it is caught")
    assert clock.wall_s > 0.2 * WALL_FACTOR
    assert clock.stall_reason() == "it made no progress for 2 s"


@pytest.mark.slow
def test_many_threads_are_not_punished_for_computing_together(
    started: Callable[[str], int],
) -> None:
    clock = StallDetector(started(THREADS), 60, max_gap_s=60)
    look(clock)
    wait_for(lambda: look(clock).cpu_s > 0.5, TIMEOUT_S, "they compute")
    assert clock.cpu_s <= clock.wall_s


def test_waiting_for_a_store_does_not_count_but_for_ever(started: Callable[[str], int]) -> None:
    clock = StallDetector(started(BUSY), 0.1, max_gap_s=60)
    look(clock)
    wait_for(lambda: look(clock, waits=True).wait_timeout_reason(), TIMEOUT_S, "the wait is over")
    assert clock.stall_reason() is None
    assert clock.waited_s > 0.1 * WALL_FACTOR


def test_a_gap_between_two_looks_is_not_the_attempt_s(started: Callable[[str], int]) -> None:
    """The one who looks slept too: everything was frozen."""
    clock = StallDetector(started(ASLEEP), 0.03, max_gap_s=0.02)  # it may still be starting
    look(clock)
    time.sleep(1)
    clock.update(1, False)
    assert clock.wall_s <= 0.04
    assert clock.stall_reason() is None


def test_one_that_is_gone_uses_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    clock = StallDetector(process.pid, 1, max_gap_s=60)
    clock.update(1, False)
    clock.update(1, False)
    assert clock.cpu_s == 0
