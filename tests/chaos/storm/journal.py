"""What was done and what came back, one JSON line each, as it happens."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Journal:
    """A file and the same in memory. Times are this process's wall clock, in seconds since 1970."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._lock = threading.Lock()
        self._lines: list[dict[str, Any]] = []

    def note(self, what: str, **data: Any) -> None:
        """Append a line."""
        line = {"what": what, "at": round(time.time(), 3), **data}
        with self._lock:
            self._lines.append(line)
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def lines(self, *what: str) -> list[dict[str, Any]]:
        """Lines of these kinds so far."""
        with self._lock:
            return [line for line in self._lines if line["what"] in what]

    def close(self) -> None:
        self._file.close()
