"""Declared models and data sets on the command line of a served system: checked by real workers,
then audited by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from services.client import Client
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef
from tests.support.cli import Runner, make_runner
from tests.support.source_tree import ROOT
from tests.support.system import TOKEN, System

pytestmark = pytest.mark.slow

STAGES = "inspect_model,inspect_dataset,ingest,attack,evaluate,report,selftest"
MODEL = ("--model", "mlp:hidden=8", "--classes", "4", "--input", "1x8x8")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    system = System(tmp_path_factory.mktemp("system"), ROOT)
    try:
        found = system.start_gateway()
        system.start_worker(STAGES, name="all")
        yield found
    finally:
        system.close()


@pytest.fixture
def run(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Runner:
    monkeypatch.chdir(tmp_path)
    return make_runner(url, monkeypatch, capfdbinary)


def write_samples(path: Path, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = random.random((count, 8, 8), dtype=np.float32)
    np.savez(path, images=images, labels=np.arange(count) % 4)


def write_models(folder: Path) -> None:
    """A model, and the same after one step up on a sample."""
    torch.manual_seed(0)
    network = build_network(
        Architecture(
            model=PluginRef.model_validate({"name": "mlp", "params": {"hidden": 8}}),
            input_shape=(1, 8, 8),
            num_classes=4,
            mean=(0.0,),
            std=(1.0,),
        )
    )
    save_file(dict(network.state_dict()), folder / "before.safetensors")
    sample = np.load(folder / "deleted.npz")
    images = torch.from_numpy(sample["images"])[:, None]
    loss = torch.nn.functional.cross_entropy(network(images), torch.from_numpy(sample["labels"]))
    for parameter, slope in zip(
        network.parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
    ):
        parameter.data += 0.1 * slope
    save_file(dict(network.state_dict()), folder / "after.safetensors")


def test_models_and_data_are_declared_and_audited_by_name(
    run: Runner, url: str, tmp_path: Path
) -> None:
    write_samples(tmp_path / "deleted.npz", 1, 0)
    write_samples(tmp_path / "public.npz", 40, 1)
    write_models(tmp_path)
    data = run(
        "datasets", "add", "mine", "own_samples", "--file", "deleted=deleted.npz",
        "--file", "public=public.npz", "-p", "num_classes=4",
    )  # fmt: skip
    assert data.returncode == 0, data.stderr + data.stdout
    assert "1 train, 40 test" in data.stdout
    for name in ("before", "after"):
        test = ("--test", "declared:mine") if name == "before" else ("--test", "public.npz")
        added = run("models", "add", name, f"{name}.safetensors", *MODEL, *test)
        assert added.returncode == 0, added.stderr + added.stdout
        assert "of 40 test samples" in added.stdout
    wrong = run(
        "models", "add", "wrong", "before.safetensors", "--model", "mlp:hidden=9", *MODEL[2:]
    )
    assert wrong.returncode == 1
    assert "rejected" in wrong.stdout
    done = run(
        "pair", "model:before", "step=model:after", "--dataset", "declared:mine", "--report", "report",
        "--attack", "feature_recovery:preset=fast,iterations=20",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    audit = json.loads((tmp_path / "report/report.json").read_text())["provenance"]["audit"]
    assert audit["declared"] == {
        "original": "before@1", "releases.0.weights.0": "after@1", "dataset": "mine@1",
    }  # fmt: skip
    assert (
        "brought by the user: before@1, after@1 on mine@1"
        in (tmp_path / "report/report.html").read_text()
    )
    with Client(url, TOKEN) as client:
        again = client.submit_audit(audit)  # as the report gives it
    assert again.created == ()
    assert run("models", "delete", "before").returncode == 0
