"""Uploads on their way in: one draft each, whose bytes are bounded before they are written.

The event loop waits for the client, and a thread is busy only while a piece is written. What is
checked before the first byte: the type of the body, its announced digest and size, the quota, and
how many uploads come in already.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections import Counter
from dataclasses import dataclass

from flask import Request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_options_header

from services.gateway.fair_places import has_place
from shared.artifacts import CHUNK_BYTES, ArtifactDraft, ArtifactStore, StoredArtifact
from shared.config import Settings
from shared.errors import InvalidRequest, TransientError
from shared.jobs import uploads
from shared.jobs.tenant_store import TenantStore

DIGEST_HEADER = "Content-Digest"
DEFAULT_TYPE = "application/octet-stream"
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,38}/[a-z0-9][a-z0-9!#$&^_.+-]{0,38}")
# a form or a compressed body would be stored as it was sent, which nobody means
_REFUSED_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")


@dataclass(frozen=True)
class UploadHead:
    """What the head of a request says of its body; None where it says nothing."""

    media_type: str
    sha256: str | None
    size: int | None


def read_upload_head(request: Request, max_bytes: int) -> UploadHead:
    """What is announced, before a byte of the body is read.

    Raises:
        UnsupportedMediaType: a form, or a compressed body.
        BadRequest: a header that says nothing understandable.
        RequestEntityTooLarge: more than `max_bytes` bytes.
    """
    stated = request.headers.get("Content-Type")
    media_type = DEFAULT_TYPE if stated is None else parse_options_header(stated)[0]
    if media_type in _REFUSED_TYPES:
        raise UnsupportedMediaType(
            "send the file itself as the body, not a form: curl --data-binary @FILE"
        )
    if not _TYPE.fullmatch(media_type):
        raise BadRequest("Content-Type is not a media type, such as text/csv")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("send the body uncompressed")
    size = request.content_length
    if size is not None and size > max_bytes:
        raise RequestEntityTooLarge(f"an upload may have at most {max_bytes:,} bytes")
    return UploadHead(media_type, _read_digest(request.headers.get(DIGEST_HEADER)), size)


def _read_digest(header: str | None) -> str | None:
    """The sha256 of `Content-Digest` (RFC 9530), in hex; None without the header."""
    if header is None:
        return None
    match = re.search(r"(?:^|,)\s*sha-256\s*=\s*:([A-Za-z0-9+/=]+):", header)
    try:
        digest = base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise BadRequest(
            f"{DIGEST_HEADER} has no sha-256 digest: send sha-256=:BASE64:, where BASE64 is the "
            "digest's 32 bytes"
        )
    return digest.hex()


class UploadLimiter:
    """The uploads that one process is receiving: how many, and how many bytes of each tenant."""

    def __init__(self, artifacts: ArtifactStore, settings: Settings) -> None:
        self._artifacts, self._settings = artifacts, settings
        self._lock = threading.Lock()
        self._counts = Counter[str]()  # of each tenant
        self._incoming_bytes: dict[str, int] = {}

    def open(self, store: TenantStore, head: UploadHead) -> IncomingUpload:
        """Begin to receive an upload.

        Raises:
            QuotaExceeded, StorageFull: there is no room for what is announced.
            TransientError: too many come in already, or a store did not answer.
        """
        quota_bytes = self._settings.upload_quota_bytes
        if head.sha256 and store.has_artifact(head.sha256):
            quota_bytes += self.max_bytes  # it takes no more room, or is refused in the end
        else:
            store.check_room(head.size or 0)
        used_bytes = store.measure_uploads()
        with self._lock:
            if not has_place(store.tenant, self._counts, self._settings.max_uploads):
                is_full = self._counts.total() >= self._settings.max_uploads
                raise TransientError(
                    f"this gateway is already receiving {self._settings.max_uploads} uploads"
                    if is_full
                    else "this gateway is already receiving all uploads that you may send beside "
                    "others"
                )
            room = quota_bytes - used_bytes
            self._check_room(store.tenant, room, head.size or 0)
            self._counts[store.tenant] += 1
        try:
            return IncomingUpload(self, store.tenant, head, room, self._artifacts.open_draft())
        except BaseException:
            self.release(store.tenant, 0)
            raise

    def add(self, tenant: str, room: int, more_bytes: int) -> None:
        """Count bytes that have come.

        Args:
            room: bytes that all uploads of the tenant that come in may have together.

        Raises:
            QuotaExceeded: they are too many.
        """
        with self._lock:
            self._check_room(tenant, room, more_bytes)
            self._incoming_bytes[tenant] = self._incoming_bytes.get(tenant, 0) + more_bytes

    def _check_room(self, tenant: str, room: int, more_bytes: int) -> None:
        quota_bytes = self._settings.upload_quota_bytes
        incoming = self._incoming_bytes.get(tenant, 0)
        if incoming + more_bytes > room:
            uploads.check_quota(quota_bytes - room + incoming, more_bytes, quota_bytes)

    def release(self, tenant: str, received_bytes: int) -> None:
        """An upload has ended."""
        with self._lock:
            self._counts[tenant] -= 1
            if not self._counts[tenant]:
                del self._counts[tenant]
            left = self._incoming_bytes.get(tenant, 0) - received_bytes
            if left:
                self._incoming_bytes[tenant] = left
            else:
                self._incoming_bytes.pop(tenant, None)

    @property
    def max_bytes(self) -> int:
        """The size limit of one upload."""
        return self._settings.max_upload_bytes


class IncomingUpload:
    """One upload: written piece by piece, then sealed, and closed in any case."""

    def __init__(
        self,
        limiter: UploadLimiter,
        tenant: str,
        head: UploadHead,
        room: int,
        draft: ArtifactDraft,
    ) -> None:
        self.tenant, self.head = tenant, head
        self._limiter, self._room, self._draft = limiter, room, draft
        self._counted_bytes = 0
        self._closed = False

    def write(self, chunk: bytes) -> None:
        """Add bytes.

        Raises:
            RequestEntityTooLarge: more than an upload may have.
            QuotaExceeded: more than the tenant may have.
            TransientError: the store did not take them.
        """
        if self._draft.size + len(chunk) > self._limiter.max_bytes:
            raise RequestEntityTooLarge(
                f"an upload may have at most {self._limiter.max_bytes:,} bytes"
            )
        self._limiter.add(self.tenant, self._room, len(chunk))
        self._counted_bytes += len(chunk)
        self._draft.write(chunk)

    def seal(self) -> StoredArtifact:
        """All has come: bring it to the disk, and check it against what was announced.

        Raises:
            InvalidRequest: other bytes than announced.
            TransientError: the store did not take them.
        """
        stored = self._draft.seal()
        if self.head.sha256 not in (None, stored.sha256):
            raise InvalidRequest(
                f"the bytes received have sha256 {stored.sha256}, but {DIGEST_HEADER} says "
                f"{self.head.sha256}: nothing was kept; send them again",
                DIGEST_HEADER,
            )
        return stored

    def place(self) -> None:
        """See `ArtifactDraft.place`."""
        self._draft.place()

    def close(self) -> None:
        """Remove what was not placed. Repeatable."""
        if not self._closed:
            self._closed = True
            self._draft.discard()
            self._limiter.release(self.tenant, self._counted_bytes)


def receive_upload(request: Request, limiter: UploadLimiter, store: TenantStore) -> IncomingUpload:
    """Receive the body of a request that a thread reads itself.

    Raises:
        InvalidRequest, TransientError, HTTPException: as `read_upload_head`, `UploadLimiter.open`
            and `IncomingUpload.write`.
    """
    request.max_content_length = None  # that of JSON bodies
    upload = limiter.open(store, read_upload_head(request, limiter.max_bytes))
    try:
        while chunk := request.stream.read(CHUNK_BYTES):
            upload.write(chunk)
    except BaseException:
        upload.close()
        raise
    return upload
