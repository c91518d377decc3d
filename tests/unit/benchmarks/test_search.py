"""The benchmark of feature recovery: child processes, what is kept of them, and the summary."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks import search
from benchmarks.search import Unit
from benchmarks.search_cases import CASES, Targets, load_targets

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Targets:
    return load_targets("breast_cancer", "tuning", 3, tmp_path_factory.mktemp("networks"))


@pytest.mark.parametrize("part", ["tuning", "test"])
@pytest.mark.parametrize("case", CASES)
def test_no_network_was_trained_on_a_target(case: str, part: search.Part) -> None:
    chosen = CASES[case]
    assert not set(chosen.get_targets(part)) & set(chosen.trained_on)
    assert not set(chosen.tuning) & set(chosen.test)


def test_every_target_left_a_trace_in_the_weights(targets: Targets) -> None:
    original, directions = targets.view.original.load_network(), []
    for image, label in zip(*targets.truth, strict=True):
        loss = cross_entropy(original(image.unsqueeze(0)), label.unsqueeze(0))
        gradients = torch.autograd.grad(loss, list(original.parameters()))
        directions.append(torch.cat([g.flatten() for g in gradients]))
    for i, direction in enumerate(directions):
        pairs = zip(
            targets.view.unlearned.load_network(i).parameters(), original.parameters(), strict=True
        )
        change = torch.cat([(after - before).detach().flatten() for after, before in pairs])
        assert torch.cosine_similarity(change, direction, dim=0) > 0.95


def test_a_search_runs_in_a_process_that_is_never_given_the_truth(
    targets: Targets, tmp_path: Path
) -> None:
    unit = Unit("breast_cancer", "tuning", (0, 2), {"preset": "accurate", "iterations": 2})
    result = json.loads(json.dumps(search.run_unit(unit, targets, tmp_path)))
    assert result["name"] == "accurate iterations=2"
    assert result["cpu_s"] > 0
    assert list(result["alternatives"]) == ["best_restart"]
    assert len(result["psnr"]) == len(result["rank"]) == 2
    assert result["conditions"]["threads"] == 1
    given = {path.name for path in (tmp_path / "breast_cancer.tuning").iterdir()}
    assert given - {"found.safetensors"} == {
        "labels.json",
        "original.safetensors",
        "unlearned.safetensors",
    }


def test_the_truth_itself_scores_best_and_a_blank_row_does_not(targets: Targets) -> None:
    truth = targets.truth.images
    assert set(search.score(truth, targets, [0, 1, 2])["rank"]) == {1}
    blank = search.score(torch.zeros_like(truth), targets, [0, 1, 2])
    assert max(blank["psnr"]) < min(search.score(truth, targets, [0, 1, 2])["psnr"])


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    options = Namespace(
        folder=tmp_path,
        part="test",
        count=2,
        paper=1,
        presets=["fast", "default"],
        curve=False,
        seed=0,
    )
    units = list(search._iter_pending(["mnist_5k"], options))
    assert [unit.params["preset"] for unit in units] == ["fast", "paper", "default"]
    done = {
        "case": "mnist_5k",
        "part": "test",
        "rows": [0],
        "params": {"preset": "paper", "restarts": 1},
    }
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(done) + '\n{"case": "mnist_5k", "par')
    left = list(search._iter_pending(["mnist_5k"], options))
    assert [unit.params["preset"] for unit in left] == ["fast", "default"]
    search.append_result(path, done | {"rows": [0, 1], "params": {"preset": "fast"}})
    left = list(search._iter_pending(["mnist_5k"], options))
    assert [unit.params["preset"] for unit in left] == ["default"]


def test_the_summary_pairs_targets_and_divides_times(capsys: pytest.CaptureFixture[str]) -> None:
    common = {"case": "cifar10", "part": "test", "accuracy": 0.8, "alternatives": {}}
    published = [
        common
        | {
            "name": "paper",
            "rows": [row],
            "psnr": [psnr],
            "class_mean_psnr": [12.0],
            "rank": [rank],
            "cpu_s": 100.0,
        }
        for row, psnr, rank in ((0, 14.0, 1), (1, 10.0, 7))
    ]
    fast = common | {
        "name": "fast",
        "rows": [0, 1, 2],
        "psnr": [15.0, 13.0, 30.0],
        "class_mean_psnr": [12.0] * 3,
        "rank": [1, 1, 2],
        "cpu_s": 2.0,
    }
    search.print_summary([*published, fast])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fast"))
    low, high = search.compute_t_interval([1.0, 3.0])
    assert f"+2.0 [{low:+.1f}, {high:+.1f}], n = 2, 2 to 1 id." in row
    assert row.split()[-1] == "50"
    search.print_pooled([*published, fast])
    assert capsys.readouterr().out == ""  # there is one data set
    other = [{**one, "case": "mnist_5k", "cpu_s": 2 * one["cpu_s"]} for one in (*published, fast)]
    search.print_pooled([*published, fast, *other])
    assert "+2.00" in (pooled := capsys.readouterr().out)
    assert "n = 4, 50.0 times as fast" in pooled
