"""Whether the key that a long response is sent to is still valid: asked again every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.errors import TransientError
from shared.jobs.database import Database
from shared.jobs.keys import list_valid

KEY_KEY = "palimpsest.key"  # in the WSGI environ: the id of the request's key, None for the token
KEY_CHECK_S = 3.0


class KeyEnded(Exception):
    """The key was revoked, has expired, or is of a tenant that was disabled."""


class KeyWatch:
    """Watches one key (None: the token, which does not end)."""

    def __init__(
        self, db: Database, key: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._db, self._key, self._clock = db, key, clock
        self._next_check = clock() + KEY_CHECK_S

    def require_valid(self) -> None:
        """Raises KeyEnded, at most `KEY_CHECK_S` after the key has ended. While the job store does
        not answer, nothing is known of keys, and what was accepted goes on."""
        if self._key is None or self._clock() < self._next_check:
            return
        try:
            is_valid = bool(list_valid(self._db, {self._key}))
        except TransientError:
            return
        if not is_valid:
            raise KeyEnded("the key of this request is no longer valid")
        self._next_check = self._clock() + KEY_CHECK_S
