"""Every call of the API as data, so that the sync and the async client share all but the sending."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from services.client.records import Audit, DryRun, Event, Job, Page

T = TypeVar("T")
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and how its answer is read. `repeatable`: sending it twice does no harm."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True

    def unless(self, etag: str | None) -> Call[T]:
        """The same call, answered only if the thing has changed since."""
        return replace(self, headers={**self.headers, "If-None-Match": etag}) if etag else self


def _segment(text: str) -> str:
    return quote(text, safe="") or "-"


def _same(body: Any) -> Any:
    return body


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def submit_job(
    stage: str,
    *,
    method: str | None = None,
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    source: str | None = None,
    seed: int | None = None,
    fresh: bool | None = None,
    priority: int | None = None,
    time_limit: float | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """`source` is a job: every input that is not given is taken from it, or from what it was made of."""
    body = _given(
        stage=stage,
        method=method,
        params=params,
        inputs=inputs,
        seed=seed,
        fresh=fresh,
        priority=priority,
        time_limit=time_limit,
    )
    body |= _given(**{"from": source})
    return Call("POST", "/v1/jobs", Job.of, body=body, headers=_once(idempotency_key))


def submit_audit(spec: Body, idempotency_key: str | None = None) -> Call[Audit]:
    return Call("POST", "/v1/audits", Audit.of, body=spec, headers=_once(idempotency_key))


def _once(key: str | None) -> dict[str, str]:
    # a key of its own makes every submission safe to send again when the answer was lost
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def dry_run(spec: Body) -> Call[DryRun]:
    return Call("POST", "/v1/audits", DryRun.of, query={"dry_run": "true"}, body=spec)


def job(job_id: str) -> Call[Job]:
    return Call("GET", f"/v1/jobs/{_segment(job_id)}", Job.of)


def jobs(*, limit: int | None = None, page: str | None = None, **filters: str | None) -> Call[Page[Job]]:
    query = _given(limit=limit, page=page, **filters)
    return Call("GET", "/v1/jobs", lambda b: Page([Job.of(j) for j in b["items"]], b["next"]), query=query)


def audit(audit_id: str) -> Call[Audit]:
    return Call("GET", f"/v1/audits/{_segment(audit_id)}", Audit.of)


def audits(*, limit: int | None = None, page: str | None = None) -> Call[Page[Audit]]:
    query = _given(limit=limit, page=page)
    return Call("GET", "/v1/audits", lambda b: Page([Audit.of(a) for a in b["items"]], b["next"]), query=query)


def cancel(item_id: str) -> Call[Job | Audit]:
    if item_id.startswith("aud_"):
        return Call("POST", f"/v1/audits/{_segment(item_id)}/cancel", Audit.of)
    return Call("POST", f"/v1/jobs/{_segment(item_id)}/cancel", Job.of)


def act(job_id: str, action: str) -> Call[Job]:
    """retry, hold, unhold: the second of two finds the job in another state."""
    return Call("POST", f"/v1/jobs/{_segment(job_id)}/{action}", Job.of, repeatable=False)


def events(job_id: str, after: int, limit: int | None = None) -> Call[list[Event]]:
    query = _given(after=after, limit=limit)
    return Call("GET", f"/v1/jobs/{_segment(job_id)}/events", lambda b: [Event.of(e) for e in b["items"]], query=query)


def event_stream(job_id: str, after: int) -> Call[None]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    return Call("GET", f"/v1/jobs/{_segment(job_id)}/events", _same, headers=headers)


def artifact(sha256: str) -> Call[None]:
    return Call("GET", f"/v1/artifacts/{_segment(sha256)}", _same)


def catalog(kind: str | None = None) -> Call[dict[str, Any]]:
    return Call("GET", "/v1/catalog", _same, query=_given(kind=kind))


def queues() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/queues", lambda b: b["items"])


def workers() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/workers", lambda b: b["items"])
