"""/v1/artifacts/{sha256}: the bytes that a job of yours made."""

from __future__ import annotations

import mimetypes
import re

from flask import Response, request
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import blueprint
from services.gateway.damaged import whole
from services.gateway.deps import db, gateway, tenant
from services.gateway.problems import documented
from services.gateway.submission import SHA256, known_form
from shared.jobs import reads
from shared.jobs.records import Artifact

routes = blueprint("artifacts", "bytes that a job made, addressed by their sha256")

_EXTENSIONS = {
    "application/json": ".json",
    "application/octet-stream": ".bin",
    "application/x-safetensors": ".safetensors",
    "application/vnd.safetensors": ".safetensors",
}


class ArtifactPath(BaseModel):
    sha256: str = Field(description="64 hexadecimal digits")


_BYTES = {
    "description": "the bytes",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@routes.get("/artifacts/<sha256>", responses={200: _BYTES, 304: None, **documented(404, 409)})
def get_artifact(path: ArtifactPath) -> Response:
    """Fetch an artifact. What an address holds never changes: check the bytes against it.

    503 while it is made again, because the store had lost or damaged it; 409 if that happens again and again.
    """
    artifact = reads.get_artifact(db(), tenant(), known_form(path.sha256, SHA256, "artifact"))
    response = Response(content_type=artifact.media_type)
    response.set_etag(artifact.sha256)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.headers["Content-Disposition"] = f'attachment; filename="{file_name(artifact)}"'
    if request.if_none_match.contains(artifact.sha256):
        response.status_code = 304
        return response
    response.response = whole(gateway().deps, tenant(), artifact)
    response.content_length = artifact.size
    return response


def file_name(artifact: Artifact) -> str:
    """`reconstruction-0a1b2c3d4e5f.json`: safe in a header and on a disk."""
    role = re.sub(r"[^A-Za-z0-9_-]", "", artifact.role).lower() or "artifact"
    plain = artifact.media_type.partition(";")[0].strip()
    return f"{role}-{artifact.sha256[:12]}{_EXTENSIONS.get(plain) or mimetypes.guess_extension(plain) or '.bin'}"
