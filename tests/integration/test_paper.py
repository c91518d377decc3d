"""`make paper`, smaller: its audits run through the queue to their document, and nothing runs twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.paper.__main__ import run
from benchmarks.paper.audits import Scale
from deploy.local.layout import Layout
from tests.support.served import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
TINY = Scale(
    "tiny",
    width=2,
    residual="lenet",
    epochs=(1, 2),
    base=1,
    search={"iterations": 5},
    deletions=2,
    seeds=(0,),
    single=(0, 1),
    classes=4,
    table_seeds=(0,),
    probe={"max_queries": 500},
    images={"name": "mnist_5k"},
    tables=("breast_cancer",),
    sizes=(1, 32),
    shares=(1.0,),
    defenses=("pruning",),
)


def test_every_claim_is_decided_and_a_second_run_reuses_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    out, pictures = tmp_path / "docs/results.md", tmp_path / "docs/images"
    out.parent.mkdir()
    with served(tmp_path, "--workers", "attack=2"):
        assert run(TINY, Layout(tmp_path / ".palimpsest"), out, pictures, "make paper") == 0
        told = out.read_text()
        assert "no results" not in told
        assert {path.suffix for path in pictures.iterdir()} == {".svg", ".png"}
        first = capfd.readouterr().out
        assert run(TINY, Layout(tmp_path / ".palimpsest"), out, pictures, "make paper") == 0
    assert out.read_text() == told
    assert "running" not in capfd.readouterr().out
    assert "running" in first


def test_data_that_is_not_there_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Scale("missing", images={"name": "npz", "params": {"path": "nowhere.npz"}}, tables=())
    assert run(missing, Layout(tmp_path / "home"), tmp_path / "results.md", tmp_path / "images", "make paper") == 2
    assert "nowhere.npz" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
