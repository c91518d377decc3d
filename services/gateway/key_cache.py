"""Looks keys up, and remembers valid ones for a few seconds."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from shared.errors import PalimpsestError
from shared.jobs import keys
from shared.jobs.database import Database
from shared.jobs.keys import Key

CACHE_S = 3.0  # so long a revoked key may still be accepted
MAX_KEYS = 4096


@dataclass(frozen=True)
class _Entry:
    key: Key
    until: float  # when it is to be read again


class KeyCache:
    """The keys that were valid when they were last used, by digest and by id, `MAX_KEYS` at most."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._clock = db, clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._lock = threading.Lock()
        # notes of use must not keep requests waiting for the store's write lock
        self._executor = ThreadPoolExecutor(1, "note-use")
        self._being_noted: set[str] = set()

    def is_known(self, secret: str) -> bool:
        """Whether this secret was right when it was last used, however long ago."""
        with self._lock:
            return ("digest", keys.compute_digest(secret)) in self._entries

    def find_by_secret(self, secret: str) -> Key | None:
        """The key with this secret, valid or not. Raises TransientError."""
        return self._find("digest", keys.compute_digest(secret))

    def find_by_id(self, key_id: str) -> Key | None:
        """The key with this id, valid or not. Raises TransientError."""
        return self._find("id", key_id)

    def _find(self, column: str, value: str) -> Key | None:
        now = self._clock()
        with self._lock:
            entry = self._entries.get((column, value))
            if entry is not None and now < entry.until:
                self._entries.move_to_end((column, value))
                return entry.key
        key = keys.find_key(self._db, **{column: value})
        with self._lock:
            if key is None or not key.is_valid:
                self._entries.pop((column, value), None)
                return key
            left_s = CACHE_S if key.expires_in_s is None else min(CACHE_S, key.expires_in_s)
            self._entries[column, value] = _Entry(key, now + left_s)
            self._entries.move_to_end((column, value))
            if len(self._entries) > MAX_KEYS:
                self._entries.popitem(last=False)
            if not key.is_use_noted and key.id not in self._being_noted:
                self._being_noted.add(key.id)
                self._executor.submit(self._note_use, key.id)
        return key

    def _note_use(self, key_id: str) -> None:
        with suppress(PalimpsestError, DBAPIError):  # it is noted at the next use
            keys.note_use(self._db, key_id)
        with self._lock:
            self._being_noted.discard(key_id)
