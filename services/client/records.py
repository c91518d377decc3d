"""The gateway's answers as frozen data. Fields that this client does not know are in `raw`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

R = TypeVar("R")

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


def _build(kind: Callable[..., R], body: Mapping[str, Any], **special: Any) -> R:
    dataclass_kind: Any = kind
    known = {f.name for f in fields(dataclass_kind)} - special.keys() - {"raw"}
    return kind(**{name: body[name] for name in known if name in body}, **special, raw=body)


@dataclass(frozen=True)
class Artifact:
    """An artifact of a job; `size` is in bytes. One with `expired_at` cannot be fetched any
    more."""

    role: str
    sha256: str
    size: int
    media_type: str
    expired_at: str | None = None


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded; `size` is in bytes. Times are RFC 3339 in UTC."""

    sha256: str
    size: int = 0
    media_type: str = ""
    created_at: str | None = None
    expires_at: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Upload:
        return _build(cls, body)


@dataclass(frozen=True)
class Derived:
    """What was made of an upload, the upload included. `audits` are the ids and names of at most
    100, the oldest; `bytes` are those of all artifacts together."""

    sha256: str
    audits: tuple[Mapping[str, str], ...] = ()
    audit_count: int = 0
    job_count: int = 0
    jobs_by_stage: Mapping[str, int] = field(default_factory=dict)
    live_job_count: int = 0
    artifact_count: int = 0
    bytes: int = 0
    shared_artifact_count: int = 0
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Derived:
        return _build(cls, body, audits=tuple(body.get("audits", ())))


@dataclass(frozen=True)
class Erasure:
    """How many were deleted with an upload or an audit, which is included. If not `finished`, the
    service still removes jobs or bytes, or rewrites the files of its job store."""

    audits: int = 0
    jobs: int = 0
    artifacts: int = 0
    bytes: int = 0
    finished: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Erasure:
        return _build(cls, body)


@dataclass(frozen=True)
class UploadSpace:
    """Bytes that all uploads hold, and may hold."""

    used_bytes: int
    quota_bytes: int


@dataclass(frozen=True)
class Declaration:
    """One version of a model or a data set that was declared.

    state: checking, ready, rejected (it is not what was declared) or failed (the check has ended
        without a result: declare it again).
    reason: why it is rejected or failed.
    job: the job that checks it.
    inspection: what the check has read, once it is ready; left out of lists.
    """

    name: str
    version: int
    state: str
    url: str
    job: str
    reason: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: str | None = None
    inspection: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Declaration:
        return _build(cls, body)

    @property
    def label(self) -> str:
        """Name and version, as audits take them: `before@2`."""
        return f"{self.name}@{self.version}"

    @property
    def is_checked(self) -> bool:
        """Whether the check has ended, with a result or without."""
        return self.state != "checking"


