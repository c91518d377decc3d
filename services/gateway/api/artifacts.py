"""/v1/artifacts: what you upload; /v1/artifacts/{sha256}: that, and what your jobs have made."""

from __future__ import annotations

import mimetypes
import re
from contextlib import closing
from typing import Any

from flask import Response, jsonify, request
from pydantic import BaseModel, Field
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from services.gateway.api._blueprint import PageQuery, Query, make_blueprint
from services.gateway.artifact_repair import stream_verified
from services.gateway.deps import UPLOAD_KEY, current_gateway, current_store
from services.gateway.problems import document_errors
from services.gateway.removal import remove_upload
from services.gateway.schemas import format_rfc3339
from services.gateway.submission import SHA256, require_id_format
from services.gateway.uploads import IncomingUpload, receive_upload
from shared.jobs.erasure import Erasure
from shared.jobs.records import Artifact
from shared.jobs.retention import Retention
from shared.jobs.uploads import Upload

routes = make_blueprint(
    "artifacts", "files that you upload and that jobs make, addressed by their sha256"
)

MAX_LISTED_AUDITS = 100
_EXTENSIONS = {
    "application/json": ".json",
    "application/octet-stream": ".bin",
    "application/x-safetensors": ".safetensors",
    "application/vnd.safetensors": ".safetensors",
}


class ArtifactPath(BaseModel):
    sha256: str = Field(description="64 hexadecimal digits")


