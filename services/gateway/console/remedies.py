"""What to do about a job that has failed."""

from __future__ import annotations

from collections.abc import Mapping

from shared.jobs.states import Failure

REMEDIES: Mapping[str, str] = {
    Failure.INVALID: "Running it again does not help: start a new audit with other settings.",
    Failure.INPUT_FAILED: "Look at the job that it takes its input from, and retry that one.",
    Failure.OUT_OF_MEMORY: "Make it smaller, for example with fewer samples or a smaller batch, or "
    "give it a worker with more memory, then retry.",
    Failure.LOST_WORKER: "Its workers died each time, often for lack of memory: look at their logs, "
    "then retry.",
    Failure.TIMEOUT: "Start it again with a higher time limit, or make it smaller.",
    Failure.ERROR: "This is a fault in the code of the stage or the method: the worker's log has "
    "the details. Retry once it is corrected.",
}


def find_remedy(failure: str) -> str:
    """What to do, in a sentence or two; "" for a kind that is not known here."""
    return REMEDIES.get(failure, "")
