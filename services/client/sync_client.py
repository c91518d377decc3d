"""The synchronous client. Generated from async_client.py: edit that file, then run
`make sync-client`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, SSEError
from tenacity import Retrying

from . import calls, transport
from .calls import Call
from .discovery import find_gateway
from .download import ArchiveDownload, Download, ignore_size, select_artifact
from .errors import AnswerTooLarge, NotFound
from .events import RESUME_PAUSE_S, parse_event
from .pair import Pair
from .records import (
    Audit,
    BulkCancel,
    Declaration,
    Derived,
    DryRun,
    Erasure,
    Event,
    Job,
    Key,
    Me,
    Page,
    Tenant,
    Upload,
    UploadSpace,
)
from .reports import STAGE, Report, find_report_artifacts
from .retry import RetryPolicy, network_errors
from .transport import MAX_ANSWER_BYTES, STREAM_TIMEOUT
from .upload import FileToUpload, OnProgress, ignore_progress
from .watcher import Update, Watcher

T = TypeVar("T")

MODELS, DATASETS = "models", "datasets"  # kinds of declarations, as the API spells them


class Client:
    """A client of the gateway at `url`; by default of the one that `discovery.find_gateway` finds.

    Args:
        url: address of the gateway, http:// or https://.
        token: sent with every call.
        retry_for_s: how long a call is retried while the gateway does not answer.
        timeout_s: how long one answer may take.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        retry_for_s: float = 3.0,
        timeout_s: float = 30.0,
    ) -> None:
        self.url, token = find_gateway(url, token)
        self._retry_policy = RetryPolicy(retry_for_s)
        self._http = httpx.Client(**transport.build_client_options(self.url, token, timeout_s))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit_job(self, stage: str, **options: Any) -> Job:
        """Submit one job; `options` are those of `calls.build_job`."""
        return self._call(calls.submit_job(stage, **options))

    def submit_audit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Audit:
        """Submit an audit."""
        return self._call(calls.submit_audit(spec, idempotency_key))

    def dry_run(self, spec: Mapping[str, Any], *, workers: int | None = None) -> DryRun:
        """The jobs that an audit would create, and what they will cost; nothing is stored.

        Args:
            workers: how many of each kind of worker to estimate the time for as well.
        """
        return self._call(calls.dry_run(spec, workers))

    def dry_run_job(self, stage: str, **options: Any) -> DryRun:
        """What one job will cost; nothing is stored. `options` are those of `calls.build_job`."""
        return self._call(calls.dry_run_job(stage, **options))

    def dry_run_pair(self, pair: Pair, *, workers: int | None = None) -> DryRun:
        """The jobs that an audit of a pair of models would create, and what they will cost. The files
        are read for their digests; nothing is uploaded or stored.

        Raises:
            ReadError: a file cannot be read.
        """
        return self.dry_run(pair.build_audit(pair.compute_digests()), workers=workers)

    def get_job(self, job_id: str) -> Job:
        """One job."""
        return self._call(calls.get_job(job_id))

    def list_jobs(self, **filters: Any) -> Iterator[Job]:
        """All jobs, newest first, filtered by `stage`, `method`, `state`, `audit`, `label` (KEY or
        KEY=VALUE, of an audit) and the times (RFC 3339) `created_after`, `created_before` and
        `finished_after`; `limit` is the page size."""
        token: str | None = None
        while True:
            page = self._call(calls.list_jobs(page=token, **filters))
            for job in page.items:
                yield job
            if (token := page.next) is None:
                return

    def get_jobs_page(self, **filters: Any) -> Page[Job]:
        """One page of jobs; `page` is `next` of the previous page."""
        return self._call(calls.list_jobs(**filters))

    def get_audit(self, audit_id: str) -> Audit:
        """One audit."""
        return self._call(calls.get_audit(audit_id))

    def list_audits(self, **filters: Any) -> Iterator[Audit]:
        """All audits, newest first, filtered by `name` (a part of it), `state`, `label` (KEY or
        KEY=VALUE) and the times (RFC 3339) `created_after`, `created_before` and `finished_after`;
        `limit` is the page size."""
        token: str | None = None
        while True:
            page = self._call(calls.list_audits(page=token, **filters))
            for audit in page.items:
                yield audit
            if (token := page.next) is None:
                return

    def cancel(self, item_id: str) -> Job | Audit:
        """Cancel a job or an audit."""
        return self._call(calls.cancel(item_id))

    def delete_audit(self, audit_id: str, *, cancel: bool = False) -> Erasure:
        """Delete an audit for good, with the jobs and artifacts that nothing else needs.

        Args:
            cancel: cancel it first. If it still runs, its jobs are deleted when they have ended.

        Raises:
            NotFound: there is no such audit.
            Conflict: jobs of it have not ended, and `cancel` is false.
        """
        return self._call(calls.delete_audit(audit_id, cancel=cancel))

    def cancel_jobs(self, *, dry_run: bool = False, **filters: Any) -> BulkCancel:
        """Cancel all jobs that have not ended and that the filters of `list_jobs` select; at least
        one is needed. With `dry_run`, only count them. What waits for a cancelled job fails.
        """
        total = self._call(calls.cancel_jobs(filters, dry_run))
        part = total
        while part.remaining and (part.cancelled or part.stopping):
            filters["created_before"] = total.created_before
            part = self._call(calls.cancel_jobs(filters, dry_run))
            total = replace(
                part,
                cancelled=total.cancelled + part.cancelled,
                stopping=total.stopping + part.stopping,
            )
        return total

    def set_priority(self, item_id: str, priority: int) -> Job | Audit:
        """Change the priority (-100 to 100) of a job, or of all jobs of an audit, that have not
        ended."""
        return self._call(calls.set_priority(item_id, priority))

    def retry(self, item_id: str) -> Job | Audit:
        """Rerun a failed or cancelled job, or all such jobs of an audit, in order.

        Raises:
            Conflict: the job has not failed, or no job of the audit has.
        """
        return self._call(calls.retry(item_id))

    def get_spec(self, audit_id: str) -> dict[str, Any]:
        """What submits an audit again, labels and metadata included: change what should be
        different, and give it to `submit_audit` or `dry_run`."""
        return self._call(calls.get_spec(audit_id))

    def annotate_audit(
        self,
        audit_id: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Audit:
        """Change labels and metadata of an audit, by key; None removes one."""
        return self._call(calls.annotate_audit(audit_id, labels, metadata))

    def pause(self, job_id: str) -> Job:
        """Pause a queued job: no worker claims it until it is resumed."""
        return self._call(calls.change_job(job_id, "pause"))

    def resume(self, job_id: str) -> Job:
        """Resume a paused job."""
        return self._call(calls.change_job(job_id, "resume"))

    def pause_stage(self, stage: str) -> dict[str, Any]:
        """Keep all jobs of a stage from being claimed, of every tenant; those that run go on."""
        return self._call(calls.change_stage(stage, "pause"))

    def resume_stage(self, stage: str) -> dict[str, Any]:
        """Resume a paused stage."""
        return self._call(calls.change_stage(stage, "resume"))

    def drain_worker(self, worker: str) -> dict[str, Any]:
        """Have a worker give its job back and take no other until it is undrained. `job` of the
        answer is the one that it still has."""
        return self._call(calls.change_worker(worker, "drain"))

    def undrain_worker(self, worker: str) -> dict[str, Any]:
        """Let a drained worker take jobs again."""
        return self._call(calls.change_worker(worker, "undrain"))

    def add_webhook(self, url: str, *, events: Sequence[str] | None = None) -> dict[str, Any]:
        """Notify an https URL of yours when audits or jobs end. The answer has the `secret` that
        messages are signed with; it is not shown again.

        Args:
            events: such as `audit.failed` or `job.succeeded`; by default the ends of audits.

        Raises:
            Invalid: the URL may not be sent to.
            Conflict: you have as many webhooks as a tenant may have.
        """
        return self._call(calls.add_webhook(url, events))

    def list_webhooks(self) -> list[dict[str, Any]]:
        """Your webhooks, newest first."""
        return self._call(calls.list_webhooks())

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete a webhook; what was not delivered yet is not sent."""
        self._retry(calls.delete_webhook(webhook_id), self._exchange)

    def test_webhook(self, webhook_id: str) -> str:
        """Send a test message to a webhook; returns the delivery's id."""
        return self._call(calls.test_webhook(webhook_id))

    def list_webhook_deliveries(
        self, webhook_id: str, *, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """What was last sent to a webhook or is to be, newest first."""
        return self._call(calls.list_webhook_deliveries(webhook_id, limit))

    def get_catalog(self, kind: str | None = None) -> dict[str, Any]:
        """The plugins that workers have published, of one kind or of all."""
        return self._call(calls.get_catalog(kind))

    def list_queues(self) -> list[dict[str, Any]]:
        """The queue of each stage: jobs by state, and live workers."""
        return self._call(calls.list_queues())

    def list_workers(self) -> list[dict[str, Any]]:
        """The workers, newest first."""
        return self._call(calls.list_workers())

    def whoami(self) -> Me:
        """Whose key this client sends, and what it may do."""
        return self._call(calls.get_me())

    def list_keys(self, tenant: str | None = None) -> Iterator[Key]:
        """The keys of all tenants or one, newest first; the key needs the scope `admin`, here and
        below."""
        token: str | None = None
        while True:
            page = self._call(calls.list_keys(tenant=tenant, page=token))
            for key in page.items:
                yield key
            if (token := page.next) is None:
                return

    def create_key(self, tenant: str, **options: Any) -> Key:
        """Create a key; `options` are `label`, `scopes` and `lifetime_s`. Its secret is in `key`, and
        cannot be read again."""
        return self._call(calls.create_key(tenant, **options))

    def revoke_key(self, key_id: str) -> Key:
        """Revoke a key for good."""
        return self._call(calls.revoke_key(key_id))

    def list_tenants(self) -> Iterator[Tenant]:
        """All tenants, by name."""
        after: str | None = None
        while True:
            page = self._call(calls.list_tenants(after=after))
            for tenant in page.items:
                yield tenant
            if (after := page.next) is None:
                return

    def create_tenant(self, name: str, **quotas: int | None) -> Tenant:
        """Create a tenant; `quotas` such as `max_running_jobs`."""
        return self._call(calls.create_tenant(name, quotas))

    def stream_events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """The events of a job as they happen, from event `after` + 1 until the job has ended.

        A stream that breaks is resumed after the last complete event.
        """
        while True:
            call = calls.stream_events(job_id, after)
            response = self._retry(call, self._open, STREAM_TIMEOUT)
            resumed_after = after
            try:
                if response.status_code == 204:
                    return
                for frame in EventSource(response).iter_sse():
                    event = parse_event(frame)
                    if event is not None:
                        after = event.seq
                        yield event
            except (SSEError, ValueError) as error:
                raise transport.build_foreign_error(response) from error
            except AnswerTooLarge:
                if after == resumed_after:
                    raise
            except httpx.TransportError:
                pass  # an incomplete event was not parsed: the next stream sends it again
            finally:
                response.close()
            time.sleep(RESUME_PAUSE_S)

    def list_events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """The events of a job so far, without waiting for more."""
        while events := self._call(calls.list_events(job_id, after)):
            for event in events:
                yield event
            after = events[-1].seq

    def watch(self, *ids: str, poll_interval_s: float = 0.5) -> Iterator[Update]:
        """The states of jobs and audits as they change, until all have ended."""
        watcher = Watcher(ids)
        while True:
            for call in watcher.start_round():
                response = self._retry(call, self._exchange)
                answer = (
                    None if response.status_code == 304 else transport.read_answer(call, response)
                )
                for update in watcher.read_answer(call, answer, response.headers.get("ETag")):
                    yield update
            if not watcher.open_ids:
                return
            time.sleep(poll_interval_s)

    def fetch(self, source: str, role: str | None = None) -> bytes:
        """Fetch an artifact, by sha256 or by job and role, and verify its digest."""
        download = self._download(source, role, None)
        return download.data

    def fetch_to(self, path: Path, source: str, role: str | None = None) -> Path:
        """Fetch an artifact into a file, atomically; in a folder, under the name that the gateway
        gives it."""
        download = self._download(source, role, path)
        return download.path

    def download_audit(
        self,
        audit_id: str,
        path: Path,
        *,
        models: bool = True,
        on_progress: Callable[[int], None] = ignore_size,
    ) -> Path:
        """Save all of an audit as a zip archive: its report, its jobs and their artifacts.

        Args:
            path: the file, or a folder in which the gateway's name for it is used.
            models: whether to include the weights of models.
            on_progress: called with the bytes received so far.

        Raises:
            WriteError: the file cannot be written; nothing was kept.
            Unreachable: the archive broke off; nothing was kept.
        """
        saved: Path = self._retry(
            calls.get_archive(audit_id, models), self._save_archive, path, on_progress
        )
        return saved

    def _save_archive(
        self, call: Call[Any], path: Path, on_progress: Callable[[int], None]
    ) -> Path:
        response = self._open(call)
        try:
            with ArchiveDownload(response, path, on_progress) as download:
                for chunk in response.iter_bytes():
                    download.write(chunk)
            return download.path
        finally:
            response.close()

    def upload(
        self,
        path: Path,
        *,
        media_type: str | None = None,
        on_progress: OnProgress = ignore_progress,
    ) -> Upload:
        """Upload a file. One that the gateway has already is not sent again.

        Args:
            media_type: guessed from the file's name if left out.
            on_progress: called with the bytes sent so far, and all of them.

        Raises:
            ReadError: the file cannot be read.
            QuotaExceeded: the uploads would hold more bytes than they may.
        """
        file = FileToUpload.scan(path, media_type)
        try:
            self._retry(calls.head_artifact(file.sha256), self._exchange)
        except NotFound:
            call = calls.upload_artifact(file)
            response = self._retry(call, self._send_file, file, on_progress)
            uploaded: Upload = transport.read_answer(call, response)
            return uploaded
        on_progress(file.size, file.size)
        return Upload(file.sha256, file.size, file.media_type)

    def audit_pair(self, pair: Pair) -> Audit:
        """Upload the files of a pair of models, and submit its audit.

        Raises:
            ReadError: a file cannot be read.
            QuotaExceeded: the uploads would hold more bytes than they may.
            Invalid: the gateway refuses the audit.
        """
        digests = {}
        for path in pair.files:
            uploaded = self.upload(path)
            digests[path] = uploaded.sha256
        return self.submit_audit(pair.build_audit(digests))

    def list_uploads(self, **filters: Any) -> Iterator[Upload]:
        """All uploads, newest first; `limit` is the page size."""
        token: str | None = None
        while True:
            page = self._call(calls.list_uploads(page=token, **filters))
            for upload in page.items:
                yield upload
            if (token := page.next) is None:
                return

    def get_upload(self, sha256: str) -> Upload:
        """One upload, without its bytes."""
        return self._call(calls.get_upload(sha256))

    def get_upload_space(self) -> UploadSpace:
        """How many bytes the uploads hold, and may hold."""
        return self._call(calls.get_upload_space())

    def get_derived(self, sha256: str) -> Derived:
        """What was made of an upload: what `delete_artifact` with `derived` would delete.

        Raises:
            NotFound: there is neither such an upload nor anything that was made of it.
        """
        return self._call(calls.get_derived(sha256))

    def delete_artifact(self, sha256: str, *, derived: bool = False) -> Erasure | None:
        """Delete an upload for good.

        Args:
            derived: delete what was made of it too: audits, jobs and their artifacts, and return
                how many of each. If false, nothing is returned.

        Raises:
            NotFound: there is no such upload. Artifacts of jobs are not uploads.
            Conflict: jobs that have not ended need it, or with `derived` are made of it.
        """
        if derived:
            return self._call(calls.erase_artifact(sha256))
        self._retry(calls.delete_artifact(sha256), self._exchange)
        return None

    def declare_model(
        self,
        name: str,
        weights: Path | str,
        *,
        model: str | Mapping[str, Any],
        input_shape: tuple[int, int, int],
        num_classes: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        test: str | Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Declaration:
        """Declare a model; a job checks it. Declaring the same again gives the same version.

        Args:
            weights: a file, which is uploaded, or the sha256 of an upload.
            model: the architecture, as the catalog names it: a name, or {"name", "params"}.
            input_shape: C, H, W.
            mean, std: per channel, with which the model's own code normalises images in [0, 1].
            test: a data set on which accuracy is measured: {"declared": NAME}, or as the catalog
                names it.

        Raises:
            ReadError: the file cannot be read.
            Invalid: the gateway refuses the declaration.
        """
        body = {
            "name": name,
            "weights": self._upload_if_path(weights),
            "model": model,
            "input_shape": list(input_shape),
            "num_classes": num_classes,
            "mean": mean and list(mean),
            "std": std and list(std),
            "test": test,
            "labels": labels,
        }
        return self._call(calls.declare(MODELS, body))

    def declare_dataset(
        self,
        name: str,
        dataset: str | Mapping[str, Any],
        *,
        classes: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Declaration:
        """Declare a data set; a job checks it. Declaring the same again gives the same version.

        Args:
            dataset: as the catalog names it: {"name", "params"}. A `Path` among the parameters is
                uploaded.
            classes: names of the classes, in the order of their labels.

        Raises:
            ReadError: a file cannot be read.
            Invalid: the gateway refuses the declaration.
        """
        if not isinstance(dataset, str):
            params = {}
            for key, value in dataset.get("params", {}).items():
                params[key] = value
                if isinstance(value, Path):
                    digest = self._upload_if_path(value)
                    params[key] = f"upload:{digest}"
            dataset = {**dataset, "params": params}
        body = {"name": name, "dataset": dataset, "classes": classes, "labels": labels}
        return self._call(calls.declare(DATASETS, body))

    def _upload_if_path(self, file: Path | str) -> str:
        """The sha256 of a file, which is there then."""
        if isinstance(file, str):
            return file
        uploaded = self.upload(file)
        return uploaded.sha256

    def wait_until_checked(self, declaration: Declaration) -> Declaration:
        """Wait until the check of a declared model or data set has ended, and show it: ready,
        rejected or failed."""
        for _ in self.watch(declaration.job):
            pass
        kind = declaration.url.split("/")[2]
        call = calls.get_declaration(kind, declaration.name, declaration.version)
        return self._call(call)

    def get_model(self, name: str, version: int | None = None) -> Declaration:
        """A declared model, by default its newest version."""
        return self._call(calls.get_declaration(MODELS, name, version))

    def get_dataset(self, name: str, version: int | None = None) -> Declaration:
        """A declared data set, by default its newest version."""
        return self._call(calls.get_declaration(DATASETS, name, version))

    def list_models(self, **filters: Any) -> Iterator[Declaration]:
        """All versions of declared models, newest first, filtered by `name` and `label` (KEY or
        KEY=VALUE); `limit` is the page size."""
        for one in self._list_declarations(MODELS, **filters):
            yield one

    def list_datasets(self, **filters: Any) -> Iterator[Declaration]:
        """All versions of declared data sets, as `list_models`."""
        for one in self._list_declarations(DATASETS, **filters):
            yield one

    def _list_declarations(self, kind: str, **filters: Any) -> Iterator[Declaration]:
        token: str | None = None
        while True:
            page = self._call(calls.list_declarations(kind, page=token, **filters))
            for one in page.items:
                yield one
            if (token := page.next) is None:
                return

    def label_model(self, name: str, version: int, labels: Mapping[str, str | None]) -> Declaration:
        """Set labels of a version of a model; None removes one."""
        return self._call(calls.change_labels(MODELS, name, version, labels))

    def label_dataset(
        self, name: str, version: int, labels: Mapping[str, str | None]
    ) -> Declaration:
        """Set labels of a version of a data set; None removes one."""
        return self._call(calls.change_labels(DATASETS, name, version, labels))

    def delete_model(
        self, name: str, version: int | None = None, *, derived: bool = False
    ) -> Erasure | None:
        """Delete a version of a declared model, or all of them. Uploads stay.

        Args:
            derived: delete the weights and what was made of them too: audits, jobs and their
                artifacts, and return how many of each. If false, nothing is returned.

        Raises:
            NotFound: there is no such model, or no such version of it.
            Conflict: jobs that have not ended need one of its uploads, or with `derived` another
                declaration does.
        """
        return self._delete_declaration(MODELS, name, version, derived)

    def delete_dataset(
        self, name: str, version: int | None = None, *, derived: bool = False
    ) -> Erasure | None:
        """Delete a version of a declared data set, or all of them, as `delete_model`."""
        return self._delete_declaration(DATASETS, name, version, derived)

    def _delete_declaration(
        self, kind: str, name: str, version: int | None, derived: bool
    ) -> Erasure | None:
        if derived:
            return self._call(calls.erase_declaration(kind, name, version))
        self._retry(calls.delete_declaration(kind, name, version), self._exchange)
        return None

    def get_report(self, item_id: str, *, with_manifest: bool = True) -> Report:
        """The report of an audit, or of a report job. The manifest of a large audit takes the
        gateway a second.

        Raises:
            NoReport: there is none, or not yet.
        """
        if item_id.startswith("aud_"):
            page = self.get_jobs_page(audit=item_id, stage=STAGE, limit=1)
            job = page.items[0] if page.items else None
        else:
            job = self.get_job(item_id)
        job, artifacts = find_report_artifacts(job, item_id)
        contents: dict[str, bytes] = {}
        for media_type, artifact in artifacts.items():
            download = self._receive(artifact.sha256, artifact.size, None)
            contents[media_type] = download.data
        audit_id = item_id if item_id.startswith("aud_") else next(iter(job.audits), None)
        manifest = self.get_manifest(audit_id) if audit_id and with_manifest else None
        return Report.from_bytes(job, contents, manifest)

    def get_manifest(self, audit_id: str) -> dict[str, Any]:
        """The manifest of an audit's report, in a DSSE envelope; without signatures if the gateway
        has no signing key."""
        return self._call(calls.get_manifest(audit_id))

    def _download(self, source: str, role: str | None, path: Path | None) -> Download:
        if source.startswith("job_"):
            artifact = select_artifact(self.get_job(source), role)
            return self._receive(artifact.sha256, artifact.size, path)
        return self._receive(source, None, path)

    def _receive(self, sha256: str, size_bytes: int | None, path: Path | None) -> Download:
        call = calls.get_artifact(sha256)
        download: Download = self._retry(call, self._receive_once, sha256, size_bytes, path)
        return download

    def _receive_once(
        self, call: Call[Any], sha256: str, size_bytes: int | None, path: Path | None
    ) -> Download:
        response = self._open(call)
        try:
            with Download(sha256, response, path, size_bytes) as download:
                for chunk in response.iter_bytes():
                    download.write(chunk)
            return download
        finally:
            response.close()

    def _send_file(
        self, call: Call[Any], file: FileToUpload, on_progress: OnProgress
    ) -> httpx.Response:
        """Send a file as the body of a request, and read all of its answer."""

        def read_chunks() -> Iterator[bytes]:
            for chunk in file.read_chunks(on_progress):
                yield chunk

        response = self._open(call, content=read_chunks())
        try:
            response.read()
        finally:
            response.close()
        return response

    def _call(self, call: Call[T]) -> T:
        answer: T = transport.read_answer(call, self._retry(call, self._exchange))
        return answer

    def _retry(self, call: Call[Any], attempt: Callable[..., Any], *arguments: Any) -> Any:
        """Await `attempt(call, *arguments)`, and retry it as the policy says."""
        with network_errors(self.url):
            retrying = Retrying(**self._retry_policy.build_options(call))
            return retrying(attempt, call, *arguments)

    def _exchange(self, call: Call[Any]) -> httpx.Response:
        """Send one request and read all of its answer."""
        response = self._open(call)
        try:
            response.read()
        finally:
            response.close()
        return response

    def _open(
        self, call: Call[Any], timeout: Any = httpx.USE_CLIENT_DEFAULT, content: Any = None
    ) -> httpx.Response:
        """Send one request; the caller reads the body of the answer and closes it."""
        request = self._http.build_request(
            **transport.build_request_options(call), timeout=timeout, content=content
        )
        response = self._http.send(request, stream=True)
        try:
            transport.check_encoding(response)
            if call.bounded or response.status_code >= 400:
                response.stream = _BoundedStream(response)
            if response.status_code >= 400:
                response.read()
            transport.check_status(response)
        except BaseException:
            response.close()
            raise
        return response


class _BoundedStream(httpx.SyncByteStream):
    """A response body of limited size."""

    def __init__(self, response: httpx.Response) -> None:
        self._stream: Any = response.stream
        self._url = response.url

    def __iter__(self) -> Iterator[bytes]:
        received_bytes = 0
        for chunk in self._stream:
            received_bytes += len(chunk)
            if received_bytes > MAX_ANSWER_BYTES:
                raise AnswerTooLarge(
                    f"{self._url} sent more than {MAX_ANSWER_BYTES >> 20} MiB: "
                    "is this the right address?"
                )
            yield chunk

    def close(self) -> None:
        self._stream.close()
