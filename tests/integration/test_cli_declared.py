"""models and datasets on the command line, and pair by name, against a served gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client import Client, Conflict, NotFound, Pair
from shared.artifacts import compute_sha256
from shared.jobs import attempts
from shared.jobs.states import Failure
from tests.support.cli import Runner
from tests.support.gateway import TOKEN, GatewayProcess, ManualWorker, serve_gateway
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.slow

ADD = ("models", "add", "before", "before.safetensors", "--model", "mlp:width=8")
SHAPE = ("--classes", "10", "--input", "1x28x28")
FOUND = {
    "parameters": 1000, "tensors": 4, "dtypes": {"F32": 4}, "resolution": 2.0**-24,
    "prefixes": ["module."], "tied": 0, "filled": 0, "test_accuracy": 0.5, "test_samples": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with serve_gateway(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture
def worker(gateway: GatewayProcess) -> ManualWorker:
    return gateway.make_worker()


def finish_next(worker: ManualWorker, found: Any) -> None:
    claim = wait_for(worker.try_claim, TIMEOUT_S, "a check is queued")
    worker.finish(claim, json.dumps(found).encode())


def test_models_from_the_command_line(
    run: Runner, gateway: GatewayProcess, worker: ManualWorker, tmp_path: Path
) -> None:
    (tmp_path / "before.safetensors").write_bytes(b"weights")
    client = Client(gateway.url, TOKEN)
    body = {"model": {"name": "mlp", "params": {"width": 8}}, "num_classes": 10}
    declared = client.declare_model(
        "before", tmp_path / "before.safetensors", input_shape=(1, 28, 28), **body
    )
    assert (declared.label, declared.is_checked) == ("before@1", False)
    finish_next(worker, FOUND)
    # what is checked already is shown at once
    done = run(*ADD, *SHAPE, "--label", "team=red")
    assert done.returncode == 0, done.stderr
    assert "1,000 in 4 tensors (4 F32)" in done.stdout
    assert "50.0% of 20 test samples" in done.stdout
    shown = json.loads(run("models", "show", "before@1", "--json").stdout)
    assert (shown["weights"], shown["labels"]) == (compute_sha256(b"weights"), {"team": "red"})
    again = json.loads(run(*ADD, *SHAPE, "--json").stdout)
    assert (again["version"], again["state"]) == (1, "ready")
    listed = run("models", "list", "--label", "team=red").stdout
    assert "before@1  ready" in " ".join(listed.split("\n")).replace("   ", "  ")
    assert json.loads(run("models", "list", "--name", "other", "--json").stdout) == []
    labelled = client.label_model("before", 1, {"team": None, "use": "audit"})
    assert labelled.labels == {"use": "audit"}
    with pytest.raises(Conflict, match="model before@1 refers to"):
        client.delete_artifact(declared.raw["weights"])
    assert run("models", "delete", "before@1").returncode == 0
    gone = run("models", "show", "before")
    assert (gone.returncode, "there is no model before" in gone.stderr) == (2, True)
    with pytest.raises(NotFound):
        client.get_model("before")


def test_a_rejected_model_ends_with_status_1(
    run: Runner, gateway: GatewayProcess, worker: ManualWorker, tmp_path: Path
) -> None:
    (tmp_path / "before.safetensors").write_bytes(b"a pickle")
    client = Client(gateway.url, TOKEN)
    client.declare_model(
        "before",
        tmp_path / "before.safetensors",
        model={"name": "mlp", "params": {"width": 8}},
        num_classes=10,
        input_shape=(1, 28, 28),
    )
    claim = worker.claim()
    attempts.fail_attempt(
        gateway.db, claim.job.id, claim.fence, Failure.INVALID, "WEIGHTS is a pickle"
    )
    done = run(*ADD, *SHAPE)
    assert done.returncode == 1
    assert "WEIGHTS is a pickle" in done.stdout
    done = run(*ADD, *SHAPE, "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "rejected")


def test_data_sets_from_the_command_line(
    run: Runner, gateway: GatewayProcess, worker: ManualWorker, tmp_path: Path
) -> None:
    (tmp_path / "mine.npz").write_bytes(b"npz")
    dataset = {"name": "own", "params": {"path": tmp_path / "mine.npz"}}
    client = Client(gateway.url, TOKEN)
    declared = client.declare_dataset("mine", dataset)
    split = {"samples": 3, "digest": "0" * 64, "lowest_label": 0, "highest_label": 1}
    found = {
        "input_shape": [1, 2, 2], "num_classes": 2, "classes": ["a", "b"], "train": split,
        "test": split,
    }  # fmt: skip
    finish_next(worker, found)
    assert client.wait_until_checked(declared).state == "ready"
    done = run("datasets", "add", "mine", "own", "--file", "path=mine.npz")
    assert done.returncode == 0, done.stderr
    assert "3 train, 3 test" in done.stdout
    assert "2: a, b" in done.stdout
    assert [one.label for one in client.list_datasets(name="mine")] == ["mine@1"]
    deleted = run("datasets", "delete", "mine", "--with-derived", "--json")
    assert json.loads(deleted.stdout) == {
        "name": "mine", "audits": 0, "jobs": 1, "artifacts": 2, "bytes": 3 + len(json.dumps(found)),
        "finished": True,
    }  # fmt: skip
    assert "1 job: 1 inspect_dataset" in deleted.stderr
    assert json.loads(run("datasets", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("models", "add", "a", "gone.st", "--model", "mlp", *SHAPE), "there is no file gone.st"),
        ((*ADD, "--classes", "10", "--input", "28x28"), "CxHxW"),
        ((*ADD, *SHAPE, "--label", "red"), "KEY=VALUE"),
        (("models", "show", "before@x"), "NAME@VERSION"),
        (("datasets", "add", "a", "own", "--file", "mine.npz"), "PARAM=FILE"),
        (("pair", "model:before", "a.st", "--deleted", "d"), "missing --classes"),
        (
            ("pair", "before.st", "a.st", "--dataset", "declared:mine"),
            "missing --model, --classes, --input",
        ),
        (("pair", "model:a", "b", "--dataset", "c", "--public", "d", "--classes", "2"), "not both"),
    ],
)
def test_what_cannot_be_is_said(run: Runner, words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert done.stdout == ""


def test_a_pair_by_name(tmp_path: Path) -> None:
    after = tmp_path / "after.st"
    pair = Pair(
        before="model:before@2",
        after={"ascent": ["model:after"], "scrub": [after]},
        base="model:pretrained",
        training_set=50_000,
        dataset={"declared": "mine"},
    )
    assert pair.files == [after]
    spec = pair.build_audit({after: "0" * 64})
    assert (spec["name"], spec["dataset"]) == ("before@2: before and after", {"declared": "mine"})
    assert (spec["original"], spec["base"]) == ("model:before@2", "model:pretrained")
    assert spec["releases"] == [
        {"name": "ascent", "weights": ["model:after"]},
        {"name": "scrub", "weights": ["0" * 64]},
    ]
    assert "model" not in spec
    assert spec["ingest"] == {"size": 1, "training_set": 50_000}


def test_a_pair_names_what_is_not_declared(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "after.st").write_bytes(b"after")
    done = run("pair", "model:before@2", "after.st", "--dataset", "declared:mine", "--dry-run")
    assert done.returncode == 2
    assert "original: there is no model before@2" in done.stderr
