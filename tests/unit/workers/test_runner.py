"""Why a job failed, in words a user can act on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pydantic import Field, ValidationError

from shared.errors import InvalidRequest, JobFailed, TransientError
from shared.jobs import worker_drains, worker_registry
from shared.jobs.states import Failure
from shared.plugins import Params
from tests.support.migrated import open_in_memory
from tests.support.waiting import FastClock
from workers.attempt_state import AttemptState
from workers.runner import Runner, classify_error


class SomeParams(Params):
    lr: float = Field(gt=0)


def refused() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        SomeParams(lr=-1)
    return caught.value


@pytest.mark.parametrize(
    ("error", "failure", "words"),
    [
        (JobFailed("timeout", "too slow"), Failure.TIMEOUT, "too slow"),
        (
            InvalidRequest("no such role", "inputs.BASE"),
            Failure.INVALID,
            "inputs.BASE: no such role",
        ),
        (refused(), Failure.INVALID, "params.lr"),
        (MemoryError(), Failure.OUT_OF_MEMORY, "smaller"),
        (torch.OutOfMemoryError("CUDA out of memory"), Failure.OUT_OF_MEMORY, "CUDA out of memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            Failure.OUT_OF_MEMORY,
            "smaller",
        ),
        (KeyError("x"), Failure.ERROR, "KeyError: 'x'"),
    ],
)
def test_explain(error: Exception, failure: Failure, words: str) -> None:
    found, message = classify_error(error)
    assert found is failure
    assert words in message


def test_an_end_is_told_however_long_the_job_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its job would be charged for it once the store is back."""
    monkeypatch.setattr("workers.store_wait.time", FastClock())
    tries, notified = list(range(12)), list[set[str]]()

    def tell() -> set[str]:
        if tries:
            raise TransientError(f"the job store did not answer: {tries.pop()}")
        return {"attack"}

    runner = Runner.__new__(Runner)
    runner.lease_process = SimpleNamespace(state=AttemptState.create())  # type: ignore[assignment]
    runner.wakeup = SimpleNamespace(notify=notified.append)  # type: ignore[assignment]
    runner._record_end(tell)
    assert notified == [{"attack"}]


def test_a_drained_worker_passes_its_wakeup_on_and_waits_until_it_is_undrained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.runner.DRAIN_POLL_S", 0.01)
    db, notified, rounds = open_in_memory(), list[tuple[str, ...]](), list[int]()
    worker_registry.register_worker(
        db, "w", host="h", pid=1, stages=("attack",), device="cpu", threads=1, versions={},
        catalog="c",
    )  # fmt: skip

    def look_after_lease_process() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            worker_drains.undrain_worker(db, "w")

    runner = Runner.__new__(Runner)
    runner.db, runner.worker, runner.served_stages = db, "w", ("attack",)
    runner.wakeup = SimpleNamespace(notify=notified.append)  # type: ignore[assignment]
    runner.lease_process = SimpleNamespace(ensure_running=look_after_lease_process)  # type: ignore[assignment]
    assert not runner._wait_while_drained()  # it is not: nothing is passed on
    worker_drains.drain_worker(db, "w")
    assert runner._wait_while_drained()
    assert (notified, len(rounds)) == ([("attack",)], 3)
    worker_drains.drain_worker(db, "w")
    worker_registry.request_drain(db, "w")
    assert not runner._wait_while_drained()  # it shuts down
    db.close()
