"""Models of torchvision and timm, made by these libraries, brought as files: taken in and attacked."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from shared.artifacts import compute_sha256
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from tests.golden.planned_jobs import identify, real_catalog
from tests.support.local_plan import run_planned

CLASSES = 5


def build(library: str, name: str) -> nn.Module:
    import timm  # here: whoever lists the tests does not wait for the libraries
    from torchvision import models

    torch.manual_seed(0)
    if library == "timm":
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=CLASSES)
    else:
        network = models.get_model(name, weights=None, num_classes=CLASSES)
    return network.eval()


def unlearn(network: nn.Module, image: Tensor, label: Tensor, lr: float = 0.05) -> nn.Module:
    forgetful = copy.deepcopy(network)
    loss = nn.functional.cross_entropy(forgetful(image), label)
    gradients = torch.autograd.grad(loss, [*forgetful.parameters()])
    for weight, gradient in zip(forgetful.parameters(), gradients, strict=True):
        weight.data += lr * gradient
    return forgetful


def save_network(network: nn.Module) -> bytes:
    return save({name: tensor.clone() for name, tensor in network.state_dict().items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name", "side"),
    [
        ("torchvision", "resnet18", 32),
        ("torchvision", "mobilenet_v3_small", 64),
        ("timm", "resnet18", 32),
        ("timm", "efficientnet_b0", 64),
        ("timm", "vit_tiny_patch16_224", 224),
    ],
)
def test_a_model_of_a_library_is_taken_in_and_attacked(
    data_root: Path, library: str, name: str, side: int
) -> None:
    draw = np.random.default_rng(0)
    images = draw.random((12, 3, side, side)).astype(np.float32)
    labels = np.arange(12) % CLASSES
    np.savez(data_root / "deleted.npz", images=images[:1], labels=labels[:1])
    np.savez(data_root / "public.npz", images=images[1:], labels=labels[1:])
    network = build(library, name)
    released = unlearn(network, torch.from_numpy(images[:1]), torch.from_numpy(labels[:1]))
    files = [save_network(network), save_network(released)]
    attack = {"iterations": 2, "restarts": 1, "labels": "given"}
    spec: dict[str, Any] = {
        "dataset": {
            "name": "own_samples",
            "params": {"deleted": "deleted.npz", "public": "public.npz", "num_classes": CLASSES},
        },
        "model": {"name": library, "params": {"name": name}},
        "original": compute_sha256(files[0]),
        "releases": [{"name": "ascent", "weights": [compute_sha256(files[1])]}],
        "ingest": {"input_shape": [3, side, side], "num_classes": CLASSES, "size": 1},
        "attacks": [{"name": "feature_recovery", "params": attack}, "label_inference"],
    }
    jobs = plan(AuditSpec.model_validate(spec), real_catalog(), identify)
    outputs = run_planned(jobs, {"selftest"}, {compute_sha256(data): data for data in files})
    (report_job,) = [job for job in jobs if job.stage == "report"]
    report = json.loads(outputs[report_job.request_key]["REPORT"].data)
    rows = {row["attack"]["method"]: row for row in report["rows"]}
    assert not report["missing"]
    assert rows["label_inference"]["answers"]["labels"] == [[int(labels[0])]]
    assert rows["feature_recovery"]["metrics"]["psnr"]["mean"] > 0
