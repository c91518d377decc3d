"""Deletions that are attacked group by group: an interrupted job goes on where it stood, to the
same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from shared.errors import JobFailed
from tests.support.tiny_chain import DATA, MODEL, Outputs, StopAtCheckpoint, run_chain
from workers.local import run_stage

STEPS = 4
SEARCH = {"iterations": STEPS, "controls": 2, "restarts": 2}
# checkpoints of a group, where each chance is taken: every step, and when it has ended
EACH = STEPS + 1


class Watching(StopAtCheckpoint):
    """Notes progress, too."""

    def __init__(self, stop: int) -> None:
        super().__init__(stop)
        self.beats: list[tuple[int, int]] = []

    def heartbeat(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        self.beats.append((done, total))


def successive() -> Outputs:
    return run_chain(successive=True)


def sharded() -> Outputs:
    made = run_stage("pretrain", {}, dataset=DATA, model=MODEL)
    made |= run_stage("train", made, dataset=DATA, size=12, shards=3)
    # members 0, 0, 1, 2
    return made | run_stage("unlearn", made, "sisa", shards=3, indices=[[0], [3], [1], [2]])


@pytest.mark.parametrize("stop", [2, EACH, EACH + 1, 2 * EACH, 3 * EACH])
@pytest.mark.parametrize("made", [successive, sharded])
def test_a_search_goes_on_from_the_group_and_the_step_where_it_stood(made: Any, stop: int) -> None:
    given, hooks = made(), Watching(stop)
    with pytest.raises(JobFailed, match="stopped"):
        run_stage("attack", given, "feature_recovery", hooks=hooks, **SEARCH)
    group, step = divmod(stop, EACH)
    hooks.beats.clear()
    found = run_stage("attack", given, "feature_recovery", hooks=hooks, **SEARCH)
    steps = [group * STEPS + step + 1 + i for i in range((3 - group) * STEPS - step)]
    assert hooks.beats == [(done, 3 * STEPS) for done in steps]  # no finished step is done again
    assert found == run_stage("attack", given, "feature_recovery", **SEARCH)


def test_answers_of_finished_groups_are_kept() -> None:
    given, hooks = successive(), Watching(2)
    with pytest.raises(JobFailed, match="stopped"):
        run_stage("attack", given, "label_inference", hooks=hooks)
    hooks.beats.clear()
    found = run_stage("attack", given, "label_inference", hooks=hooks)
    assert hooks.beats == [(3, 3)]
    assert found == run_stage("attack", given, "label_inference")
