"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from services.client import calls, transport
from services.client.calls import Call
from services.client.files import Landing, chosen
from services.client.records import Audit, DryRun, Event, Job, Page
from services.client.reports import STAGE, Report, ready
from services.client.sse import RESUME_AFTER, Reader
from services.client.transport import STREAM_TIMEOUT, Patience
from services.client.watching import Follower, Update
from services.client.where import find

T = TypeVar("T")


class Client:
    """The gateway at `url`. Without arguments it is looked for as `services.client.where` says.

    Args:
        patience: seconds for which a call is sent again while the gateway does not answer.
        timeout: seconds that one answer may take.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, patience: float = 3.0, timeout: float = 30.0
    ) -> None:
        self.url, token = find(url, token)
        self.patience = patience
        self._http = httpx.Client(**transport.options(self.url, token, timeout))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit_job(self, stage: str, **options: Any) -> Job:
        """Submit one job; `options` are those of `services.client.calls.submit_job`."""
        return self._do(calls.submit_job(stage, **options))

    def submit_audit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Audit:
        """Submit an audit."""
        return self._do(calls.submit_audit(spec, idempotency_key))

    def dry_run(self, spec: Mapping[str, Any]) -> DryRun:
        """What an audit would come to; nothing is stored."""
        return self._do(calls.dry_run(spec))

    def job(self, job_id: str) -> Job:
        return self._do(calls.job(job_id))

    def jobs(self, **filters: Any) -> Iterator[Job]:
        """All jobs, newest first: `stage`, `method`, `state`, `audit` choose, `limit` is the size of a page."""
        page: str | None = None
        while True:
            found = self._do(calls.jobs(page=page, **filters))
            yield from found.items
            if (page := found.next) is None:
                return

    def jobs_page(self, **filters: Any) -> Page[Job]:
        """One page of jobs; `page` is the token from the page before."""
        return self._do(calls.jobs(**filters))

    def audit(self, audit_id: str) -> Audit:
        return self._do(calls.audit(audit_id))

    def audits(self, **filters: Any) -> Iterator[Audit]:
        """All audits, newest first."""
        page: str | None = None
        while True:
            found = self._do(calls.audits(page=page, **filters))
            yield from found.items
            if (page := found.next) is None:
                return

    def cancel(self, item_id: str) -> Job | Audit:
        """Ask a job or an audit to end."""
        return self._do(calls.cancel(item_id))

    def retry(self, job_id: str) -> Job:
        return self._do(calls.act(job_id, "retry"))

    def hold(self, job_id: str) -> Job:
        return self._do(calls.act(job_id, "hold"))

    def unhold(self, job_id: str) -> Job:
        return self._do(calls.act(job_id, "unhold"))

    def catalog(self, kind: str | None = None) -> dict[str, Any]:
        return self._do(calls.catalog(kind))

    def queues(self) -> list[dict[str, Any]]:
        return self._do(calls.queues())

    def workers(self) -> list[dict[str, Any]]:
        return self._do(calls.workers())

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """What happens to a job, as it happens, until it has ended. Goes on by itself when a stream breaks."""
        reader = Reader(after)
        while True:
            call = calls.event_stream(job_id, reader.after)
            with self._stream(call, timeout=STREAM_TIMEOUT) as response:
                if response.status_code == 204:
                    return
                try:
                    for line in response.iter_lines():
                        event = reader.feed(line)
                        if event is not None:
                            yield event
                except httpx.TransportError:
                    reader.restart()
            time.sleep(RESUME_AFTER)

    def history(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """What has happened to a job so far; it does not wait for more."""
        while found := self._do(calls.events(job_id, after)):
            yield from found
            after = found[-1].seq

    def watch(self, *ids: str, every: float = 0.5) -> Iterator[Update]:
        """How jobs and audits come along, until all of them have ended."""
        follower = Follower(ids)
        while True:
            for call in follower.calls():
                response = self._send(call)
                answer = None if response.status_code == 304 else transport.read(call, response)
                yield from follower.take(call, answer, response.headers.get("ETag"))
            if not follower.open:
                return
            time.sleep(every)

    def fetch(self, source: str, role: str | None = None) -> bytes:
        """An artifact's bytes, checked against their digest: by sha256, or by job and role."""
        return self._land(source, role, None).data

    def fetch_to(self, path: Path, source: str, role: str | None = None) -> Path:
        """Write an artifact to a file, whole or not at all; into a folder under the name the gateway gives it."""
        return self._land(source, role, path).path

    def report(self, item_id: str) -> Report:
        """The report of an audit, or of a report job.

        Raises:
            NoReport: there is none, or not yet.
        """
        if item_id.startswith("aud_"):
            found = self.jobs_page(audit=item_id, stage=STAGE, limit=1)
            job = found.items[0] if found.items else None
        else:
            job = self.job(item_id)
        job, made = ready(job, item_id)
        return Report.of(job, {kind: self.fetch(sha256) for kind, sha256 in made.items()})

    def _land(self, source: str, role: str | None, path: Path | None) -> Landing:
        sha256 = chosen(self.job(source), role) if source.startswith("job_") else source
        patience = Patience(self.url, self.patience)
        while True:
            call = calls.artifact(sha256)
            try:
                with self._stream(call) as response, Landing(sha256, response, path) as landing:
                    for chunk in response.iter_bytes():
                        landing.write(chunk)
                return landing
            except httpx.TransportError as error:
                time.sleep(patience.after_failure(call, error))

    def _do(self, call: Call[T]) -> T:
        answer: T = transport.read(call, self._send(call))
        return answer

    def _send(self, call: Call[Any]) -> httpx.Response:
        with self._stream(call, whole=True) as response:
            return response

    @contextmanager
    def _stream(
        self, call: Call[Any], *, whole: bool = False, timeout: Any = httpx.USE_CLIENT_DEFAULT
    ) -> Iterator[httpx.Response]:
        """Send a call, again while patience lasts; an error status is raised, or with `whole` left to the reader."""
        patience = Patience(self.url, self.patience)
        while True:
            try:
                request = self._http.build_request(**transport.arguments(call), timeout=timeout)
                response = self._http.send(request, stream=True)
                if whole or response.status_code >= 400:
                    response.read()
            except httpx.TransportError as error:
                time.sleep(patience.after_failure(call, error))
                continue
            pause = patience.after_answer(call, response)
            if pause is None:
                break
            response.close()
            time.sleep(pause)
        try:
            if not whole:
                transport.check(response)
            yield response
        finally:
            response.close()
