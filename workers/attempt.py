"""The real hooks of a running attempt: progress and orders through the page, checkpoints through SQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.errors import Damaged, Drained, FencedOut, JobCancelled, JobFailed, NotFound, TransientError
from shared.failpoints import failpoint
from shared.jobs import claims
from shared.jobs.database import Database
from shared.jobs.records import Claim
from shared.jobs.states import Failure
from workers.page import Order, Page
from workers.patience import wait_for

log = structlog.get_logger()
T = TypeVar("T")

AGAIN = 1.0  # seconds between two tries to save a checkpoint, at least


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
        self._unsaved: bytes | None = None  # the newest state, while a store does not take it
        self._again_at = 0.0

    def beat(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Write progress; obey what came back; save what could not be saved before."""
        self._numbers |= {name: round(float(value), 6) for name, value in numbers.items()}
        self._page.beat({"done": done, "total": total, **self._numbers})
        self.obey()
        if self._unsaved is not None and time.monotonic() > self._again_at:
            self._try_to_save(self._unsaved)

    def obey(self) -> None:
        """Raise what the orders say, if there are any."""
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
        # A stage that checkpoints gets the time to do so; one that does not, or cannot, is cut short.
        self._leaving = self._leaving or time.monotonic()
        if time.monotonic() - self._leaving > self._settings.obey_within:
            raise Drained

    def wait_for(self, ask: Callable[[], T], seconds: float | None = None) -> T:
        """What `ask` returns, as soon as the stores let it; orders are obeyed meanwhile.

        Raises:
            Damaged: the artifact is not what it should be.
            TransientError: a store was away for `seconds`, `Settings.patience_s` if not given.
        """
        return wait_for(ask, self._page, seconds or self._settings.patience_s, self.obey)

    def due(self) -> bool:
        """Time for a checkpoint: every so often, and at once when the worker leaves."""
        return self._leaving is not None or time.monotonic() - self._saved > self._settings.checkpoint_every

    def save(self, data: bytes) -> None:
        """Bring the state to the stores. While one is away the stage computes on, and a later beat or a newer state
        tries again; only when the worker leaves is it waited for, and not for long."""
        self._saved = time.monotonic()
        if self._leaving is None:
            self._try_to_save(data)
            return
        self.wait_for(lambda: self._save(data))
        raise Drained

    def _try_to_save(self, data: bytes) -> None:
        begun = time.monotonic()
        try:
            with self._page.waiting():
                self._save(data)
            self._unsaved = None
        except TransientError as error:
            if self._unsaved is None:
                log.warning("checkpoint not saved; trying again", job=self._claim.job.id, error=str(error))
            self._unsaved = data
            # a store that takes long to say no must not stop the computation
            self._again_at = time.monotonic() + max(AGAIN, time.monotonic() - begun)

    def _save(self, data: bytes) -> None:
        """Bytes first, then the pointer, and that only while the fence is ours."""
        sha256 = self._artifacts.put(data)
        failpoint("worker.in_checkpoint")
        claims.save_checkpoint(self._db, self._claim.job.id, self._claim.fence, sha256, self._key)
        failpoint("worker.after_checkpoint")

    def load(self) -> bytes | None:
        """The checkpoint of this job, if it belongs to the same code and inputs and is still there as it was."""
        sha256 = self.wait_for(lambda: claims.checkpoint_for(self._db, self._claim.job.id, self._key))
        if sha256 is None:
            return None
        try:
            return self.wait_for(lambda: self._artifacts.get(sha256))
        except (NotFound, Damaged) as error:
            log.warning("checkpoint lost; beginning anew", job=self._claim.job.id, error=str(error))
            return None
