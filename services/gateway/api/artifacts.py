"""/v1/artifacts/{sha256}: artifacts of your jobs."""

from __future__ import annotations

import mimetypes
import re

from flask import Response, request
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import make_blueprint
from services.gateway.artifact_repair import stream_verified
from services.gateway.deps import current_db, current_gateway, current_tenant
from services.gateway.problems import document_errors
from services.gateway.submission import SHA256, require_id_format
from shared.jobs import queries
from shared.jobs.records import Artifact

routes = make_blueprint("artifacts", "artifacts of jobs, addressed by their sha256")

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


@routes.get(
    "/artifacts/<sha256>", responses={200: _BYTES_RESPONSE, 304: None, **document_errors(404, 409)}
)
def get_artifact(path: ArtifactPath) -> Response:
    """Fetch an artifact. Its bytes never change: verify them against the sha256.

    503 while it is rebuilt because the store has lost or damaged it; 409 if that happens
    repeatedly.
    """
    artifact = queries.get_artifact(
        current_db(), current_tenant(), require_id_format(path.sha256, SHA256, "artifact")
    )
    response = Response(content_type=artifact.media_type)
    response.set_etag(artifact.sha256)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.headers["Content-Disposition"] = f'attachment; filename="{make_file_name(artifact)}"'
    if request.if_none_match.contains(artifact.sha256):
        response.status_code = 304
        return response
    response.response = stream_verified(current_gateway().deps, current_tenant(), artifact)
    response.content_length = artifact.size
    return response


def make_file_name(artifact: Artifact) -> str:
    """`reconstruction-0a1b2c3d4e5f.json`: safe in a header and on a disk."""
    role = re.sub(r"[^A-Za-z0-9_-]", "", artifact.role).lower() or "artifact"
    media_type = artifact.media_type.partition(";")[0].strip()
    extension = _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"
    return f"{role}-{artifact.sha256[:12]}{extension}"
