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
    """An artifact of a job; `size` is in bytes."""

    role: str
    sha256: str
    size: int
    media_type: str


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
    """How many were deleted with an upload, the upload included. If not `finished`, the service
    still removes bytes, or rewrites the files of its job store."""

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
class Job:
    """One unit of work at one stage. Times are RFC 3339 in UTC."""

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
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Job:
        artifacts = {
            role: Artifact(role, a["sha256"], a["size"], a["media_type"])
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
    """A grid of jobs that ends in one report."""

    id: str
    name: str
    state: str
    counts: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    created_at: str | None = None
    cancelled_at: str | None = None
    created: tuple[str, ...] = ()
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
class DryRun:
    """The jobs that an audit would create, and how many of them exist already."""

    total: int
    reused: int
    new: int
    jobs: tuple[Mapping[str, Any], ...] = ()
    costs: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DryRun:
        return _build(
            cls, body, jobs=tuple(body.get("jobs", ())), costs=tuple(body.get("costs", ()))
        )


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
class Page(Generic[R]):
    """Some items, newest first, and the token of the next page."""

    items: list[R]
    next: str | None
