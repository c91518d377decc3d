"""The job store or the artifact store is away for a while, or has damaged something: no job pays
for it."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import create_database
from tests.support.sleep_jobs import (
    end_sleeping,
    make_params,
    make_unhurried_params,
    rerun_undisturbed,
    wait_for_checkpoint,
)
from tests.support.system import System, wait_for
from tests.support.tcp_proxy import proxy_database
from tests.support.waiting import TIMEOUT_S


@contextmanager
def artifacts_away(system: System) -> Iterator[None]:
    """A file stands where the store's folder was: every read and every write fails."""
    folder, away = system.home / "artifacts/sha256", system.home / "away"
    away.write_text("in the way")
    exchange(folder, away)
    yield
    exchange(folder, away)
    away.unlink()


def exchange(one: Path, other: Path) -> None:
    """Swap two paths in a single step, so that nobody who writes meanwhile finds neither."""
    at_cwd, rename_exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at_cwd, bytes(one), at_cwd, bytes(other), rename_exchange):
        raise OSError(ctypes.get_errno(), "renameat2")


def damage(system: System, sha256: str, how: str) -> None:
    path = system.home / "artifacts/sha256" / sha256[:2] / sha256
    if how == "lost":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "empty" else b"?" * path.stat().st_size)


def said(system: System, worker: str, what: str) -> None:
    wait_for(
        lambda: what in (system.home / f"{worker}.log").read_text(),
        TIMEOUT_S,
        f"{worker} says {what!r}",
    )


def step_of(system: System, job: str) -> int:
    """Where the job would go on from."""
    checkpoint = system.get_job(job).checkpoint
    assert checkpoint is not None
    data = system.artifacts.get(checkpoint)
    return int(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["step"])


def test_an_artifact_store_that_is_away_stops_no_computation_and_is_waited_for(
    sqlite_system: System,
) -> None:
    system = sqlite_system
    system.start_reconciler()
    system.start_worker("sleep")
    job = system.submit("sleep", make_unhurried_params(system, "a"), no_cache=True)
    wait_for_checkpoint(system, job)
    before = step_of(system, job)
    with artifacts_away(system):
        said(system, "worker-sleep", "checkpoint not saved")
        done = system.get_job(job).progress.get("done", 0)
        wait_for(
            lambda: system.get_job(job).progress.get("done", 0) > done + 3,
            TIMEOUT_S,
            "it computes on",
        )
    wait_for(lambda: step_of(system, job) > before, TIMEOUT_S, "a newer state is saved")
    end_sleeping(system, "a")
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 1, 0)
    assert ended.artifacts[0].sha256 == rerun_undisturbed(system, job)
    with artifacts_away(system):
        child = system.submit("sleep", {"tag": "child"}, inputs={"SLEPT": job})
        said(system, "worker-sleep", "the attempt is waiting for it")
        assert system.get_job(child).state == "running"
    ended = system.wait(child)
    assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 1, 0)


def test_who_waits_too_long_gives_the_job_back_free_of_charge(sqlite_system: System) -> None:
    system = sqlite_system
    system.env |= {"PALIMPSEST_STORE_WAIT_S": "0.5", "PALIMPSEST_RETRY_BACKOFF_S": "0.5"}
    system.start_reconciler()
    system.start_worker("sleep")
    parent = system.wait(system.submit("sleep", {"tag": "parent"}))
    with artifacts_away(system):
        child = system.submit("sleep", {"tag": "child"}, inputs={"SLEPT": parent.id})
        wait_for(
            lambda: system.get_job(child).attempt > 4,
            TIMEOUT_S,
            "it was given back more often than a job may be lost",
        )
    ended = system.wait(child)
    assert (ended.state, ended.lost_count) == ("succeeded", 0)


def test_who_leaves_while_the_artifact_store_is_away_leaves_the_older_checkpoint(
    sqlite_system: System,
) -> None:
    system = sqlite_system
    process = system.start_worker("sleep")
    job = system.submit("sleep", make_params(system, "b", steps=1000), no_cache=True)
    wait_for_checkpoint(system, job)
    with artifacts_away(system):
        said(system, "worker-sleep", "checkpoint not saved")
        checkpoint = system.get_job(job).checkpoint
        process.terminate()
        assert process.wait(timeout=TIMEOUT_S) == 0
        left = system.get_job(job)
    assert (left.state, left.lost_count, left.checkpoint) == ("queued", 0, checkpoint)


def test_postgresql_away_for_less_than_the_lease(
    make_system: Callable[..., System], sleep_tree: Path, postgres_server: str
) -> None:
    direct = create_database(postgres_server)
    gate, through = proxy_database(direct)
    system = make_system(
        sleep_tree, direct, PALIMPSEST_DATABASE_URL=through, PALIMPSEST_LEASE_S="60"
    )
    try:
        system.start_reconciler()
        system.start_worker("sleep")
        job = system.submit("sleep", make_params(system, "c", steps=100), no_cache=True)
        wait_for_checkpoint(system, job)
        gate.close()
        said(system, "worker-sleep", "checkpoint not saved")
        said(system, "worker-sleep", "lease not renewed")
        gate.open()
        ended = system.wait(job)
        assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 1, 0)
        # away at the end of an attempt, and before the next claim
        last = system.submit("sleep", {"tag": "d", "steps": 1, "seconds": 2.0, "deaf": True})
        system.wait(last, state="running")
        gate.close()
        said(system, "worker-sleep", "the attempt is waiting for it")
        gate.open()
        ended = system.wait(last)
        assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 1, 0)
        # a claim that was committed, and whose answer was lost: found again long before its lease
        # has run out
        gate.drop_commit_answer(b"answer lost")  # the claim's: it is answered with the job
        found = system.submit("sleep", {"tag": "answer lost"})
        assert gate.answer_dropped.wait(TIMEOUT_S)
        ended = system.wait(found)
        assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 1, 0)
        said(system, "worker-sleep", "recovered a claim")
    finally:
        gate.close()


def test_damaged_artifacts_are_made_again_and_nobody_is_charged(system: System) -> None:
    system.start_worker("sleep")
    for how in ("lost", "empty", "changed"):
        root = system.wait(system.submit("sleep", {"tag": f"root {how}"}))
        middle = system.wait(
            system.submit("sleep", {"tag": f"middle {how}"}, inputs={"SLEPT": root.id})
        )
        for job in (root, middle):
            damage(system, job.artifacts[0].sha256, how)
        params = [{"tag": f"child {how} {n}"} for n in range(3)]
        children = [system.submit("sleep", p, inputs={"SLEPT": middle.id}) for p in params]
        for child in children:
            ended = system.wait(child)
            assert (ended.state, ended.lost_count) == ("succeeded", 0)
        assert system.list_transitions(middle.id).count("succeeded") == 2
        for job in (root, middle):
            again = system.get_job(job.id)
            assert (again.state, again.lost_count, again.artifacts) == (
                "succeeded",
                0,
                job.artifacts,
            )
            assert system.artifacts.get(job.artifacts[0].sha256)
        # what is damaged is not reused either
        # not shared, but the same work
        first = system.wait(system.submit("sleep", {"tag": how}, no_cache=True))
        damage(system, first.artifacts[0].sha256, how)
        second = system.wait(system.submit("sleep", {"tag": how}))
        assert (second.reused_from, second.artifacts) == (None, first.artifacts)
        assert system.artifacts.get(first.artifacts[0].sha256)
