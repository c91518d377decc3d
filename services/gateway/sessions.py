"""Cookies of browsers that have signed in: values that name a key or the token, signed, and
contain neither."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable

from itsdangerous import BadData, URLSafeSerializer

from shared.jobs.database import Database
from shared.jobs.keys import KEY_ID
from shared.jobs.server_secrets import load_secret

SESSION_COOKIE = "palimpsest_session"
SESSION_S = 30 * 24 * 3600
SECRET_NAME = "browser sessions"  # noqa: S105 - a name, no secret
MAX_COOKIE_CHARS = 512


def derive_session(token: str) -> str:
    """The session cookie's value for this token."""
    return hmac.new(token.encode(), b"palimpsest browser session", hashlib.sha256).hexdigest()


class KeySessions:
    """Cookies of keys. All processes of a gateway sign with the same secret, which the job store
    keeps."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db, self._clock = db, clock
        self._serializer: URLSafeSerializer | None = None
        self._lock = threading.Lock()

    def sign(self, key_id: str) -> str:
        """The cookie's value for this key. Raises TransientError."""
        value = self._load_serializer().dumps([key_id, int(self._clock()) + SESSION_S])
        return value if isinstance(value, str) else value.decode()

    def read(self, value: str) -> str | None:
        """The id of the key that a value was signed for, at most `SESSION_S` ago; None: by nobody.
        Gateways whose clocks differ accept each other's. Raises TransientError."""
        if not value or len(value) > MAX_COOKIE_CHARS or "." not in value:
            return None
        try:
            key_id, ends_at = self._load_serializer().loads(value)
        except (BadData, TypeError, ValueError):
            return None
        is_valid = KEY_ID.fullmatch(key_id) and self._clock() < ends_at
        return str(key_id) if is_valid else None

    def _load_serializer(self) -> URLSafeSerializer:
        with self._lock:
            if self._serializer is None:
                self._serializer = URLSafeSerializer(
                    load_secret(self._db, SECRET_NAME),
                    salt="palimpsest browser session of a key, with its end",
                    signer_kwargs={"digest_method": hashlib.sha256},
                )
            return self._serializer
