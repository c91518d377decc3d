"""Waiting for the job store and the artifact store: what they do is not the job's fault, and costs
it nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from shared.errors import DamagedArtifact, TransientError
from workers.attempt_state import AttemptState

log = structlog.get_logger()
T = TypeVar("T")

# An end that is not recorded counts as a lost attempt once the job store is back, so recording is
# retried however long that takes. Nobody else can claim the job meanwhile; the fence proves it.
RECORD_TIMEOUT_S = 24 * 3600.0  # seconds
FIRST_PAUSE_S = 0.2  # seconds; each further one is longer
MAX_PAUSE_S = 1.0  # so that a signal is handled soon


def wait_for_store(
    call: Callable[[], T],
    state: AttemptState,
    timeout_s: float,
    check_signal: Callable[[], None] | None = None,
) -> T:
    """What `call` returns; called again while it raises TransientError, for at most `timeout_s`
    seconds. The attempt keeps its heartbeat.

    Args:
        check_signal: called between two tries; raises what ends the attempt.

    Raises:
        DamagedArtifact: at once, as waiting does not repair it.
        TransientError: a store was unavailable for all that time.
    """
    deadline, pause = time.monotonic() + timeout_s, FIRST_PAUSE_S
    with state.mark_waiting():  # one try alone may take longer than the attempt may stand still
        while True:
            state.heartbeat()
            try:
                return call()
            except DamagedArtifact:
                raise
            except TransientError as error:
                if time.monotonic() > deadline:
                    raise
                if pause == FIRST_PAUSE_S:
                    log.warning(
                        "a store is unavailable; the attempt is waiting for it", error=str(error)
                    )
            if check_signal is not None:
                check_signal()
            time.sleep(pause)
            pause = min(MAX_PAUSE_S, 2 * pause)
