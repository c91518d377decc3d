"""Why a job failed, in words a user can act on."""

from __future__ import annotations

import pytest
import torch
from pydantic import Field, ValidationError

from shared.errors import InvalidRequest, JobFailed
from shared.jobs.states import Failure
from shared.registry import Params
from workers.runner import explain


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
        (InvalidRequest("no such role", "inputs.BASE"), Failure.INVALID, "inputs.BASE: no such role"),
        (refused(), Failure.INVALID, "params.lr"),
        (MemoryError(), Failure.OUT_OF_MEMORY, "smaller"),
        (torch.OutOfMemoryError("CUDA out of memory"), Failure.OUT_OF_MEMORY, "CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Failure.OUT_OF_MEMORY, "smaller"),
        (KeyError("x"), Failure.ERROR, "KeyError: 'x'"),
    ],
)
def test_explain(error: Exception, failure: Failure, words: str) -> None:
    found, message = explain(error)
    assert found is failure
    assert words in message
