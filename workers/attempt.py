"""The real hooks of a running attempt: progress and signals through shared memory, checkpoints
through SQL."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.errors import (
    DamagedArtifact,
    FencedOut,
    JobCancelled,
    JobFailed,
    NotFound,
    TransientError,
    WorkerDraining,
)
from shared.failpoints import failpoint
from shared.jobs import attempts, previews
from shared.jobs.database import Database
from shared.jobs.records import Claim
from shared.jobs.states import Failure
from workers.attempt_state import AttemptState, ControlSignal
from workers.store_wait import wait_for_store
from workers.usage import read_device_memory

log = structlog.get_logger()
T = TypeVar("T")

DEVICE_MEMORY_INTERVAL_S = 3.0  # seconds between two looks at the accelerator's memory
MIN_PREVIEW_INTERVAL_S = 3.0  # seconds between two previews, at least
MAX_PREVIEW_SHARE = 0.02  # of the time that drawing and storing previews may take
MIN_RETRY_S = 1.0  # seconds between two tries to save a checkpoint, at least


class AttemptHooks:
    """Implements `workers.context.Hooks` for one claim."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        artifacts: ArtifactStore,
        state: AttemptState,
        claim: Claim,
        lease_number: int,
    ) -> None:
        self._settings, self._db, self._artifacts = settings, db, artifacts
        self._state, self._claim, self._lease_number = state, claim, lease_number
        # under which the job's checkpoints are kept; known once the job has a device
        self.cache_key = ""
        self._metrics: dict[str, float] = {}
        self._last_saved_at = time.monotonic()
        self._draining_since: float | None = None
        # the newest state, while a store does not take it
        self._unsaved_checkpoint: bytes | None = None
        self._retry_at = 0.0
        self._read_device_memory_at = 0.0
        self._preview_at = time.monotonic() + MIN_PREVIEW_INTERVAL_S
        self.has_resumed = False  # from a checkpoint: an earlier attempt did a part of the work

    def heartbeat(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Write progress, handle a pending signal, and retry a checkpoint that was not saved."""
        self._metrics |= {name: round(float(value), 6) for name, value in metrics.items()}
        self._state.heartbeat({"done": done, "total": total, **self._metrics})
        if time.monotonic() >= self._read_device_memory_at:
            self._read_device_memory_at = time.monotonic() + DEVICE_MEMORY_INTERVAL_S
            self._state.write_device_memory(read_device_memory() or 0)
        self.check_signal()
        if self._unsaved_checkpoint is not None and time.monotonic() > self._retry_at:
            self._try_to_save(self._unsaved_checkpoint)

    def offer_preview(self, done: int, total: int, draw: Callable[[], bytes]) -> None:
        """Draw and store a preview, if it is time for one. What goes wrong with it never ends the
        attempt, only that its lease is lost."""
        now = time.monotonic()
        if now < self._preview_at:
            return
        pause_s = MIN_PREVIEW_INTERVAL_S
        try:
            body = draw()
            with self._state.mark_waiting():
                previews.record_preview(
                    self._db, self._claim.job.id, self._claim.fence, body, done, total
                )
        except FencedOut:
            raise
        except TransientError as error:
            log.warning("preview not stored", job=self._claim.job.id, error=str(error))
        except Exception:
            # a picture beside the result is not worth the attempt, whatever a plugin gives
            log.exception("no preview can be drawn", job=self._claim.job.id)
            pause_s = math.inf
        ended_at = time.monotonic()
        self._preview_at = ended_at + max(pause_s, (ended_at - now) / MAX_PREVIEW_SHARE)

    def check_signal(self) -> None:
        """Raise what a pending signal demands."""
        signal = self._state.pending_signal(self._lease_number)
        if signal is ControlSignal.NONE:
            return
        if signal is ControlSignal.LOST:
            raise FencedOut(f"job {self._claim.job.id} was given to another attempt")
        if signal is ControlSignal.CANCEL:
            raise JobCancelled
        if signal is ControlSignal.TIMEOUT:
            limit = self._claim.job.time_limit
            raise JobFailed(
                Failure.TIMEOUT, f"exceeded its time limit of {limit:g} s: raise time_limit"
            )
        # A stage that checkpoints gets the time to do so; one that does not, or cannot, is cut
        # short.
        self._draining_since = self._draining_since or time.monotonic()
        if time.monotonic() - self._draining_since > self._settings.stop_grace_s:
            raise WorkerDraining

    def wait_for_store(self, call: Callable[[], T], timeout_s: float | None = None) -> T:
        """What `call` returns, retried while a store is unavailable; signals are handled meanwhile.

        Raises:
            DamagedArtifact: the artifact is not what it should be.
            TransientError: a store was unavailable for `timeout_s`, by default
                `Settings.store_wait_s`.
        """
        return wait_for_store(
            call, self._state, timeout_s or self._settings.store_wait_s, self.check_signal
        )

    def is_checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint: at intervals, and at once when the worker drains."""
        return (
            self._draining_since is not None
            or time.monotonic() - self._last_saved_at > self._settings.checkpoint_interval_s
        )

    def save(self, data: bytes) -> None:
        """Store a checkpoint. While a store is unavailable the stage computes on, and a later
        heartbeat or checkpoint tries again; only a draining worker waits for it, and not for
        long."""
        self._last_saved_at = time.monotonic()
        if self._draining_since is None:
            self._try_to_save(data)
            return
        self.wait_for_store(lambda: self._save_checkpoint(data))
        raise WorkerDraining

    def _try_to_save(self, data: bytes) -> None:
        started_at = time.monotonic()
        try:
            with self._state.mark_waiting():
                self._save_checkpoint(data)
            self._unsaved_checkpoint = None
        except TransientError as error:
            if self._unsaved_checkpoint is None:
                log.warning(
                    "checkpoint not saved; trying again", job=self._claim.job.id, error=str(error)
                )
            self._unsaved_checkpoint = data
            # a store that takes long to say no must not stop the computation
            self._retry_at = time.monotonic() + max(MIN_RETRY_S, time.monotonic() - started_at)

    def _save_checkpoint(self, data: bytes) -> None:
        """Bytes first, then the pointer, and that only while the fence is ours."""
        sha256 = self._artifacts.put(data)
        failpoint("worker.in_checkpoint")
        attempts.save_checkpoint(
            self._db, self._claim.job.id, self._claim.fence, sha256, self.cache_key
        )
        failpoint("worker.after_checkpoint")

    def load(self) -> bytes | None:
        """The checkpoint of this job, if it belongs to the same code and inputs and is still there
        as it was."""
        sha256 = self.wait_for_store(
            lambda: attempts.find_checkpoint(self._db, self._claim.job.id, self.cache_key)
        )
        if sha256 is None:
            return None
        try:
            data = self.wait_for_store(lambda: self._artifacts.get(sha256))
        except (NotFound, DamagedArtifact) as error:
            log.warning("checkpoint lost; starting over", job=self._claim.job.id, error=str(error))
            return None
        self.has_resumed = True
        return data
