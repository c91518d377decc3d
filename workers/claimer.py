"""Claiming while the job store may be away: no claim is forgotten because its answer was lost on
the way."""

from __future__ import annotations

import secrets
import time
from typing import Protocol

import structlog

from shared.errors import TransientError
from shared.jobs.queue import WakeupSender
from shared.jobs.records import Claim

log = structlog.get_logger()

MAX_TRIES = 10  # in one go; then the worker handles signals and wake-ups before it goes on
RETRY_PAUSE_S = 1.0


class ClaimSource(Protocol):
    """What is needed of `shared.jobs.dispatch.Dispatcher`."""

    def claim(self, lease_s: float, token: str) -> Claim | None: ...

    def find_claim(self, token: str) -> Claim | None: ...


class Claimer:
    """Claims for one worker, one at a time. Keep it as long as the pool child lives: it knows which
    claim was not answered."""

    def __init__(
        self, source: ClaimSource, wakeup: WakeupSender, stage: str, lease_s: float
    ) -> None:
        """`stage` is one that the worker serves."""
        self._source, self._wakeup, self._stage, self._lease_s = source, wakeup, stage, lease_s
        self._unanswered_token: str | None = None  # the token of a claim that may have taken a job

    def claim(self) -> Claim | None:
        """The next job; None when there is none. None, too, when the job store is unavailable for
        long: a wake-up has been sent then, so that the worker looks again."""
        for n in range(MAX_TRIES):
            try:
                claim = self._recover_claim() or self._claim_next()
            except TransientError as error:
                if n == 0:
                    log.warning("the job store is unreachable; trying again", error=str(error))
                time.sleep(RETRY_PAUSE_S)
            else:
                return claim
        self._wakeup.notify([self._stage])
        return None

    def _recover_claim(self) -> Claim | None:
        """The job that the claim took which was not answered."""
        if self._unanswered_token is None:
            return None
        claim = self._source.find_claim(self._unanswered_token)
        self._unanswered_token = None
        if claim is not None:
            log.info("recovered a claim whose response was lost", job=claim.job.id)
        return claim

    def _claim_next(self) -> Claim | None:
        self._unanswered_token = secrets.token_hex(8)
        claim = self._source.claim(self._lease_s, self._unanswered_token)
        self._unanswered_token = None
        return claim
