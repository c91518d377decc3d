"""How many requests were answered, and how long that took, by route.

A scrape reaches one of the gateway's processes, so a count that each keeps for itself would be a
different one each time. Each process adds what it has counted to the totals in SQL, every few
seconds and when it ends; one that is killed loses what it has counted since.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import structlog
from flask import Flask, Response, g, request

from shared.errors import PalimpsestError
from shared.jobs.database import Database
from shared.jobs.metric_totals import add_to_totals

log = structlog.get_logger()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
FLUSH_INTERVAL_S = 10.0
NO_ROUTE = "none"


class RequestCounts:
    """Counts of one process. Safe for many threads."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._amounts: Counter[Any] = Counter()
        self._stopped = threading.Event()

    def install(self, app: Flask) -> None:
        """Count every response; to be called before any other check of requests is installed."""

        @app.before_request
        def _note_start() -> None:
            g.started_at = time.monotonic()

        @app.after_request
        def _count(response: Response) -> Response:
            # by rule: a path would be a new series for every job
            route = request.url_rule.rule if request.url_rule else NO_ROUTE
            method = request.method if request.method in METHODS else "other"
            took_s = time.monotonic() - g.get("started_at", time.monotonic())
            with self._lock:
                self._amounts["http_requests", (route, method, str(response.status_code))] += 1
                self._amounts["http_request_seconds", (route, method)] += took_s
            return response

    def start(self) -> None:
        """Add to the totals every few seconds, in a thread, until `close`."""
        threading.Thread(target=self._run, name="request-counts", daemon=True).start()

    def close(self) -> None:
        """Add what is left to the totals."""
        self._stopped.set()
        self.flush()

    def flush(self) -> None:
        """Add to the totals. What cannot be added now is kept for the next time."""
        with self._lock:
            amounts, self._amounts = self._amounts, Counter()
        if not amounts:
            return
        try:
            self._db.run_transaction(lambda c: add_to_totals(self._db, c, amounts))
        except PalimpsestError as error:
            with self._lock:
                self._amounts.update(amounts)
            log.warning("counts of requests were not stored; retrying", error=str(error))

    def _run(self) -> None:
        while not self._stopped.wait(FLUSH_INTERVAL_S):
            self.flush()
