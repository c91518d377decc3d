"""A worker that kills itself between any two steps."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

from tests.support.freezing import freeze
from tests.support.sleep_jobs import make_params, read_effects
from tests.support.system import System
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(3600)  # each wait has its own limit
HEIR = "worker-sleep"


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "point", ["worker.after_claim", "worker.in_checkpoint", "worker.after_checkpoint", "worker.before_artifacts",
              "worker.after_artifacts", "worker.after_finish"],
)  # fmt: skip
def test_killed_between_any_two_steps(
    shared_system: Callable[[str], System], store: str, point: str
) -> None:
    """The first worker kills itself at the failpoint; the next one finishes the job, and only once."""
    system = shared_system(store)
    heir = psutil.Process(system.processes[HEIR].pid)
    reached = {"worker.after_finish": "succeeded"}.get(point)
    with freeze(heir, system.db):  # it must not take the job before
        system.start_worker("sleep", name=f"doomed-{point}", PALIMPSEST_FAILPOINT=point)
        job = system.submit("sleep", make_params(system, point, steps=10))
        wait_for(
            lambda: (
                system.get_job(job).state == reached
                if reached
                else system.get_job(job).lost_count >= 1
            ),
            TIMEOUT_S,
            f"it dies at {point}",
        )
        system.kill(f"doomed-{point}", group=True)
    ended = system.wait(job)
    assert ended.state == "succeeded"
    assert len(ended.artifacts) == 1
    assert system.artifacts.get(ended.artifacts[0].sha256)
    # what was done before the kill was done twice only where the kill came between the work and its
    # record
    redone = point in ("worker.before_artifacts", "worker.after_artifacts")
    assert len(read_effects(system, job)) >= 1 + redone
    healthy = system.wait(system.submit("sleep", {"tag": f"after {point}"}))
    assert healthy.state == "succeeded"
