"""Reports that were parsed lately."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from shared.reporting.chosen_rows import RowIndex

# of JSON, per process: parsed it takes about six times as much
MAX_CACHED_BYTES = 32 << 20


@dataclass
class ReportCache:
    """Parsed reports of all tenants, by tenant and digest; the least recently used go first."""

    max_bytes: int = MAX_CACHED_BYTES
    _reports: OrderedDict[tuple[str, str], tuple[RowIndex, int]] = field(
        default_factory=OrderedDict
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, tenant: str, sha256: str) -> RowIndex | None:
        with self._lock:
            entry = self._reports.get((tenant, sha256))
            if entry is None:
                return None
            self._reports.move_to_end((tenant, sha256))
            return entry[0]

    def put(self, tenant: str, sha256: str, report: RowIndex, size: int) -> None:
        """Keep a report, unless it is larger than all may be together."""
        if size > self.max_bytes:
            return
        with self._lock:
            self._reports[tenant, sha256] = report, size
            while sum(size for _, size in self._reports.values()) > self.max_bytes:
                self._reports.popitem(last=False)
