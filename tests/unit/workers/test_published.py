"""What a worker publishes of a job beside its artifacts: what an attack sees meanwhile."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shared.jobs.previews import get_preview, is_picture
from shared.jobs.records import Job
from tests.support.tiny_chain import write_data
from tests.support.worker_bench import TENANT, Bench, open_bench
from workers import attempt

pytestmark = pytest.mark.slow


def test_an_attack_shows_what_it_sees_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/palimpsest.db")
    write_data(tmp_path)

    def attack(bench: Bench, interval_s: float) -> Job:
        monkeypatch.setattr(attempt, "MIN_PREVIEW_INTERVAL_S", interval_s)
        monkeypatch.setattr(attempt, "MAX_PREVIEW_SHARE", 1e9)
        return bench.run("attack", "feature_recovery", preset="fast", iterations=20, no_cache=True)

    with open_bench(tmp_path, tmp_path) as bench:
        bench.train()
        unseen, seen = attack(bench, math.inf), attack(bench, -1e9)
        assert unseen.preview is None
        assert seen.preview is not None
        assert (seen.preview.step, seen.preview.total) == (20, 20)
        assert is_picture(get_preview(bench.db, TENANT, seen.id).body)
        assert [a.sha256 for a in unseen.artifacts] == [a.sha256 for a in seen.artifacts]
        assert unseen.cache_key == seen.cache_key
