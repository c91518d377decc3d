"""Counts wrong keys per address, so that trying many costs no look-ups."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60.0
MAX_ADDRESSES = 1024  # those that failed longest ago are forgotten first


@dataclass
class _Failures:
    since: float
    count: int = 0


class FailureLimiter:
    """The failures of each address within a minute. Addresses of one IPv6 network of 64 bits, which
    one machine may have all of, count as one."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit`: how many failures a minute an address may have."""
        self._limit, self._clock = limit, clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def find_retry_after_s(self, address: str) -> int | None:
        """Seconds to wait, from 1 on, if the address has failed too often; None: it may try."""
        now = self._clock()
        with self._lock:
            failures = self._failures.get(_group(address))
            if failures is None or failures.count < self._limit:
                return None
            left_s = failures.since + WINDOW_S - now
        return math.ceil(left_s) if left_s > 0 else None

    def record(self, address: str) -> None:
        """Count a failure."""
        now, group = self._clock(), _group(address)
        with self._lock:
            failures = self._failures.get(group)
            if failures is None or now - failures.since >= WINDOW_S:
                failures = self._failures[group] = _Failures(now)
            failures.count += 1
            self._failures.move_to_end(group)
            if len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)


def _group(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
