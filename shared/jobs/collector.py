"""Removes what has been kept long enough, a little in each round of a reconciler.

Nothing of it is urgent: a round has its share of time, and the next one goes on. The collector
remembers only how far it has come; what it had to leave because something referred to it is found
again when it begins anew: an hour after it began, or once it is through if that takes longer. So
any number of reconcilers may run, and may be killed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from shared.artifacts import ArtifactStore
from shared.jobs import expiry, uploads
from shared.jobs.audit_deletion import finish_deletions
from shared.jobs.database import Database
from shared.jobs.retention import HOUR_S, Retention

ROUND_S = 1.0  # seconds that a round takes, about
RESTART_S = HOUR_S  # seconds between two walks through all ended jobs
RARE_S = HOUR_S  # between two looks for what is seldom there: it goes through whole tables


@dataclass
class _Walk:
    """Through the ended jobs, oldest end first."""

    position: expiry.Position = expiry.START
    began_at: float = -math.inf
    is_through: bool = True  # it goes on with what becomes old enough, until it begins anew


@dataclass
class Collector:
    """Keep one per reconciler process.

    clock: seconds that only pass; it paces the collector, and decides nothing.
    """

    db: Database
    store: ArtifactStore
    retention: Retention
    clock: Callable[[], float] = time.monotonic
    round_s: float = ROUND_S
    _walks: dict[str, _Walk] = field(default_factory=dict)
    _upload: uploads.Position = uploads.START  # where the look through expired ones goes on
    _rare_at: float = -math.inf

    def collect(self) -> dict[str, int]:
        """One round: how many of each kind were removed. What was removed of none is left out.

        Raises:
            TransientError: a store did not answer; the next round goes on.
        """
        kept = self.retention
        steps: list[tuple[str, float, Callable[[float], int]]] = [
            ("answers", kept.idempotency_s, lambda s: expiry.expire_answers(self.db, s)),
            ("log_entries", kept.log_s, lambda s: expiry.expire_log(self.db, s)),
            ("checkpoints", kept.checkpoints_s, self._walk("checkpoints")),
            ("events", kept.events_s, self._walk("events")),
            ("reconstructions", kept.reconstructions_s, self._walk("reconstructions")),
            ("audits", kept.audits_s, lambda s: len(expiry.mark_expired_audits(self.db, s))),
            ("jobs", kept.jobs_s, self._walk("jobs")),
            ("uploads", 0.0, lambda _: self._expire_uploads()),
        ]
        ends_at = self.clock() + self.round_s
        removed = {}
        for n, (name, kept_s, step) in enumerate(steps):
            share_ends_at = self.clock() + max(ends_at - self.clock(), 0) / (len(steps) - n + 1)
            if not math.isinf(kept_s):
                removed[name] = self._repeat(step, kept_s, share_ends_at)
        removed["jobs_of_audits"] = finish_deletions(self.db, ends_at, self.clock)
        if self.clock() >= self._rare_at + RARE_S:
            self._rare_at = self.clock()
            removed["workers"] = expiry.expire_workers(self.db)
            if not math.isinf(kept.catalogs_s):
                removed["catalogs"] = expiry.expire_catalogs(self.db, kept.catalogs_s)
        self._remove_bytes(self.clock() + self.round_s)
        return {name: count for name, count in removed.items() if count}

    def _repeat(self, step: Callable[[float], int], kept_s: float, ends_at: float) -> int:
        """As long as it finds something and there is time, and once in any case."""
        total = 0
        while count := step(kept_s):
            total += count
            if self.clock() >= ends_at:
                break
        return total

    def _walk(self, kind: str) -> Callable[[float], int]:
        """A step that goes on with the walk of this kind until something was removed."""
        remove: dict[str, Callable[[Database, float, Collection[Row[Any]]], int]] = {
            "checkpoints": expiry.expire_checkpoints,
            "events": expiry.expire_events,
            "reconstructions": expiry.expire_reconstructions,
            "jobs": lambda *arguments: expiry.expire_jobs(*arguments).jobs,
        }
        walk = self._walks.setdefault(kind, _Walk())

        def step(kept_s: float) -> int:
            if walk.is_through and self.clock() >= walk.began_at + RESTART_S:
                walk.position, walk.began_at = expiry.START, self.clock()
                walk.is_through = False
            ends_at = self.clock() + self.round_s / 10
            while rows := expiry.list_ended_jobs(self.db, kept_s, walk.position):
                count = remove[kind](self.db, kept_s, rows)
                walk.position = (rows[-1].finished_at, rows[-1].id)
                if count or self.clock() >= ends_at:
                    return count
            walk.is_through = True
            return 0

        return step

    def _expire_uploads(self) -> int:
        """Go on until some were removed, or all were looked at."""
        ends_at = self.clock() + self.round_s / 10
        while True:
            removed, after = uploads.expire_uploads(self.db, self._upload)
            self._upload = after or uploads.START
            if removed or after is None or self.clock() >= ends_at:
                return len(removed)

    def _remove_bytes(self, ends_at: float) -> None:
        while uploads.count_deleted_bytes(self.db):
            uploads.remove_deleted_bytes(self.db, self.store)
            if self.clock() >= ends_at:
                return
