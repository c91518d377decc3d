"""What the hooks of an attempt do while a store is away, on a real store and a real folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.errors import JobCancelled, TransientError, WorkerDraining
from shared.jobs import attempts, queries, submit
from shared.jobs.dispatch import Dispatcher
from shared.jobs.records import PlannedJob
from tests.support.migrated import open_in_memory
from workers import attempt
from workers.attempt import AttemptHooks
from workers.attempt_state import AttemptState, ControlSignal

KEY = "key"


class Scene:
    """One running attempt over a folder that can go away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "artifacts"
        self.db = open_in_memory()
        submit.submit_jobs(
            self.db, "t", [PlannedJob("k", "s", None, {}, 0, (), ("stage:s",), ("OUT",), "code")]
        )
        claim = Dispatcher(self.db, "w", ["s"], ["stage:s"]).claim(45, "token")
        assert claim is not None
        self.claim, self.page = claim, AttemptState.create()
        self.artifacts = ArtifactStore.from_url(f"file://{self.folder}")
        self.artifacts.put(b"so that the folder is there")
        settings = Settings(stop_grace_s=0.3, checkpoint_interval_s=0.000001, store_wait_s=60)
        self.hooks = AttemptHooks(settings, self.db, self.artifacts, self.page, claim, 1, KEY)

    def go_away(self) -> None:
        (self.folder / "sha256").rename(self.folder / "away")
        (self.folder / "sha256").write_text("in the way")

    def come_back(self) -> None:
        (self.folder / "sha256").unlink()
        (self.folder / "away").rename(self.folder / "sha256")

    @property
    def checkpoint(self) -> bytes | None:
        sha256 = queries.get_job(self.db, "t", self.claim.job.id).checkpoint
        return None if sha256 is None else self.artifacts.get(sha256)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(attempt, "MIN_RETRY_S", 0.0)
    return Scene(tmp_path)


def test_the_newest_state_is_saved_by_a_later_beat(scene: Scene) -> None:
    scene.hooks.save(b"older")
    scene.go_away()
    scene.hooks.save(b"newer")
    scene.hooks.save(b"newest")
    scene.hooks.heartbeat(1, 2, {})
    scene.come_back()
    assert scene.checkpoint == b"older"
    while scene.checkpoint != b"newest":  # after as long a pause as the last try took
        scene.hooks.heartbeat(2, 2, {})


def test_a_worker_that_leaves_waits_for_the_store_but_not_for_long(scene: Scene) -> None:
    scene.hooks.save(b"older")
    scene.page.send_signal(1, ControlSignal.DRAIN)
    scene.hooks.heartbeat(1, 2, {})
    scene.go_away()
    with pytest.raises(WorkerDraining):
        scene.hooks.save(b"newest")
    scene.come_back()
    assert scene.checkpoint == b"older"


def test_a_worker_that_leaves_saves_first(scene: Scene) -> None:
    scene.page.send_signal(1, ControlSignal.DRAIN)
    scene.hooks.heartbeat(1, 2, {})
    with pytest.raises(WorkerDraining):
        scene.hooks.save(b"newest")
    assert scene.checkpoint == b"newest"


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"other")]
)
def test_a_checkpoint_that_is_lost_or_damaged_costs_the_steps_and_no_more(
    scene: Scene, damage: Callable[[Path], object]
) -> None:
    scene.hooks.save(b"state")
    assert scene.hooks.load() == b"state"
    sha256 = str(attempts.find_checkpoint(scene.db, scene.claim.job.id, KEY))
    damage(scene.folder / "sha256" / sha256[:2] / sha256)
    assert scene.hooks.load() is None


def test_a_wait_obeys_beats_and_ends(scene: Scene) -> None:
    def away() -> None:
        raise TransientError("away")

    before = scene.page.heartbeat_count()
    with pytest.raises(TransientError, match="away"):
        scene.hooks.wait_for_store(away, 0.3)
    assert scene.page.heartbeat_count() > before
    scene.page.send_signal(1, ControlSignal.CANCEL)
    with pytest.raises(JobCancelled):
        scene.hooks.wait_for_store(away, 0.3)
