"""Why a job failed, in words a user can act on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pydantic import Field, ValidationError

from shared.errors import InvalidRequest, JobFailed, TransientError
from shared.jobs.states import Failure
from shared.plugins import Params
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
