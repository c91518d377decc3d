"""From a posted body to planned jobs: what is needed is looked up, what is wrong is named by its field."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from services.gateway.bodies import SHORT_BYTES
from services.gateway.damaged import check_shared
from services.gateway.deps import db, gateway, identify, tenant
from shared.catalog import Catalog, CheckedJob
from shared.errors import InvalidRequest, NotFound
from shared.failpoints import failpoint
from shared.jobs import reads
from shared.jobs.inheritance import data_behind
from shared.jobs.lineage import find_inputs
from shared.jobs.plan import check_posted, plan_checked
from shared.jobs.records import Input, Job, PlannedJob, Submitted
from shared.jobs.spec import Seed, TimeLimit
from shared.jobs.states import State
from shared.jobs.submit import AuditRequest, Posted, answered, submit

JOB_ID = re.compile(r"job_[0-9a-f]{20}")
AUDIT_ID = re.compile(r"aud_[0-9a-f]{20}")
SHA256 = re.compile(r"[0-9a-f]{64}")

Name = Annotated[str, Field(min_length=1, max_length=64)]
RoleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]


class Source(BaseModel):
    """Where an input comes from: a job (its artifact in `role`), or an artifact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: Annotated[str, StringConstraints(pattern=rf"^{JOB_ID.pattern}$")] | None = None
    role: RoleName | None = Field(None, description="what of the job to take; the input's own role if left out")
    sha256: Annotated[str, StringConstraints(pattern=rf"^{SHA256.pattern}$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.job is None) == (self.sha256 is None):
            raise ValueError("name a job, or the sha256 of an artifact, and not both")
        if self.sha256 is not None and self.role is not None:
            raise ValueError("an artifact has no role to choose: leave `role` out")
        return self


def _from_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if JOB_ID.fullmatch(value):
        return {"job": value}
    if SHA256.fullmatch(value):
        return {"sha256": value}
    raise ValueError("give a job's id (job_...), the sha256 of an artifact, or {job, role}")


AnySource = Annotated[
    Source,
    BeforeValidator(_from_text),
    Field(description='"job_...", "<sha256>", or {"job": "job_...", "role": "..."}'),
]


class JobRequest(BaseModel):
    """One stage, by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stage: Name = Field(description="a stage of the catalog")
    method: Name | None = Field(None, description="for stages that have methods: which one")
    params: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the stage and its method; what is left out has its default"
    )
    inputs: Annotated[dict[RoleName, AnySource], Field(max_length=32)] = Field(
        default_factory=dict, description="by role, where each input comes from"
    )
    source: Annotated[str, StringConstraints(pattern=rf"^{JOB_ID.pattern}$")] | None = Field(
        None,
        alias="from",
        description="take every input that is not given from this job, or from what it was made of; the nearest counts",
    )
    seed: Seed | None = Field(None, description="all the job's randomness; if left out that of `from`, else 0")
    fresh: bool = Field(False, description="run it even if the same work was done before")
    priority: int = Field(0, ge=-100, le=100, description="higher goes first")
    time_limit: TimeLimit | None = Field(None, description="seconds that one attempt may run")


class IdempotencyHeader(BaseModel):
    """Makes a POST repeatable: the same key with the same body gets the same answer."""

    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")] | None = Field(
        None, alias="Idempotency-Key", description="up to 255 visible ASCII characters"
    )

    def posted(self) -> Posted | None:
        """The key with the digest of what it came with. The address counts: one key is not for two routes."""
        if self.idempotency_key is None:
            return None
        what = hashlib.sha256(f"{request.full_path}\n".encode() + request.get_data())
        return Posted(self.idempotency_key, what.hexdigest())


@dataclass(frozen=True)
class Parents:
    """A job's inputs, resolved. `keys` is what each parent counts as in the plan key, `params` all its parameters."""

    inputs: tuple[Input, ...]
    keys: dict[str, str]
    params: dict[str, Mapping[str, Any]]


def plan_posted(body: JobRequest) -> PlannedJob:
    """The job that a body asks for. Files are read between the turns, while others plan.

    Raises:
        InvalidRequest: by field: what the catalog refuses, an input that does not exist or does not fit.
        TransientError: it is long, and others are planned; or many others have files read.
    """
    catalog = gateway().catalog.catalog
    with _turn_if_long():
        checked = check_posted(catalog, body.stage, body.method, body.params)
    inputs, seed = dict(body.inputs), body.seed
    if body.source is not None:
        start, found = _found(body, catalog, checked)
        inputs = found | inputs
        seed = start.seed if seed is None else seed
    parents = _parents(inputs)
    data = identify(checked.data_files)
    behind = {
        i.role: data_behind(db(), tenant(), i.sha256, identify, f"inputs.{i.role}") for i in parents.inputs if i.sha256
    }
    with _turn_if_long():
        return plan_checked(
            checked, body.stage, body.method, seed or 0, parents.inputs,
            parent_keys=parents.keys, parent_params=parents.params, fresh=body.fresh, data=data, behind=behind,
        )  # fmt: skip


def _turn_if_long() -> AbstractContextManager[None]:
    """A turn to plan, for a body that takes more than some milliseconds."""
    return gateway().planning.turn() if len(request.get_data()) > SHORT_BYTES else nullcontext()


def _found(body: JobRequest, catalog: Catalog, job: CheckedJob) -> tuple[Job, dict[str, Source]]:
    """The job that `from` names, and the inputs that it and its ancestors have for this one."""
    # What only a method may use is left out: what an attacker is given is a choice.
    roles = dict.fromkeys((*job.needs, *catalog.get("stage", body.stage, "stage").uses))
    open_roles = [role for role in roles if role not in body.inputs]
    try:
        start, found = find_inputs(db(), tenant(), str(body.source), catalog, body.stage, open_roles)
    except NotFound as error:
        raise InvalidRequest(f"{error}", "from") from error
    return start, {
        role: Source(job=i.parent, role=i.parent_role) if i.parent else Source(job=None, role=None, sha256=i.sha256)
        for role, i in found.items()
    }


def _parents(given: Mapping[str, Source]) -> Parents:
    inputs, keys, params = [], {}, {}
    for role, source in sorted(given.items()):
        if source.job is None:
            inputs.append(Input(role, sha256=source.sha256))
            continue
        parent = _parent(source.job, source.role or role, role)
        inputs.append(Input(role, parent=parent.id, parent_role=source.role or role))
        # a parent that was made anew on purpose is not the same as its equal
        keys[parent.id] = parent.id if parent.fresh else parent.plan_key
        params[parent.id] = parent.params
    return Parents(tuple(inputs), keys, params)


def _parent(job_id: str, wanted: str, role: str) -> Job:
    field = f"inputs.{role}"
    try:
        parent = reads.get_job(db(), tenant(), job_id)
    except NotFound as error:
        raise InvalidRequest(f"{error}", field) from error
    done = parent.state is State.SUCCEEDED
    makes = sorted(a.role for a in parent.artifacts) if done else sorted(parent.produces)
    if wanted not in makes:
        raise InvalidRequest(
            f"job {job_id} ({parent.stage}) does not make {wanted}; it makes {', '.join(makes) or 'nothing'}", field
        )
    return parent


def answered_before(posted: Posted | None) -> Submitted | None:
    """What this very request came to when it was first sent."""
    return None if posted is None else answered(db(), tenant(), posted)


def store(
    planned: list[PlannedJob],
    posted: Posted | None,
    *,
    priority: int,
    time_limit: float | None,
    audit: AuditRequest | None = None,
) -> Submitted:
    """Store planned jobs in one transaction, then ring for what is queued."""
    submitted = submit(db(), tenant(), planned, audit=audit, posted=posted, priority=priority, time_limit=time_limit)
    failpoint("gateway.after_commit")
    check_shared(gateway().deps, set(submitted.jobs.values()) - submitted.created)
    gateway().deps.ringer.ring(submitted.stages)
    return submitted


def known_form(item_id: str, form: re.Pattern[str], what: str) -> str:
    """The id, if it can be one at all: what else stands in a path is not sent to the database.

    Raises:
        NotFound: it cannot.
    """
    if not form.fullmatch(item_id):
        raise NotFound(f"there is no {what} {item_id[:80]!r}")
    return item_id
