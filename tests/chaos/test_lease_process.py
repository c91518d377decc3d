"""The lease process dies or hangs, under a job and without one: nothing is charged, and nobody
waits for the lease."""

from __future__ import annotations

import signal
import subprocess

import psutil
import pytest

from shared.jobs import control
from tests.support.sleep_jobs import make_params
from tests.support.system import TENANT, System, wait_for
from tests.support.waiting import TIMEOUT_S


def another_lease(process: subprocess.Popen[bytes], old: psutil.Process) -> psutil.Process:
    return wait_for(
        lambda: (p := System.find_lease_process(process)) and p.pid != old.pid and p,
        TIMEOUT_S,
        "another one is started",
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
@pytest.mark.parametrize(
    "deaf",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["it beats", "it says nothing"],
)
def test_under_a_job(sqlite_system: System, how: signal.Signals, deaf: bool) -> None:
    system = sqlite_system
    process = system.start_worker("sleep", PALIMPSEST_LEASE_S="30")
    job = system.submit("sleep", make_params(system, "a", steps=6000, deaf=deaf))
    system.wait(job, state="running")
    child, lease = System.find_child(process), System.find_lease_process(process)
    assert lease is not None
    lease.send_signal(how)
    held = system.get_job(job).lease_until
    assert another_lease(process, lease).parent() == child
    wait_for(
        lambda: system.get_job(job).lease_until > held, TIMEOUT_S, "the lease is renewed again"
    )
    control.cancel_job(system.db, TENANT, job)
    ended = system.wait(job)
    assert (ended.state, ended.attempt, ended.lost_count) == ("cancelled", 1, 0), system.read_log(
        "worker-sleep"
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_without_a_job(sqlite_system: System, how: signal.Signals) -> None:
    system = sqlite_system
    process = system.start_worker("sleep")
    for tag in "ab":
        lease = System.find_lease_process(process)
        assert lease is not None
        lease.send_signal(how)
        job = system.wait(system.submit("sleep", make_params(system, tag, steps=1)))
        assert (job.state, job.attempt, job.lost_count) == ("succeeded", 1, 0)
        another_lease(process, lease)


def test_a_cancel_and_a_time_limit_outlive_it(sqlite_system: System) -> None:
    system = sqlite_system
    process = system.start_worker("sleep")
    job = system.submit("sleep", make_params(system, "a", steps=6000), time_limit=6.0)
    system.wait(job, state="running")
    for _ in range(2):
        lease = System.find_lease_process(process)
        assert lease is not None
        lease.kill()
        another_lease(process, lease)
    ended = system.wait(job)
    assert (ended.failure, ended.attempt, ended.lost_count) == ("timeout", 1, 0)
    assert ended.finished_at is not None
    assert ended.started_at is not None
    # far from 600 s: it did not start over with each
    assert ended.finished_at - ended.started_at < 40
