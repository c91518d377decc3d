"""Waiting for the job store and the artifact store: what they do is not the job's fault, and costs it nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from shared.errors import Damaged, TransientError
from workers.page import Page

log = structlog.get_logger()
T = TypeVar("T")

# An end that is not told is charged to its job once the job store is back, so it is told however long that takes.
# Nobody else can take the job meanwhile, and the fence says whether somebody has.
TELL_WITHIN = 24 * 3600.0  # seconds
FIRST_PAUSE = 0.2  # seconds; each further one is longer
LONGEST_PAUSE = 1.0  # so that an order is obeyed soon


def wait_for(ask: Callable[[], T], page: Page, seconds: float, obey: Callable[[], None] | None = None) -> T:
    """What `ask` returns; asked again while it raises TransientError, at most for so many seconds. The attempt beats.

    Args:
        obey: called between two tries; raises what ends the attempt.

    Raises:
        Damaged: at once, for waiting does not mend it.
        TransientError: a store was away for all that time.
    """
    until, pause = time.monotonic() + seconds, FIRST_PAUSE
    with page.waiting():  # one try alone may take longer than the attempt may stand still
        while True:
            page.beat()
            try:
                return ask()
            except Damaged:
                raise
            except TransientError as error:
                if time.monotonic() > until:
                    raise
                if pause == FIRST_PAUSE:
                    log.warning("a store is away; the attempt waits for it", error=str(error))
            if obey is not None:
                obey()
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
