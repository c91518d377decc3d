"""How a death from want of memory is told from any other. The child is a real process, the kernel's
count is given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.system import wait_for
from tests.support.waiting import TIMEOUT_S
from workers.memory import MemoryWatch, count_oom_kills, read_usage

MB = 1_000_000
LARGE = (
    "kept = bytearray(b'x' * 100_000_000); print('taken', flush=True); import time; time.sleep(600)"
)


@dataclass
class Scene:
    child: subprocess.Popen[bytes]
    kills: int = 7  # what the kernel has counted
    hold: int | None = 1

    def watch(self, limit: int | None) -> MemoryWatch:
        return MemoryWatch(
            self.child.pid, limit, lambda: self.hold, self.child.kill, lambda: self.kills
        )


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    child = subprocess.Popen([sys.executable, "-c", LARGE], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    # the watch is taken for a process of the child's
    monkeypatch.setattr(os, "getppid", lambda: child.pid)
    yield Scene(child)
    child.kill()
    child.wait()
    child.stdout.close()


def test_one_over_its_limit_is_killed_and_the_sentence_has_both_figures(scene: Scene) -> None:
    watch = scene.watch(50 * MB)
    watch.check()
    assert scene.child.poll() is None  # once is what the last job left behind
    watch.check()
    assert scene.child.wait(10) == -signal.SIGKILL
    why = watch.explain_death()
    assert why is not None
    assert "used 10" in why
    assert "the limit is 50 MB" in why


def test_one_without_a_job_or_with_another_one_at_each_look_is_left_alone(scene: Scene) -> None:
    watch = scene.watch(50 * MB)
    for hold in (None, 1, 2, None, 3, 4):
        scene.hold = hold
        watch.check()
    assert scene.child.poll() is None


@pytest.mark.parametrize("limit", [110 * MB, None], ids=["close to its limit", "without one"])
def test_a_plain_kill_is_never_want_of_memory(scene: Scene, limit: int | None) -> None:
    watch = scene.watch(limit)
    watch.check()
    scene.child.kill()
    watch.check()
    scene.child.wait()
    watch.check()
    assert watch.explain_death() is None


def test_one_that_the_kernel_killed_for_memory_is_told_so_however_long_it_takes_to_die(
    scene: Scene,
) -> None:
    watch = scene.watch(None)
    watch.check()
    scene.kills += 1  # the kernel counts first
    watch.check()
    scene.child.kill()
    for _ in range(5):
        watch.check()
    scene.child.wait()
    watch.check()
    why = watch.explain_death()
    assert why is not None
    assert "killed by the kernel, out of memory" in why
    assert "used 10" in why


def test_another_process_killed_for_memory_is_not_this_one(scene: Scene) -> None:
    watch = scene.watch(None)
    scene.kills += 1
    for _ in range(3):
        watch.check()
    scene.child.kill()
    scene.child.wait()
    assert watch.explain_death() is None


def test_memory_that_is_shared_with_no_file_counts() -> None:
    shared = LARGE.replace("bytearray(", "__import__('mmap').mmap(-1, 100_000_000); kept.write(")
    with subprocess.Popen([sys.executable, "-c", shared], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        now = read_usage(child.pid)
        child.kill()
    assert now is not None
    assert now.used_bytes > 100 * MB


def test_the_kernel_s_count_is_there() -> None:
    assert count_oom_kills() >= 0


def test_a_process_that_is_gone_has_nothing(scene: Scene) -> None:
    scene.child.kill()
    scene.child.wait()
    wait_for(lambda: read_usage(scene.child.pid) is None, TIMEOUT_S, "it is gone")
