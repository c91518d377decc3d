"""What the hooks of an attempt do while a store is away, on a real store and a real folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.errors import FencedOut, JobCancelled, NotFound, TransientError, WorkerDraining
from shared.jobs import attempts, previews, queries, submit
from shared.jobs.dispatch import Dispatcher
from shared.jobs.previews import SIGNATURE
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
        self.hooks = AttemptHooks(settings, self.db, self.artifacts, self.page, claim, 1)
        self.hooks.cache_key = KEY

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


class Previews:
    """What an attempt draws, and a clock that each drawing moves on."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch, drawing_s: float) -> None:
        self.scene, self.drawing_s, self.drawn, self.now = scene, drawing_s, 0, 0.0
        monkeypatch.setattr(attempt, "time", SimpleNamespace(monotonic=lambda: self.now))

    def draw(self) -> bytes:
        self.drawn += 1
        self.now += self.drawing_s
        return SIGNATURE + bytes([self.drawn])

    def offer_for(self, seconds: int) -> None:
        for _ in range(10 * seconds):
            self.now += 0.1
            self.scene.hooks.offer_preview(self.drawn, 1000, self.draw)

    @property
    def stored(self) -> bytes:
        return previews.get_preview(self.scene.db, "t", self.scene.claim.job.id).body


def start_previews(
    folder: Path, monkeypatch: pytest.MonkeyPatch, drawing_s: float = 0.01
) -> Previews:
    monkeypatch.setattr(attempt, "MIN_PREVIEW_INTERVAL_S", -1e9)  # without the wait for the first
    scene = Scene(folder)
    monkeypatch.undo()
    return Previews(scene, monkeypatch, drawing_s)


@pytest.mark.parametrize(("drawing_s", "most"), [(0.001, 10), (0.5, 2)])
def test_previews_are_rare_and_rarer_if_they_take_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawing_s: float, most: int
) -> None:
    shown = start_previews(tmp_path, monkeypatch, drawing_s)
    shown.offer_for(30)
    assert most - 1 <= shown.drawn <= most
    assert shown.stored == SIGNATURE + bytes([shown.drawn])


def test_no_preview_is_worth_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = start_previews(tmp_path, monkeypatch)

    def fail() -> bytes:
        raise ValueError("no image")

    shown.now = 10
    shown.scene.hooks.offer_preview(1, 1000, fail)
    shown.offer_for(30)  # none after that
    assert shown.drawn == 0


def test_a_store_that_is_away_gets_its_preview_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = start_previews(tmp_path, monkeypatch)
    with monkeypatch.context() as patch:

        def be_away(*_: object) -> None:
            raise TransientError("away")

        patch.setattr("workers.attempt.previews.record_preview", be_away)
        shown.offer_for(5)
    shown.offer_for(5)
    assert shown.stored == SIGNATURE + bytes([shown.drawn])


def test_who_has_lost_the_lease_stops_at_a_preview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = start_previews(tmp_path, monkeypatch)
    job = shown.scene.claim.job.id
    attempts.lose_attempt(shown.scene.db, job, shown.scene.claim.fence, "it died", 3)
    with pytest.raises(FencedOut):
        shown.offer_for(5)
    with pytest.raises(NotFound):
        assert shown.stored
