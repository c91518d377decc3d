"""Audits of models that a user has brought: what the laboratory knows must come out again."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from shared.artifacts import compute_sha256
from shared.errors import InvalidRequest
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef
from tests.golden.planned_jobs import identify, real_catalog
from tests.support.local_plan import PlanOutputs, run_planned
from tests.support.tiny_chain import DATA, MODEL

ATTACKS = [
    {"name": "feature_recovery", "params": {"iterations": 20, "restarts": 1, "labels": "given"}},
    "label_inference",
]
LABORATORY: dict[str, Any] = {
    "dataset": DATA,
    "model": MODEL,
    "pretrain": {"epochs": 1},
    "train": {"size": 12},
    "forget": {"deletions": 3},
    "unlearning": [{"name": "gradient_ascent", "params": {"steps": 1}}],
    "attacks": ATTACKS,
    "check_forgetting": False,
}
OWN: dict[str, Any] = {
    "name": "own_samples",
    "params": {"deleted": "deleted.npz", "public": "public.npz", "num_classes": 4},
}
FIVE_CLASSES = {**OWN, "params": {**OWN["params"], "num_classes": 5}}


class Laboratory:
    """An audit of the laboratory, and its models as files of somebody else."""

    def __init__(self) -> None:
        self.jobs = plan(AuditSpec.model_validate(LABORATORY), real_catalog(), identify)
        self.outputs = run_planned(self.jobs, {"selftest", "report"})
        networks = read_networks(self.read("unlearn", "UNLEARNED"), "UNLEARNED")
        self.architecture = networks.architecture
        self.original = self.export(self.read("train", "ORIGINAL"))
        self.base = self.export(self.read("pretrain", "BASE"))
        self.released = [
            save({strip(name): stack[n].clone() for name, stack in networks.state.items()})
            for n in range(networks.count)
        ]
        self.truth = ForgetSets.read(self.read("unlearn", "FORGET_SETS"), "FORGET_SETS")
        self.images = self.truth.load_images()
        self.public = open_dataset(PluginRef.model_validate(DATA)).load("test")

    def write_samples(self, folder: Path) -> None:
        """The deleted samples, and public ones."""
        write_samples(
            folder / "deleted.npz",
            self.images[:, 0],
            torch.tensor(self.truth.labels)[:, 0],
        )
        write_samples(folder / "public.npz", *self.public)

    def read(self, stage: str, role: str) -> bytes:
        return find_output(self.jobs, self.outputs, stage, role)

    @staticmethod
    def export(data: bytes) -> bytes:
        """Without our metadata and our prefix."""
        return save({strip(name): tensor for name, tensor in load(data).items()})


def strip(name: str) -> str:
    return name.removeprefix("network.")


def write_samples(path: Path, images: Tensor, labels: Tensor) -> None:
    np.savez(path, images=images.numpy(), labels=labels.numpy())


def find_output(jobs: list[PlannedJob], outputs: PlanOutputs, stage: str, role: str) -> bytes:
    job = next(
        job for job in jobs if job.stage == stage and role in outputs.get(job.request_key, {})
    )
    return outputs[job.request_key][role].data


@cache
def run_laboratory() -> Laboratory:
    """The same for all tests: their data are the same."""
    return Laboratory()


@pytest.fixture
def lab(data_root: Path) -> Laboratory:
    laboratory = run_laboratory()
    laboratory.write_samples(data_root)
    return laboratory


class Brought:
    """An audit of brought models, run here and now."""

    def __init__(self, lab: Laboratory, **changes: Any) -> None:
        files = {"original": lab.original, "released": lab.released, "base": None}
        files |= {name: changes.pop(name) for name in list(changes) if name in files}
        every = [files["original"], *files["released"], *([files["base"]] if files["base"] else [])]
        self.uploads = {compute_sha256(data): data for data in every}
        spec = {
            "dataset": OWN,
            "model": MODEL,
            "original": compute_sha256(files["original"]),
            "releases": [
                {"name": "theirs", "weights": [compute_sha256(data) for data in files["released"]]}
            ],
            "ingest": {
                "input_shape": list(lab.architecture.input_shape),
                "num_classes": 4,
                "mean": list(lab.architecture.mean),
                "std": list(lab.architecture.std),
                "size": 1,
            }
            | changes.pop("ingest", {}),
            "attacks": ATTACKS,
            **({"base": compute_sha256(files["base"])} if files["base"] else {}),
            **changes,
        }
        self.jobs = plan(AuditSpec.model_validate(spec), real_catalog(), identify)

    def run(self) -> Brought:
        self.outputs = run_planned(self.jobs, {"selftest"}, self.uploads)
        return self

    def read(self, stage: str, role: str) -> bytes:
        return find_output(self.jobs, self.outputs, stage, role)

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.read("report", "REPORT"))
        return report


@pytest.mark.slow
def test_the_laboratorys_own_pair_gives_what_the_laboratory_gave(lab: Laboratory) -> None:
    brought = Brought(lab).run()
    for role, stage in (("ORIGINAL", "train"), ("UNLEARNED", "unlearn"), ("LABELS", "unlearn")):
        assert brought.read("ingest", role) == lab.read(stage, role)
    assert brought.read("attack", "RECONSTRUCTION") == lab.read("attack", "RECONSTRUCTION")
    assert brought.read("attack", "ANSWERS") == lab.read("attack", "ANSWERS")
    rows = {row["attack"]["method"]: row for row in brought.report["rows"]}
    assert rows["feature_recovery"]["unlearning"]["method"] == "theirs"
    assert rows["feature_recovery"]["defense"]["method"] == "none"
    assert rows["feature_recovery"]["identification"]["n"] == 3
    assert rows["label_inference"]["answers"]["truth"] == lab.truth.labels
    utility = rows["feature_recovery"]["utility"]
    assert utility["original_forget_accuracy"] is not None
    page = brought.read("report", "REPORT_HTML").decode()
    assert "brought by the user" in page
    assert any("not known here" in one for one in brought.report["caveats"])
    (measured,) = brought.report["measurements"]
    assert measured["numbers"]["relative weight change"] > 0


@pytest.mark.slow
def test_the_same_step_in_plain_pytorch_agrees_within_a_tenth_of_a_decibel(
    lab: Laboratory,
) -> None:
    """On a network of plain layers, with the original's weights and the paper's one step."""
    channels, height, width = lab.architecture.input_shape
    plain = nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, 16), nn.ReLU(), nn.Linear(16, 4)
    )
    weights = load(lab.original)
    names = [
        name
        for name, _ in read_networks(lab.read("train", "ORIGINAL"), "ORIGINAL")
        .load_network()
        .named_parameters()
    ]
    for mine, name in zip(plain.parameters(), map(strip, names), strict=True):
        mine.data.copy_(weights[name])
    mean = torch.tensor(lab.architecture.mean).view(-1, 1, 1)
    std = torch.tensor(lab.architecture.std).view(-1, 1, 1)
    lr = json.loads(lab.read("train", "RECIPE"))["lr"]
    images, labels = lab.images, torch.tensor(lab.truth.labels)
    released = []
    for image, label in zip(images, labels, strict=True):
        loss = nn.functional.cross_entropy(plain((image - mean) / std), label)
        gradients = torch.autograd.grad(loss, [*plain.parameters()])
        moved = [p + lr * g for p, g in zip(plain.parameters(), gradients, strict=True)]
        released.append(save({strip(n): t.detach() for n, t in zip(names, moved, strict=True)}))
    own = Brought(lab, released=released).run().report["rows"]
    evaluated = lab.outputs[
        next(
            job.request_key
            for job in lab.jobs
            if job.stage == "evaluate" and any(i.role == "RECONSTRUCTION" for i in job.inputs)
        )
    ]
    expected = json.loads(evaluated["EVALUATION"].data)["metrics"]["psnr"]["mean"]
    (psnr,) = [row["metrics"]["psnr"]["mean"] for row in own if "psnr" in row["metrics"]]
    assert psnr == pytest.approx(expected, abs=0.1)


def test_the_base_gives_the_exact_estimate(lab: Laboratory) -> None:
    exact = {"name": "feature_recovery", "params": {"iterations": 5, "gradient_from": "base"}}
    brought = Brought(lab, base=lab.base, attacks=[exact], ingest={"training_set": 12}).run()
    record = json.loads(load_metadata(brought.read("attack", "RECONSTRUCTION")))
    assert {"BASE", "DELETION_SIZES"} <= {*record["threat_model"]["observes"]}
    with pytest.raises(InvalidRequest, match="BASE"):
        Brought(lab, attacks=[exact])


def load_metadata(data: bytes) -> str:
    length = int.from_bytes(data[:8], "little")
    text: str = json.loads(data[8 : 8 + length])["__metadata__"]["palimpsest"]
    return text


def test_several_samples_of_a_deletion(lab: Laboratory) -> None:
    brought = Brought(lab, released=lab.released[:1], ingest={"size": 3}).run()
    truth = json.loads(brought.read("ingest", "FORGET_SETS"))
    assert truth["indices"] == [[0, 1, 2]]
    listed = Brought(lab, released=lab.released[:1], ingest={"rows": [[2, 0]]}).run()
    assert json.loads(listed.read("ingest", "FORGET_SETS"))["indices"] == [[2, 0]]
    observed = json.loads(load_metadata(listed.read("attack", "RECONSTRUCTION")))["threat_model"]
    assert "DELETION_SIZES" in observed["observes"]


def change(data: bytes, **values: Any) -> bytes:
    """The file with every tensor changed by `values['by']`."""
    tensors = load(data)
    return save({name: values["by"](tensor) for name, tensor in tensors.items()})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (lambda lab: {"released": [lab.original] * 3}, "nothing to invert"),
        (lambda lab: {"released": [b"PK\x03\x04" + bytes(200)] * 3}, "palimpsest convert"),
        (lambda lab: {"released": [lab.released[0][:-9]] * 3}, "safetensors"),
        (
            lambda lab: {"released": [change(lab.released[0], by=lambda t: t * torch.nan)] * 3},
            "not finite",
        ),
        (
            lambda lab: {"released": [save(dict([*load(lab.original).items()][:-1]))] * 3},
            "missing",
        ),
        (lambda lab: {"ingest": {"num_classes": 5}, "dataset": FIVE_CLASSES}, "class"),
        (lambda lab: {"ingest": {"num_classes": 5}}, "classes"),
        (lambda lab: {"ingest": {"size": 2}}, "set size to 1"),
        (lambda lab: {"ingest": {"rows": [0, 1, 7]}}, "no row 7"),
        (lambda lab: {"ingest": {"rows": [0, 1]}}, "3 deletions"),
        (lambda lab: {"released": lab.released[:2]}, "list rows"),
    ],
    ids=[
        "identical", "a zip", "truncated", "not finite", "tensors missing", "another class count",
        "classes of the data", "too few samples", "no such row", "too few rows", "uneven",
    ],
)  # fmt: skip
def test_what_is_no_pair_is_refused_in_a_sentence(lab: Laboratory, changes: Any, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Brought(lab, **changes(lab)).run()
    assert says in refused.value.message
    assert str(Path.cwd()) not in refused.value.message


def test_what_is_odd_is_told_and_not_refused(lab: Laboratory) -> None:
    swapped = Brought(lab, original=lab.released[0], released=[lab.original] * 3).run()
    findings = json.loads(swapped.read("ingest", "COMPARISON"))["findings"]
    assert any("swapped" in one["message"] for one in findings)
    assert any("swapped" in one for one in swapped.report["caveats"])
    halved = [change(data, by=lambda t: t.bfloat16()) for data in lab.released]
    rounded = Brought(lab, released=halved).run()
    findings = json.loads(rounded.read("ingest", "COMPARISON"))["findings"]
    assert any(one["severity"] == "warning" for one in findings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"original": None}, "bring both"),
        ({"releases": []}, "bring both"),
        ({"unlearning": ["retrain"]}, "unlearning has no meaning"),
        ({"train": {"size": 3}}, "train has no meaning"),
        ({"defenses": ["pruning"]}, "defenses has no meaning"),
        ({"check_forgetting": True}, "bring some as retrained"),
        ({"releases": [{"name": "a", "weights": ["0" * 64]}] * 2}, "same name"),
        (
            {"releases": [{"name": n, "weights": ["0" * 64] * k} for n, k in (("a", 1), ("b", 2))]},
            "same deletions",
        ),
        ({"original": "x"}, "pattern"),
        ({"releases": [{"name": "<b>", "weights": ["0" * 64]}]}, "pattern"),
    ],
)
def test_an_audit_of_brought_models_says_only_what_it_means(
    changes: dict[str, Any], says: str
) -> None:
    spec = {
        "dataset": OWN,
        "model": MODEL,
        "original": "0" * 64,
        "releases": [{"name": "a", "weights": ["1" * 64]}],
        "attacks": ATTACKS,
        **changes,
    }
    with pytest.raises(ValidationError, match=says):
        AuditSpec.model_validate({name: value for name, value in spec.items() if value is not None})


def test_base_and_ingest_without_models_are_refused() -> None:
    for name, value in (("base", "0" * 64), ("ingest", {"num_classes": 3})):
        with pytest.raises(ValidationError, match="belong to models that you bring"):
            AuditSpec.model_validate({**LABORATORY, name: value})
