"""`make paper`, smaller: its audits run through the queue to their document, and nothing runs
twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.paper.__main__ import run_audits
from benchmarks.paper.audit_specs import Scale
from deploy.local.layout import Layout
from tests.support.local_serve import run_serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
TINY = Scale(
    "tiny",
    width=2,
    residual_model="lenet",
    epochs=(1, 2),
    base_epochs=1,
    search_params={"iterations": 5},
    deletions=2,
    seeds=(0,),
    single_sample_seeds=(0, 1),
    samples_per_class=4,
    table_seeds=(0,),
    probe_params={"max_queries": 500},
    image_dataset={"name": "mnist_5k"},
    table_datasets=("breast_cancer",),
    training_sizes=(1, 32),
    class_shares=(1.0,),
    defenses=("pruning",),
)


@pytest.mark.long
def test_every_claim_is_decided_and_a_second_run_reuses_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    out, pictures = tmp_path / "docs/results.md", tmp_path / "docs/images"
    out.parent.mkdir()
    with run_serve(tmp_path, "--workers", "attack=2"):
        assert run_audits(TINY, Layout(tmp_path / ".palimpsest"), out, pictures, "make paper") == 0
        page = out.read_text()
        assert "no results" not in page
        assert {path.suffix for path in pictures.iterdir()} == {".svg", ".png"}
        first = capfd.readouterr().out
        assert run_audits(TINY, Layout(tmp_path / ".palimpsest"), out, pictures, "make paper") == 0
    assert out.read_text() == page
    assert "running" not in capfd.readouterr().out
    assert "running" in first


def test_data_that_is_not_there_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Scale(
        "missing",
        image_dataset={"name": "npz", "params": {"path": "nowhere.npz"}},
        table_datasets=(),
    )
    assert (
        run_audits(
            missing,
            Layout(tmp_path / "home"),
            tmp_path / "results.md",
            tmp_path / "images",
            "make paper",
        )
        == 2
    )
    assert "nowhere.npz" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