_BYTES_RESPONSE = {
    "description": "the bytes",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_UPLOAD_BODY = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


class UploadView(BaseModel):
    """An upload."""

    sha256: str
    size: int = Field(description="bytes")
    media_type: str
    created_at: str | None
    expires_at: str | None = Field(
        description="when it is removed, unless a model or a data set refers to it; null: never"
    )
    url: str


class UploadPage(BaseModel):
    items: list[UploadView]
    next: str | None
    used_bytes: int = Field(description="of all uploads")
    quota_bytes: int = Field(description="that all uploads may hold")


class DerivedAudit(BaseModel):
    id: str
    name: str


class DerivedView(BaseModel):
    """What was made of an upload, the upload included."""

    sha256: str
    audits: list[DerivedAudit] = Field(description=f"the oldest, at most {MAX_LISTED_AUDITS}")
    audit_count: int
    job_count: int
    jobs_by_stage: dict[str, int]
    live_job_count: int = Field(
        description="jobs of these, or of these audits, that have not ended"
    )
    artifact_count: int
    bytes: int = Field(description="of these artifacts together")
    shared_artifact_count: int = Field(
        description="artifacts of these jobs that stay, because another job or upload has identical "
        "ones"
    )


class DeletionQuery(Query):
    derived: bool = Field(False, description="also delete everything derived from the upload")


class ErasureView(BaseModel):
    """How many were deleted."""

    audits: int
    jobs: int
    artifacts: int = Field(description="the upload included")
    bytes: int = Field(description="of these artifacts together")
    finished: bool = Field(
        description="false: the reconciler is still removing bytes or rewriting the files of the job "
        "store, which takes seconds"
    )


class UploadHeader(BaseModel):
    """What the head of an upload may say."""

    content_digest: str | None = Field(
        None,
        alias="Content-Digest",
        description="sha-256=:BASE64: of the body (RFC 9530); other bytes are refused",
    )


@routes.post(
    "/artifacts",
    openapi_extensions={"requestBody": _UPLOAD_BODY},
    responses={201: UploadView, 200: UploadView, **document_errors(409, 415, 507)},
)
def upload_artifact(header: UploadHeader) -> Response:  # noqa: ARG001 - read before the body
    """Upload a file: the body is the file itself.

    200 if you already have these bytes. Nothing is kept of an upload that fails or is interrupted,
    nor (409) of one whose tenant has been disabled meanwhile.
    An upload that no model or data set refers to is removed after some time.
    """
    settings = current_gateway().deps.settings
    upload: IncomingUpload | None = request.environ.get(UPLOAD_KEY)
    if upload is None:  # a WSGI server has not read the body yet
        upload = receive_upload(request, current_gateway().upload_limiter, current_store())
    with closing(upload):
        recorded, is_new = current_store().record_upload(
            upload.seal(),
            upload.head.media_type,
            lifetime_s=Retention.from_settings(settings).uploads_s,
            quota_bytes=settings.upload_quota_bytes,
            place=upload.place,
        )
    response = jsonify(serialize_upload(recorded))
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/artifacts/{recorded.sha256}"
    return response


@routes.get("/artifacts", responses={200: UploadPage})
def list_artifacts(query: PageQuery) -> Response:
    """List your uploads, newest first, with the bytes that they use and may use."""
    page = current_store().list_uploads(limit=query.limit, page=query.page)
    return jsonify(
        {
            "items": [serialize_upload(one) for one in page.items],
            "next": page.next,
            "used_bytes": current_store().measure_uploads(),
            "quota_bytes": current_gateway().deps.settings.upload_quota_bytes,
        }
    )


@routes.get(
    "/artifacts/<sha256>",
    responses={
        200: _BYTES_RESPONSE,
        206: _BYTES_RESPONSE,
        304: None,
        **document_errors(404, 409, 410, 416),
    },
)
def get_artifact(path: ArtifactPath) -> Response:
    """Fetch an artifact, or with `Range: bytes=START-END` a part of it. Its bytes never change:
    verify them against the sha256. HEAD tells whether it exists.

    410 if it has expired: what shows samples is kept for a limited time. 503 while it is being
    rebuilt because the store has lost or damaged it; 409 if that happens repeatedly.
    """
    artifact = current_store().get_artifact(require_id_format(path.sha256, SHA256, "artifact"))
    deps = current_gateway().deps
    response = Response(content_type=artifact.media_type)
    response.set_etag(artifact.sha256)
    # its bytes never change, but a browser's cache knows nothing of deletions, keys and tenants
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Disposition"] = f'attachment; filename="{make_file_name(artifact)}"'
    response.headers["Accept-Ranges"] = "bytes"
    if request.if_none_match.contains(artifact.sha256):
        response.status_code = 304
        return response
    response.content_length = artifact.size
    if request.method == "HEAD":
        return response
    part = _read_range(artifact)
    if part is None:
        response.response = stream_verified(deps, current_store(), artifact)
        return response
    start, end = part
    response.status_code = 206
    response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    response.content_length = end - start
    response.response = deps.artifacts.stream_range(artifact.sha256, start, end)
    return response


def _read_range(artifact: Artifact) -> tuple[int, int] | None:
    """First and last + 1 byte that are asked for; None: all. As RFC 9110 has it, whatever is no
    single range of bytes, and a range of an older version, is answered with all."""
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    if request.if_range.etag not in (None, artifact.sha256) or request.if_range.date is not None:
        return None
    part = wanted.range_for_length(artifact.size)
    if part is None:
        raise RequestedRangeNotSatisfiable(artifact.size, "bytes", "there are no such bytes")
    return part


@routes.get("/artifacts/<sha256>/upload", responses={200: UploadView, **document_errors(404)})
def get_upload(path: ArtifactPath) -> Response:
    """Show one upload, without its bytes."""
    sha256 = require_id_format(path.sha256, SHA256, "upload")
    return jsonify(serialize_upload(current_store().get_upload(sha256)))


@routes.get("/artifacts/<sha256>/derived", responses={200: DerivedView, **document_errors(404)})
def get_derived(path: ArtifactPath) -> Response:
    """Show everything derived from an upload: what `DELETE` with `derived=true` would remove."""
    sha256 = require_id_format(path.sha256, SHA256, "upload")
    plan = current_store().plan_erasure([sha256])
    return jsonify(
        {
            "sha256": sha256,
            "audits": [{"id": a.id, "name": a.name} for a in plan.audits[:MAX_LISTED_AUDITS]],
            "audit_count": len(plan.audits),
            "job_count": plan.jobs,
            "jobs_by_stage": plan.jobs_by_stage,
            "live_job_count": plan.live_jobs,
            "artifact_count": plan.artifacts,
            "bytes": plan.size,
            "shared_artifact_count": plan.shared_artifacts,
        }
    )


@routes.delete(
    "/artifacts/<sha256>",
    responses={200: ErasureView, 204: None, **document_errors(404, 409)},
)
def delete_artifact(path: ArtifactPath, query: DeletionQuery) -> Response:
    """Permanently delete an upload: its bytes are removed from the store.

    409 while jobs that have not ended need it. What jobs have made from it stays, unless
    `derived=true`: then the audits and jobs that read it, directly or through other jobs, are
    deleted too, with their artifacts. The response is then 200 and says how many, or 409 while one
    of them has not ended.
    """
    sha256 = require_id_format(path.sha256, SHA256, "artifact")
    erased = remove_upload(sha256, derived=query.derived)
    return Response(status=204) if erased is None else jsonify(serialize_erasure(erased))


def serialize_erasure(erased: Erasure) -> dict[str, Any]:
    """What was deleted, as `ErasureView` describes it."""
    return {
        "audits": erased.audits,
        "jobs": erased.jobs,
        "artifacts": erased.artifacts,
        "bytes": erased.size,
        "finished": erased.finished,
    }


def serialize_upload(upload: Upload) -> dict[str, Any]:
    """An upload, as `UploadView` describes it."""
    return {
        "sha256": upload.sha256,
        "size": upload.size,
        "media_type": upload.media_type,
        "created_at": format_rfc3339(upload.created_at),
        "expires_at": format_rfc3339(upload.expires_at),
        "url": f"/v1/artifacts/{upload.sha256}",
    }


def make_file_name(artifact: Artifact) -> str:
    """`reconstruction-0a1b2c3d4e5f.json`: safe in a header and on a disk."""
    role = re.sub(r"[^A-Za-z0-9_-]", "", artifact.role).lower() or "artifact"
    media_type = artifact.media_type.partition(";")[0].strip()
    extension = _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"
    return f"{role}-{artifact.sha256[:12]}{extension}"
