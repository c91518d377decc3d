"""Claiming while the job store may be away: no claim is forgotten because its answer was lost on the way."""

from __future__ import annotations

import secrets
import time
from typing import Protocol

import structlog

from shared.errors import TransientError
from shared.jobs.queue import Ringer
from shared.jobs.records import Claim

log = structlog.get_logger()

TRIES = 10  # in one go; then the worker hears its orders, and its own bell, before it goes on
PAUSE_S = 1.0


class Claims(Protocol):
    """What is needed of `shared.jobs.dispatch.Dispatcher`."""

    def claim(self, lease: float, token: str) -> Claim | None: ...

    def find(self, token: str) -> Claim | None: ...


class Claimer:
    """Claims for one worker, one at a time. Keep it as long as the pool child lives: it knows which claim was not
    answered."""

    def __init__(self, jobs: Claims, ringer: Ringer, stage: str, lease: float) -> None:
        """`stage` is one that the worker serves."""
        self._jobs, self._ringer, self._stage, self._lease = jobs, ringer, stage, lease
        self._unanswered: str | None = None  # the token of a claim that may have taken a job

    def claim(self) -> Claim | None:
        """The next job; None when there is none. None, too, when the job store is away for long: a bell has been rung
        then, so that the worker looks again."""
        for n in range(TRIES):
            try:
                claim = self._found() or self._taken()
            except TransientError as error:
                if n == 0:
                    log.warning("the job store is away; looking again", error=str(error))
                time.sleep(PAUSE_S)
            else:
                return claim
        self._ringer.ring([self._stage])
        return None

    def _found(self) -> Claim | None:
        """The job that the claim took which was not answered."""
        if self._unanswered is None:
            return None
        claim = self._jobs.find(self._unanswered)
        self._unanswered = None
        if claim is not None:
            log.info("a claim whose answer was lost is found again", job=claim.job.id)
        return claim

    def _taken(self) -> Claim | None:
        self._unanswered = secrets.token_hex(8)
        claim = self._jobs.claim(self._lease, self._unanswered)
        self._unanswered = None
        return claim
