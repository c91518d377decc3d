"""What stands in the job store, as frozen data. Times are seconds since 1970 by the database's
clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.jobs.states import State
from shared.wiring import RunWhen


@dataclass(frozen=True)
class Input:
    """One input of a job: by role, from a job (`parent`, its artifact in `parent_role`) or from an
    artifact."""

    role: str
    parent: str | None = None
    parent_role: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Artifact:
    """Bytes that a job made."""

    role: str
    sha256: str
    size: int
    media_type: str
    expired_at: float | None = None  # since when the store has them no more


@dataclass(frozen=True)
class JobCost:
    """What a job took from beginning to end.

    run_s: seconds, without the wait in the queue.
    cpu_s: processor seconds of all threads.
    memory_bytes: peak of the worker process, of memory that is no file's; None where the system
        does not tell.
    device_memory_bytes: peak on the accelerator, None without one.
    """

    run_s: float
    cpu_s: float
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None


@dataclass(frozen=True)
class Preview:
    """What an attacker sees of its reconstruction after `step` of `total` steps of its job.
    `body` is the picture, b"" in lists."""

    step: int
    total: int
    made_at: float
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class JobPreview:
    """A preview with what its caption says of the job."""

    job: str
    stage: str
    method: str | None
    seed: int
    state: State
    progress: Mapping[str, Any]
    preview: Preview


@dataclass(frozen=True)
class PlannedJob:
    """A job before it is stored. An `Input.parent` may be the request key of another planned job or
    a job id.

    `request_key` is the Merkle hash that makes equal jobs one; `plugins` are the `kind:name` its
    worker must have; `produces` the roles of its outputs; `code` the digest of the code it was
    planned for; `run_when` whether it waits for its inputs to succeed or only to finish.
    `data_digests` is by path the sha256 of what it reads in the data root, and of what is behind
    its inputs that are named by their digest.
    """

    request_key: str
    stage: str
    method: str | None
    params: Mapping[str, Any]
    seed: int
    inputs: tuple[Input, ...]
    plugins: tuple[str, ...]
    produces: tuple[str, ...]
    code: str
    no_cache: bool = False
    run_when: RunWhen = RunWhen.ALL_SUCCEEDED
    data_digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One unit of work at one stage."""

    id: str
    tenant: str  # who owns it
    stage: str  # which queue it waits on
    method: str | None  # the plugin, for stages that have methods
    params: Mapping[str, Any]  # every parameter, defaults filled in
    seed: int  # all its randomness
    inputs: tuple[Input, ...]
    produces: tuple[str, ...]  # roles of its outputs
    state: State
    priority: int  # higher goes first
    request_key: str  # equal for equal jobs, known at submission
    cache_key: str | None  # equal for equal work, known when its inputs are
    # by path, sha256 of the files of the data root that it and what it is made from read
    data_digests: Mapping[str, str]
    code: str  # digest of the code it was planned for, then of the code that ran it
    no_cache: bool  # runs even if the same work was done before
    fence: int  # grows with every claim; only its holder may write
    attempt: int  # how many times it was claimed
    lost_count: int  # how many attempts were lost, as charged
    lease_until: float | None  # until when the holder has it
    worker: str | None  # who has it, or had it last
    stop: str | None  # the request to its attempt: cancel
    checkpoint: str | None  # artifact from which the next attempt goes on
    progress: Mapping[str, Any]  # done, total and the numbers of the moment
    failure: str | None  # word of shared.jobs.states.Failure
    message: str | None  # what happened, which value, what to do
    reused_from: str | None  # the job whose artifacts it took
    time_limit: float | None  # seconds one attempt may run
    created_at: float
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    version: int  # grows with every change
    cost: JobCost | None = None  # None unless it ran from beginning to end in one attempt
    artifacts: tuple[Artifact, ...] = ()
    audits: tuple[str, ...] = ()
    summary: Mapping[str, Any] | None = None  # what it has found, in brief
    preview: Preview | None = None  # without its body


@dataclass(frozen=True)
class Audit:
    """One grid of choices that a user posted; `counts` says how many of its jobs are in each
    state. `labels` and `metadata` are the user's own: nothing depends on them."""

    id: str
    tenant: str
    name: str
    spec: Mapping[str, Any]
    created_at: float
    cancelled_at: float | None
    counts: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    last_job_finished_at: float | None = None  # of its jobs so far
    verdict: Mapping[str, str] | None = None  # level and headline of its report

    @property
    def finished_at(self) -> float | None:
        """When it ended: cancelled, or with its last job. None while it goes on."""
        if self.cancelled_at is not None:
            return self.cancelled_at
        return None if self.state in ("queued", "running") else self.last_job_finished_at

    @property
    def state(self) -> str:
        """In a word: cancelled, failed, succeeded, running, or queued."""
        live = sum(
            n for s, n in self.counts.items() if s in ("waiting", "queued", "paused", "running")
        )
        if self.cancelled_at is not None:
            return "cancelled"
        if not live:
            return "succeeded" if set(self.counts) <= {"succeeded"} else "failed"
        return "running" if set(self.counts) - {"waiting", "queued", "paused"} else "queued"


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `seq` counts from 1 within the job."""

    job: str
    seq: int
    at: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """A job in the hands of one attempt. `inputs` maps role -> sha256; `audit` is one of those that
    need it."""

    job: Job
    fence: int
    inputs: Mapping[str, str]
    audit: str | None = None

    @property
    def log_fields(self) -> dict[str, str]:
        """What every line that is logged about the job names."""
        fields = {"job": self.job.id, "stage": self.job.stage, "tenant": self.job.tenant}
        return fields if self.audit is None else {**fields, "audit": self.audit}


@dataclass(frozen=True)
class ControlFlags:
    """What a renewal returns to the holder of a lease. `drain` is None if its worker is not
    registered."""

    stop: str | None
    drain: bool | None


@dataclass(frozen=True)
class WorkerMemory:
    """What a worker has of the host's memory and of the accelerator's, in bytes; None: not known."""

    used_bytes: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True)
class Worker:
    """One worker process that was seen."""

    id: str
    host: str
    pid: int
    stages: tuple[str, ...]
    device: str
    threads: int
    versions: Mapping[str, str]
    catalog: str
    started_at: float
    seen_at: float
    drain: bool  # it takes no job: an operator has drained it, or it shuts down
    live: bool = False
    job: str | None = None
    drained_at: float | None = None  # when an operator drained it
    # of its pool child, as of the last heartbeat
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None


@dataclass(frozen=True)
class SubmitResult:
    """What a submission came to: job ids by request key, and which of them are new (not in a
    replay: as records)."""

    audit: str | None
    jobs: Mapping[str, str]
    created: frozenset[str]
    stages: frozenset[str]  # stages that got something to do
    replayed: bool = False
    new: Mapping[str, Job] = field(default_factory=dict, compare=False)
