"""From a request body to stored jobs: resolve its inputs, plan it, report errors by field."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

from flask import request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from services.gateway.artifact_repair import rebuild_missing_artifacts
from services.gateway.deps import current_gateway, current_store, digest_files
from services.gateway.json_body import SMALL_BODY_BYTES
from services.gateway.request_id import get_request_id
from shared.catalog import Catalog, CheckedJob
from shared.errors import InvalidRequest, NotFound
from shared.failpoints import failpoint
from shared.jobs.plan import check_posted, plan_checked
from shared.jobs.records import Input, Job, PlannedJob, SubmitResult
from shared.jobs.spec import Seed, TimeLimit
from shared.jobs.states import State
from shared.jobs.submit import AuditRequest, IdempotencyKey
from shared.tracing import Attributes, record_span

JOB_ID = re.compile(r"job_[0-9a-f]{20}")
AUDIT_ID = re.compile(r"aud_[0-9a-f]{20}")
SHA256 = re.compile(r"[0-9a-f]{64}")
WEBHOOK_ID = re.compile(r"whk_[0-9a-f]{20}")
WORKER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")
STAGE_NAME = re.compile(r"[\w.-]{1,40}")

Name = Annotated[str, Field(min_length=1, max_length=64)]
RoleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]


class InputSource(BaseModel):
    """The source of an input: a job (its artifact in `role`) or an artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: Annotated[str, StringConstraints(pattern=rf"^{JOB_ID.pattern}$")] | None = None
    role: RoleName | None = Field(
        None, description="which of the job's artifacts to use; defaults to the input's own role"
    )
    sha256: Annotated[str, StringConstraints(pattern=rf"^{SHA256.pattern}$")] | None = None

    @model_validator(mode="after")
    def _require_one_source(self) -> InputSource:
        if (self.job is None) == (self.sha256 is None):
            raise ValueError("give either a job or the sha256 of an artifact")
        if self.sha256 is not None and self.role is not None:
            raise ValueError("`role` is only for jobs: leave it out with a sha256")
        return self


