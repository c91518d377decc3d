"""Signatures of webhook messages, as the Standard Webhooks specification has them."""

from __future__ import annotations

import base64
import hashlib
import hmac

from shared.jobs.webhooks import SECRET_PREFIX


def sign_message(secret: str, message_id: str, timestamp: int, body: str) -> str:
    """The header `webhook-signature`: HMAC-SHA256 over id, time (seconds since 1970) and body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
