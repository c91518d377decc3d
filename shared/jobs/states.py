"""The states of a job, the moves between them, and why a job can fail."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"  # an input is not there yet
    QUEUED = "queued"  # any worker of its stage may claim it
    HELD = "held"  # queued, but asked to stay
    RUNNING = "running"  # one attempt holds its fence
    SUCCEEDED = "succeeded"  # its artifacts are there
    FAILED = "failed"  # it will not run again unless retried
    CANCELLED = "cancelled"  # asked to end


LIVE = frozenset({State.WAITING, State.QUEUED, State.HELD, State.RUNNING})
TERMINAL = frozenset(State) - LIVE
ENDED_BADLY = TERMINAL - {State.SUCCEEDED}

MOVES: dict[tuple[State, State], str] = {
    (State.WAITING, State.QUEUED): "its last input succeeded, or (a tolerant job) ended",
    (State.WAITING, State.CANCELLED): "asked",
    (State.QUEUED, State.CANCELLED): "asked",
    (State.HELD, State.CANCELLED): "asked",
    (State.QUEUED, State.HELD): "asked",
    (State.HELD, State.QUEUED): "asked",
    (State.QUEUED, State.RUNNING): "claimed",
    (State.RUNNING, State.SUCCEEDED): "the holder of the fence says so",
    (State.RUNNING, State.FAILED): "the holder of the fence says so, or too many attempts were lost",
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
    (State.RUNNING, State.WAITING): "its input is damaged",
}


class Failure(StrEnum):
    """Why a job failed, in words a user can act on."""

    INVALID = "invalid"  # change the request
    INPUT_FAILED = "input_failed"  # look at the input's job, retry that one first
    OUT_OF_MEMORY = "out_of_memory"  # make it smaller, or give it a larger worker
    LOST_WORKER = "lost_worker"  # every attempt ended with its worker gone; look at the workers' logs
    TIMEOUT = "timeout"  # raise the time limit
    ERROR = "error"  # a defect: report it


class Stop(StrEnum):
    """What a running attempt may be told to do."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
