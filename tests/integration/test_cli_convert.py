"""`palimpsest convert`: the command, its process and that process's limits, on real checkpoints."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from shared.ml.ingest.weights import read_weights
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef
from tests.support.checkpoints import Touch, claim_values, save_bytes
from tests.support.cli import Runner, make_runner
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.slow  # a dozen processes that load torch

NOBODY = "http://127.0.0.1:1"
MLP = Architecture(
    model=PluginRef(name="mlp", params={"hidden": 4}),
    input_shape=(1, 5, 5),
    num_classes=3,
    mean=(0.5,),
    std=(0.25,),
)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Runner:
    """`palimpsest` in a folder of its own; there is no gateway."""
    monkeypatch.chdir(tmp_path)
    return make_runner(NOBODY, monkeypatch, capfdbinary)


def draw_state() -> dict[str, torch.Tensor]:
    state = build_network(MLP).state_dict()
    return {name.replace("network.", "module."): tensor for name, tensor in state.items()}


def test_a_checkpoint_becomes_a_file_that_is_read(run: Runner, tmp_path: Path) -> None:
    state = draw_state()
    (tmp_path / "model.pt").write_bytes(
        save_bytes({"epoch": 3, "state_dict": state, "ema": draw_state()})
    )
    # whatever lies in the user's folder is not imported
    (tmp_path / "shared").mkdir()
    for name in ("shared/__init__.py", "torch.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    done = run("convert", "model.pt")
    assert (done.returncode, done.stdout) == (0, "model.safetensors\n"), done.stderr
    assert done.stderr == (
        "took 'state_dict': 4 tensors (4 F32)\n"
        "not taken: 'ema' (4 tensors); choose with --key\n"
        "left out: epoch\n"
    )
    weights = read_weights(Path("model.safetensors").read_bytes(), "ORIGINAL", MLP)
    assert weights.prefixes == ("module.",)
    assert torch.equal(weights.networks.state["network.1.weight"][0], state["module.1.weight"])

    again = run("convert", "model.pt", "--json")
    assert (again.returncode, again.stdout) == (1, "")
    assert "model.safetensors exists; replace it with --force" in again.stderr
    forced = run("convert", "model.pt", "--force", "--key", "ema", "--json")
    result = json.loads(forced.stdout)
    assert (result["key"], result["others"]) == ("ema", {"state_dict": 4})
    other = run("convert", "model.pt", "-o", "none/x.safetensors")
    assert (other.returncode, "none/x.safetensors: No such file" in other.stderr) == (1, True)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_malicious_checkpoint_is_refused(run: Runner, tmp_path: Path, zipped: bool) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "model.pt").write_bytes(save_bytes({"w": Touch(canary)}, zipped))
    done = run("convert", "model.pt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "palimpsest: model.pt was refused, and nothing in it was executed"
    )
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_checkpoint_that_claims_terabytes_is_refused(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(claim_values(1 << 40))
    done = run("convert", "model.pt")
    assert done.returncode == 1
    assert "claims more memory than a file of its size needs" in done.stderr


def test_a_safetensors_file_is_used_as_it_is(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(save({"w": torch.ones(1)}))
    done = run("convert", "model.pt")
    assert done.stderr == "palimpsest: model.pt already is a safetensors file: use it as it is\n"


LIMITED = """
import resource
from shared.ml.ingest.convert import limit_resources
limit_resources(1 << 20)
try:
    bytearray(3 << 30)
except MemoryError:
    print("refused", *resource.getrlimit(resource.RLIMIT_CPU))
"""


def test_its_process_has_limits() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    word, soft_s, hard_s = done.stdout.split()
    assert word == "refused"
    assert 120 <= int(soft_s) < int(hard_s) < 600
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY  # only there
