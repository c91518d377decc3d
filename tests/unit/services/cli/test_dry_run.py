"""What `--dry-run` prints."""

from __future__ import annotations

from typing import Any

import pytest

from services.cli.output.dry_run import print_dry_run
from services.client import DryRun

STAGE = {
    "stage": "attack", "method": "invert", "jobs": 3, "reused": 1, "new": 2, "unknown": 0,
    "seconds": 90.0, "seconds_low": 40.0, "seconds_high": 100.0, "cpu_seconds": 180.0,
    "memory_bytes": 3 << 29, "device_memory_bytes": None, "basis": "equal", "past_jobs": 4,
    "workers": 1,
}  # fmt: skip
NONE = dict.fromkeys(
    ("seconds", "seconds_low", "seconds_high", "cpu_seconds", "memory_bytes", "basis")
)
JOBS = [{"stage": "attack", "method": "invert", "reused": "job_1", "state": "succeeded"}]


def show(capsys: pytest.CaptureFixture[str], stages: list[dict[str, Any]], **quote: Any) -> str:
    body = {
        "total": 3, "reused": 1, "new": 2, "jobs": JOBS,
        "quote": {"stages": stages, "cpu_seconds": 180.0, "memory_bytes": 3 << 29, "unknown": 0,
                  "wall_seconds": 200.0, "machines": ["cpu, 2 threads"], **quote},
    }  # fmt: skip
    print_dry_run(DryRun.from_json(body), json=False)
    return capsys.readouterr().out


def test_figures_say_what_they_rest_on(capsys: pytest.CaptureFixture[str]) -> None:
    out = show(capsys, [STAGE], workers=4, wall_seconds_with_workers=100.0)
    row = "1 succeeded 1 min 30 s (40 s to 1 min 40 s) 3 min 00 s 1.5 GiB 4 equal jobs"
    assert row in " ".join(out.split())
    assert "about 3 min 20 s with the workers that are up, if nothing else runs" in out
    assert "CPU time 3 min 00 s; at most 1.5 GiB in one worker" in out
    assert "about 1 min 40 s with 4 workers of each kind" in out
    assert "measured on cpu, 2 threads" in out


def test_what_has_no_history_is_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {**STAGE, **NONE, "unknown": 2, "past_jobs": 0}
    out = show(capsys, [unknown], unknown=2, unserved_stages=["attack"])
    assert "no history" in out.splitlines()[1]
    assert "2 jobs have no history: no job of the kind has run here\n" in out
    assert "CPU time" not in out
    assert "no worker is up for attack" in out
