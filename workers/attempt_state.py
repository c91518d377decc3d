"""Memory shared by a running attempt and its lease process.

The attempt writes its heartbeat count, its progress, whether it waits for a store, and which lease
of an accelerator it has and what of its memory; the lease process writes signals. Neither ever waits for the other. A
signal carries the number of the lease that it belongs to, so that the next job ignores one that
arrives late.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

SIZE_BYTES = 16384
_COUNTER = struct.Struct("<Q")  # at 0: heartbeats so far
_SIGNAL = struct.Struct("<QQ")  # at 8: lease number, signal
_LENGTH = struct.Struct("<I")  # at 24: bytes of JSON that follow at 32
_WAITS = struct.Struct("<I")  # at 28: how many waits the attempt is inside of
_TEXT = 32
_DEVICE_MEMORY = struct.Struct("<Q")  # at the end: bytes that the child has of an accelerator
_DEVICE_MEMORY_AT = SIZE_BYTES - _DEVICE_MEMORY.size
_DEVICE_FENCE = struct.Struct("<Q")  # before it: the fence of the device's lease
_DEVICE_FENCE_AT = _DEVICE_MEMORY_AT - _DEVICE_FENCE.size


class ControlSignal(IntEnum):
    """What the attempt must do; the highest one counts."""

    NONE = 0
    DRAIN = 1
    TIMEOUT = 2
    CANCEL = 3
    LOST = 4


class AttemptState:
    """Opened by file descriptor in both processes; `AttemptState.create()` makes a new one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, SIZE_BYTES)
        self._count = self.heartbeat_count()

    @classmethod
    def create(cls) -> AttemptState:
        """In an anonymous file that a child process inherits through `pass_fds`."""
        fd = os.memfd_create("palimpsest-attempt")
        os.ftruncate(fd, SIZE_BYTES)
        return cls(fd)

    def heartbeat(self, progress: Mapping[str, Any] | None = None) -> None:
        """The attempt is alive; `progress` replaces what was there."""
        if progress is not None:
            text = json.dumps(progress).encode()
            if len(text) <= _DEVICE_FENCE_AT - _TEXT:
                _LENGTH.pack_into(self._map, 24, 0)
                self._map[_TEXT : _TEXT + len(text)] = text
                _LENGTH.pack_into(self._map, 24, len(text))
        self._count += 1
        _COUNTER.pack_into(self._map, 0, self._count)

    def heartbeat_count(self) -> int:
        """The number of heartbeats so far."""
        return int(_COUNTER.unpack_from(self._map, 0)[0])

    @contextmanager
    def mark_waiting(self) -> Iterator[None]:
        """While in here the attempt waits for the job store or the artifact store, which does not
        count as a stall.

        One inside another is one wait. For the attempt's own thread only.
        """
        self._add_waits(1)
        try:
            yield
        finally:
            self._add_waits(-1)

    def is_waiting(self) -> bool:
        """Whether the attempt waits for the job store or the artifact store."""
        return bool(_WAITS.unpack_from(self._map, 28)[0])

    def _add_waits(self, step: int) -> None:
        _WAITS.pack_into(self._map, 28, _WAITS.unpack_from(self._map, 28)[0] + step)

    def read_progress(self) -> dict[str, Any] | None:
        """The last progress, or None while it is being written."""
        before = self.heartbeat_count()
        (length,) = _LENGTH.unpack_from(self._map, 24)
        text = bytes(self._map[_TEXT : _TEXT + length])
        if not length or before != self.heartbeat_count():
            return None
        try:
            progress: dict[str, Any] = json.loads(text)
        except ValueError:
            return None
        return progress

    def write_device_memory(self, used_bytes: int) -> None:
        """What the child has of its accelerator's memory, in bytes."""
        _DEVICE_MEMORY.pack_into(self._map, _DEVICE_MEMORY_AT, used_bytes)

    def read_device_memory(self) -> int | None:
        """What the child had of its accelerator's memory when it last said so, in bytes; None if it
        never did."""
        return int(_DEVICE_MEMORY.unpack_from(self._map, _DEVICE_MEMORY_AT)[0]) or None

    def write_device_fence(self, fence: int) -> None:
        """The child has the lease of a device with this fence, from 1 on."""
        _DEVICE_FENCE.pack_into(self._map, _DEVICE_FENCE_AT, fence)

    def read_device_fence(self) -> int | None:
        """The fence of the device lease that the child has; None if it has none."""
        return int(_DEVICE_FENCE.unpack_from(self._map, _DEVICE_FENCE_AT)[0]) or None

    def clear_progress(self) -> None:
        """Forget the last job's progress."""
        _LENGTH.pack_into(self._map, 24, 0)

    def send_signal(self, lease_number: int, signal: ControlSignal) -> None:
        """Send a signal to the attempt with this lease number."""
        _SIGNAL.pack_into(self._map, 8, lease_number, signal)

    def pending_signal(self, lease_number: int) -> ControlSignal:
        """The signal to the attempt with this lease number."""
        addressee, signal = _SIGNAL.unpack_from(self._map, 8)
        return ControlSignal(signal) if addressee == lease_number else ControlSignal.NONE
