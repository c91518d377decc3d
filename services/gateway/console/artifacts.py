"""/artifacts: what was uploaded, and what was made of it."""

from __future__ import annotations

from flask import Response, request

from services.gateway.console._deletion import Removed, render_removed, survey
from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_gateway, current_store
from services.gateway.removal import remove_upload
from services.gateway.submission import SHA256, require_id_format
from shared.errors import NotFound
from shared.jobs.uploads import Upload

pages = make_pages("artifacts")

PAGE_SIZE = 25


@pages.get("/artifacts")
def show_list() -> Response:
    """The uploads, newest first, with the room that they take."""
    store = current_store()
    listed = store.list_uploads(limit=PAGE_SIZE, page=request.args.get("page") or None)
    digests = [one.sha256 for one in listed.items]
    return render_page(
        "artifacts.html",
        listed=listed,
        is_first="page" not in request.args,
        uses=store.list_upload_uses(digests),
        audits=store.list_audit_uses(digests),
        used_bytes=store.measure_uploads(),
        quota_bytes=current_gateway().deps.settings.upload_quota_bytes,
    )


@pages.get("/artifacts/<sha256>")
def show_one(sha256: str) -> Response:
    """An upload with what is derived from it, or what a job has made."""
    store, digest = current_store(), require_id_format(sha256, SHA256, "artifact")
    upload = _find_upload(digest)
    artifact = store.get_artifact(digest)
    producer = store.find_producer(digest) if upload is None else None
    return render_page(
        "artifact.html",
        artifact=artifact,
        upload=upload,
        producer=producer,
        uses=store.list_upload_uses([digest])[digest],
        audits=store.list_audit_uses([digest])[digest],
        survey=survey(lambda: store.plan_erasure([digest])),
    )


@pages.get("/artifacts/<sha256>/delete")
def ask_deletion(sha256: str) -> Response:
    """What would be deleted."""
    store, digest = current_store(), require_id_format(sha256, SHA256, "upload")
    store.get_upload(digest)
    return render_page(
        "deletion.html",
        what=f"the file {digest[:12]}…",
        back=f"/artifacts/{digest}",
        action=f"/artifacts/{digest}/delete",
        query={},
        keeps="What jobs have made of it stays.",
        survey=survey(lambda: store.plan_erasure([digest])),
        uses=store.list_upload_uses([digest])[digest],
        only="Delete the file",
    )


@pages.post("/artifacts/<sha256>/delete")
def delete(sha256: str) -> Response:
    """Delete an upload; with `derived=true`, with everything that was made of it."""
    digest = require_id_format(sha256, SHA256, "upload")
    erased = remove_upload(digest, derived=request.args.get("derived") == "true")
    return render_removed(Removed("The file is deleted.", erased, "/artifacts", "Files"))


def _find_upload(sha256: str) -> Upload | None:
    try:
        return current_store().get_upload(sha256)
    except NotFound:
        return None