def _parse_source(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if JOB_ID.fullmatch(value):
        return {"job": value}
    if SHA256.fullmatch(value):
        return {"sha256": value}
    raise ValueError("give a job's id (job_...), the sha256 of an artifact, or {job, role}")


InputSourceField = Annotated[
    InputSource,
    BeforeValidator(_parse_source),
    Field(description='"job_...", "<sha256>", or {"job": "job_...", "role": "..."}'),
]


class JobRequest(BaseModel):
    """A single job of any stage."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stage: Name = Field(description="a stage of the catalog")
    method: Name | None = Field(None, description="the method, for stages that have methods")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the stage and its method; omitted ones have their defaults",
    )
    inputs: Annotated[dict[RoleName, InputSourceField], Field(max_length=32)] = Field(
        default_factory=dict, description="the source of each input, by role"
    )
    source: Annotated[str, StringConstraints(pattern=rf"^{JOB_ID.pattern}$")] | None = Field(
        None,
        alias="from",
        description="take the remaining inputs from this job or its ancestors, the nearest first",
    )
    seed: Seed | None = Field(
        None, description="random seed; default: the seed of the job in `from`, otherwise 0"
    )
    no_cache: bool = Field(False, description="run it even if an identical job has finished")
    priority: int = Field(0, ge=-100, le=100, description="jobs with a higher priority run first")
    time_limit: TimeLimit | None = Field(None, description="time limit of each attempt, in seconds")


class IdempotencyHeader(BaseModel):
    """Makes a POST repeatable: the same key with the same body gets the same response."""

    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")] | None = Field(
        None, alias="Idempotency-Key", description="up to 255 visible ASCII characters"
    )

    def to_key(self) -> IdempotencyKey | None:
        """The key with the digest of its request, URL included: a key is valid for one route."""
        if self.idempotency_key is None:
            return None
        request_digest = hashlib.sha256(f"{request.full_path}\n".encode() + request.get_data())
        return IdempotencyKey(self.idempotency_key, request_digest.hexdigest())


@dataclass(frozen=True)
class ResolvedInputs:
    """A job's resolved inputs.

    parent_request_keys: by parent, the key that represents it in the job's request key.
    params: by parent, its parameters.
    """

    inputs: tuple[Input, ...]
    parent_request_keys: dict[str, str]
    params: dict[str, Mapping[str, Any]]


def plan_job_request(body: JobRequest) -> PlannedJob:
    """Plan the job of a request body. While its data files are read, other requests can plan.

    Raises:
        InvalidRequest: by field: refused by the catalog, or an input that does not exist or is
            incompatible.
        TransientError: the body is large, and the gateway is busy planning others; or too many
            other requests wait for their files to be read.
    """
    catalog = current_gateway().catalog_cache.catalog
    with limit_if_large():
        checked = check_posted(catalog, body.stage, body.method, body.params)
    inputs, seed = dict(body.inputs), body.seed
    if body.source is not None:
        source_job, inherited = _find_inherited_inputs(body, catalog, checked)
        inputs = inherited | inputs
        seed = source_job.seed if seed is None else seed
    resolved = _resolve_inputs(inputs)
    data = digest_files(checked.data_files)
    behind = {
        i.role: current_store().data_behind(i.sha256, digest_files, f"inputs.{i.role}")
        for i in resolved.inputs
        if i.sha256
    }
    with limit_if_large():
        return plan_checked(
            checked, body.stage, body.method, seed or 0, resolved.inputs,
            parent_request_keys=resolved.parent_request_keys, parent_params=resolved.params,
            no_cache=body.no_cache, data=data, behind=behind,
        )  # fmt: skip


def limit_if_large() -> AbstractContextManager[None]:
    """The planning limiter, for a body that takes more than some milliseconds to plan."""
    return (
        current_gateway().planning_limiter.acquire()
        if len(request.get_data()) > SMALL_BODY_BYTES
        else nullcontext()
    )


def _find_inherited_inputs(
    body: JobRequest, catalog: Catalog, job: CheckedJob
) -> tuple[Job, dict[str, InputSource]]:
    """The job that `from` names, and the inputs of this job that it and its ancestors provide."""
    # Not inputs that only a method uses: what an attacker is given is the user's choice.
    roles = dict.fromkeys((*job.needs, *catalog.get("stage", body.stage, "stage").uses))
    missing_roles = [role for role in roles if role not in body.inputs]
    try:
        source_job, inherited = current_store().find_inputs(
            str(body.source), catalog, body.stage, missing_roles
        )
    except NotFound as error:
        raise InvalidRequest(f"{error}", "from") from error
    return source_job, {
        role: InputSource(job=i.parent, role=i.parent_role)
        if i.parent
        else InputSource(job=None, role=None, sha256=i.sha256)
        for role, i in inherited.items()
    }


def _resolve_inputs(sources: Mapping[str, InputSource]) -> ResolvedInputs:
    inputs, parent_request_keys, params = [], {}, {}
    for role, source in sorted(sources.items()):
        if source.job is None:
            inputs.append(Input(role, sha256=source.sha256))
            continue
        parent = _resolve_parent(source.job, source.role or role, role)
        inputs.append(Input(role, parent=parent.id, parent_role=source.role or role))
        # a parent that was run with no_cache does not stand for its equals
        parent_request_keys[parent.id] = parent.id if parent.no_cache else parent.request_key
        params[parent.id] = parent.params
    return ResolvedInputs(tuple(inputs), parent_request_keys, params)


def _resolve_parent(job_id: str, parent_role: str, role: str) -> Job:
    field = f"inputs.{role}"
    try:
        parent = current_store().get_job(job_id)
    except NotFound as error:
        raise InvalidRequest(f"{error}", field) from error
    has_succeeded = parent.state is State.SUCCEEDED
    available_roles = (
        sorted(a.role for a in parent.artifacts) if has_succeeded else sorted(parent.produces)
    )
    if parent_role not in available_roles:
        raise InvalidRequest(
            f"job {job_id} ({parent.stage}) does not produce {parent_role}; "
            f"it produces {', '.join(available_roles) or 'nothing'}",
            field,
        )
    return parent


def find_request_replay(key: IdempotencyKey | None) -> SubmitResult | None:
    """The result of this request if it was sent before with the same key."""
    return None if key is None else current_store().find_replay(key)


def store_planned(
    planned: list[PlannedJob],
    key: IdempotencyKey | None,
    *,
    priority: int,
    time_limit: float | None,
    audit: AuditRequest | None = None,
) -> SubmitResult:
    """Store planned jobs in one transaction, then send wake-ups for what is queued."""
    began_at = time.time()
    submitted = current_store().submit_jobs(
        planned,
        audit=audit,
        idempotency_key=key,
        priority=priority,
        time_limit=time_limit,
    )
    failpoint("gateway.after_commit")
    rebuild_missing_artifacts(
        current_gateway().deps, current_store(), set(submitted.jobs.values()) - submitted.created
    )
    current_gateway().deps.wakeup_sender.notify(submitted.stages)
    if submitted.created and not submitted.replayed:
        _record_submission(submitted, began_at)
    return submitted


def _record_submission(submitted: SubmitResult, began_at: float) -> None:
    """The beginning of the trace."""
    about: Attributes = {
        "tenant": current_store().tenant,
        "jobs": len(submitted.jobs),
        "request": get_request_id(),
    }
    for subject in [submitted.audit] if submitted.audit else sorted(submitted.created):
        record_span("submit", subject, began_at, time.time(), about, is_first=True)


def require_id_format(item_id: str, id_format: re.Pattern[str], kind: str) -> str:
    """Return the id if it has the format of one, so that nothing else is sent to the database.

    Raises:
        NotFound: it does not.
    """
    if not id_format.fullmatch(item_id):
        raise NotFound(f"there is no {kind} {item_id[:80]!r}")
    return item_id