@dataclass(frozen=True)
class Job:
    """One unit of work at one stage. Times are RFC 3339 in UTC.

    summary: what it has found, in brief; None unless it has succeeded and its stage says something.
    preview: step, total, made_at and url of the picture of what an attack sees of its
        reconstruction so far.
    """

    id: str
    stage: str
    state: str
    method: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    produces: tuple[str, ...] = ()
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    audits: tuple[str, ...] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    message: str | None = None
    stopping: bool = False
    reused_from: str | None = None
    attempt: int = 0
    lost_count: int = 0
    worker: str | None = None
    priority: int = 0
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    version: int = 0
    created: bool | None = None
    summary: Mapping[str, Any] | None = None
    preview: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Job:
        artifacts = {
            role: Artifact(role, a["sha256"], a["size"], a["media_type"], a.get("expired_at"))
            for role, a in body.get("artifacts", {}).items()
        }
        lists = {name: tuple(body.get(name, ())) for name in ("produces", "audits")}
        return _build(cls, body, artifacts=artifacts, **lists)

    @property
    def is_terminal(self) -> bool:
        """Whether it has succeeded, failed or been cancelled."""
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class Audit:
    """A grid of jobs that ends in one report. Times are RFC 3339 in UTC.

    verdict: level and headline of the report; None while there is none.
    retried, skipped: after `retry`, how many jobs go again, and how many failed ones do not.
    changed: after `set_priority`, how many jobs had another priority.
    """

    id: str
    name: str
    state: str
    counts: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    created_at: str | None = None
    cancelled_at: str | None = None
    finished_at: str | None = None
    verdict: Mapping[str, str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created: tuple[str, ...] = ()
    retried: int | None = None
    skipped: int | None = None
    changed: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Audit:
        return _build(cls, body, created=tuple(body.get("created", ())))

    @property
    def is_terminal(self) -> bool:
        """Whether it has succeeded, failed or been cancelled."""
        return self.state in TERMINAL_STATES

    @property
    def total(self) -> int:
        """How many jobs it has."""
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        """How many of its jobs have ended."""
        return sum(n for state, n in self.counts.items() if state in TERMINAL_STATES)


@dataclass(frozen=True)
class BulkCancel:
    """Result of a cancel by filters, or what it would be with a dry run.

    cancelled: jobs that are cancelled.
    stopping: running jobs that were told to stop.
    remaining: selected jobs that are left for the next request.
    created_before: only jobs created before this time are selected.
    """

    cancelled: int
    stopping: int
    remaining: int
    created_before: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> BulkCancel:
        return _build(cls, body)


@dataclass(frozen=True)
class StageQuote:
    """What the new jobs of one stage and method will cost, as far as past jobs tell.

    unknown: new jobs of which no past job tells the cost; no figure has them in it.
    seconds: per job, the median of past jobs; `seconds_low` to `seconds_high` is what these took.
    cpu_seconds: of all new jobs.
    memory_bytes, device_memory_bytes: peak of one job.
    basis: what the past jobs have in common with these: `equal` (all but seeds, code and data),
        `similar` (other methods made their inputs), `other_settings` (only stage and method: a
        guess), or None without any.
    past_jobs: how many there are.
    workers: live workers that serve the stage.
    """

    stage: str
    method: str | None = None
    jobs: int = 0
    reused: int = 0
    new: int = 0
    unknown: int = 0
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    basis: str | None = None
    past_jobs: int = 0
    workers: int = 0

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> StageQuote:
        return cls(**{f.name: body[f.name] for f in fields(cls) if f.name in body})


@dataclass(frozen=True)
class Quote:
    """What an audit will cost, as far as past jobs tell.

    unknown: new jobs of which no past job tells the cost; no figure has them in it.
    wall_seconds: with the live workers, if nothing else runs; None if a stage has no worker.
    wall_seconds_with_workers: the same with `workers` workers of each kind.
    """

    stages: tuple[StageQuote, ...] = ()
    cpu_seconds: float = 0.0
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    unknown: int = 0
    wall_seconds: float | None = None
    workers: int | None = None
    wall_seconds_with_workers: float | None = None
    machines: tuple[str, ...] = ()
    unserved_stages: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Quote:
        lists = {name: tuple(body.get(name, ())) for name in ("machines", "unserved_stages")}
        stages = tuple(StageQuote.from_json(one) for one in body.get("stages", ()))
        known = {f.name: body[f.name] for f in fields(cls) if f.name in body}
        return cls(**{**known, **lists, "stages": stages})


@dataclass(frozen=True)
class DryRun:
    """The jobs that a submission would create, how many of them exist already, and what the others
    will cost."""

    total: int
    reused: int
    new: int
    jobs: tuple[Mapping[str, Any], ...] = ()
    costs: tuple[str, ...] = ()
    quote: Quote = field(default_factory=Quote)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DryRun:
        lists = {name: tuple(body.get(name, ())) for name in ("jobs", "costs")}
        return _build(cls, body, **lists, quote=Quote.from_json(body.get("quote", {})))


@dataclass(frozen=True)
class Event:
    """An event of a job; `seq` counts from 1 within the job."""

    seq: int
    at: str
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Event:
        return _build(cls, body)


@dataclass(frozen=True)
class Me:
    """Whose key the client sends, and what it may do; `key_id` is None for the gateway's token."""

    tenant: str
    key_id: str | None = None
    label: str = ""
    scopes: tuple[str, ...] = ()
    expires_at: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Me:
        return _build(cls, body, scopes=tuple(body.get("scopes", ())))


@dataclass(frozen=True)
class Key:
    """A key to the gateway; `key` is the secret, "" but for a key that was just created."""

    id: str
    tenant: str
    label: str = ""
    scopes: tuple[str, ...] = ()
    state: str = ""
    created_at: str | None = None
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    key: str = field(default="", repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Key:
        return _build(cls, body, scopes=tuple(body.get("scopes", ())))


@dataclass(frozen=True)
class Tenant:
    """A tenant; a quota that is None is no limit."""

    name: str
    created_at: str | None = None
    disabled_at: str | None = None
    quotas: Mapping[str, int | None] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Tenant:
        return _build(cls, body)


@dataclass(frozen=True)
class Page(Generic[R]):
    """Some items, newest first, and the token of the next page."""

    items: list[R]
    next: str | None
