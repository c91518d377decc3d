"""The states of a job, the transitions between them, and why a job can fail."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The state of a job."""

    WAITING = "waiting"  # an input is not there yet
    QUEUED = "queued"  # any worker of its stage may claim it
    PAUSED = "paused"  # queued, but a user keeps it from being claimed
    RUNNING = "running"  # one attempt holds its fence
    SUCCEEDED = "succeeded"  # its artifacts are there
    FAILED = "failed"  # it will not run again unless retried
    CANCELLED = "cancelled"  # asked to end


LIVE = frozenset({State.WAITING, State.QUEUED, State.PAUSED, State.RUNNING})
TERMINAL = frozenset(State) - LIVE
UNSUCCESSFUL = TERMINAL - {State.SUCCEEDED}

TRANSITIONS: dict[tuple[State, State], str] = {
    (State.WAITING, State.QUEUED): "the last job that it needs has ended",
    (State.WAITING, State.CANCELLED): "asked",
    (State.QUEUED, State.CANCELLED): "asked",
    (State.PAUSED, State.CANCELLED): "asked",
    (State.QUEUED, State.PAUSED): "asked",
    (State.PAUSED, State.QUEUED): "asked",
    (State.QUEUED, State.RUNNING): "claimed",
    (State.RUNNING, State.SUCCEEDED): "the holder of the fence says so",
    (
        State.RUNNING,
        State.FAILED,
    ): "the holder of the fence says so, or too many attempts were lost",
    (State.RUNNING, State.CANCELLED): "the holder of the fence says so",
    (State.RUNNING, State.QUEUED): "lease expired, or drained",
    (State.WAITING, State.FAILED): "an input failed",
    (State.FAILED, State.QUEUED): "retry",
    (State.FAILED, State.WAITING): "retry",
    (State.CANCELLED, State.QUEUED): "retry",
    (State.CANCELLED, State.WAITING): "retry",
    (State.SUCCEEDED, State.QUEUED): "its artifact is damaged",
    (State.SUCCEEDED, State.WAITING): "its artifact is damaged, and so is what it was made from",
    (State.QUEUED, State.WAITING): "its input is damaged",
    (State.PAUSED, State.WAITING): "an input that it would have run without goes again",
    (State.RUNNING, State.WAITING): "its input is damaged",
}


class Failure(StrEnum):
    """Why a job failed, in words a user can act on."""

    INVALID = "invalid"  # change the request
    INPUT_FAILED = "input_failed"  # look at the input's job, retry that one first
    OUT_OF_MEMORY = "out_of_memory"  # make it smaller, or give it a larger worker
    # every attempt ended with its worker gone; look at the workers' logs
    LOST_WORKER = "lost_worker"
    TIMEOUT = "timeout"  # raise the time limit
    ERROR = "error"  # a bug: report it


class Stop(StrEnum):
    """Why a running attempt is asked to stop."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
