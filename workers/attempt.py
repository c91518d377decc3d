"""The real hooks of a running attempt: progress and orders through the page, checkpoints through SQL."""

from __future__ import annotations

import time
from collections.abc import Mapping

from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.errors import Drained, FencedOut, JobCancelled, JobFailed, NotFound
from shared.failpoints import failpoint
from shared.jobs import claims
from shared.jobs.database import Database
from shared.jobs.records import Claim
from shared.jobs.states import Failure
from workers.page import Order, Page


class AttemptHooks:
    """Implements `workers.context.Hooks` for one claim."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        artifacts: ArtifactStore,
        page: Page,
        claim: Claim,
        number: int,
        key: str,
    ) -> None:
        self._settings, self._db, self._artifacts = settings, db, artifacts
        self._page, self._claim, self._number, self._key = page, claim, number, key
        self._numbers: dict[str, float] = {}
        self._saved = time.monotonic()
        self._leaving: float | None = None

    def beat(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Write progress; obey what came back."""
        self._numbers |= {name: round(float(value), 6) for name, value in numbers.items()}
        self._page.beat({"done": done, "total": total, **self._numbers})
        order = self._page.orders(self._number)
        if order is Order.NONE:
            return
        if order is Order.LOST:
            raise FencedOut(f"job {self._claim.job.id} was given to another attempt")
        if order is Order.CANCEL:
            raise JobCancelled
        if order is Order.TIMEOUT:
            limit = self._claim.job.time_limit
            raise JobFailed(Failure.TIMEOUT, f"not done within its time limit of {limit:g} s: raise time_limit")
        # A stage that checkpoints gets the time to do so; one that does not is cut short.
        self._leaving = self._leaving or time.monotonic()
        if time.monotonic() - self._leaving > self._settings.obey_within:
            raise Drained

    def due(self) -> bool:
        """Time for a checkpoint: every so often, and at once when the worker leaves."""
        return self._leaving is not None or time.monotonic() - self._saved > self._settings.checkpoint_every

    def save(self, data: bytes) -> None:
        """Bytes first, then the pointer, and that only while the fence is ours."""
        sha256 = self._artifacts.put(data)
        failpoint("worker.in_checkpoint")
        claims.save_checkpoint(self._db, self._claim.job.id, self._claim.fence, sha256, self._key)
        failpoint("worker.after_checkpoint")
        self._saved = time.monotonic()
        if self._leaving is not None:
            raise Drained

    def load(self) -> bytes | None:
        """The checkpoint of this job, if it belongs to the same code and inputs and is still there."""
        sha256 = claims.checkpoint_for(self._db, self._claim.job.id, self._key)
        if sha256 is None:
            return None
        try:
            return self._artifacts.get(sha256)
        except NotFound:
            return None
