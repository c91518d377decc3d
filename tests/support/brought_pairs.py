"""Pairs of small models that somebody could bring: no training, one step of ascent per deletion."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.artifacts import compute_sha256
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef
from tests.golden.planned_jobs import identify, real_catalog
from tests.support.local_plan import PlanOutputs, run_planned

CLASSES, SHAPE = 4, (1, 9, 9)
MODEL = {"name": "mlp", "params": {"hidden": 16}}
INFERRED = {
    "name": "feature_recovery",
    "params": {"iterations": 20, "restarts": 1, "labels": "inferred", "controls": 2},
}
GIVEN = {"name": "feature_recovery", "params": {"iterations": 20, "restarts": 1}}


@cache
def make_weights(deletions: int = 2) -> tuple[bytes, tuple[bytes, ...], Tensor, Tensor]:
    """The original, one release per deletion, and the deleted images and labels."""
    torch.manual_seed(0)
    architecture = Architecture(
        model=PluginRef.model_validate(MODEL),
        input_shape=SHAPE,
        num_classes=CLASSES,
        mean=(0.0,),
        std=(1.0,),
    )
    network = build_network(architecture)
    images, labels = draw_samples(deletions, seed=1)
    original = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    released = []
    for image, label in zip(images, labels, strict=True):
        loss = cross_entropy(network(image.unsqueeze(0)), label.unsqueeze(0))
        gradients = torch.autograd.grad(loss, [*network.parameters()])
        named = zip(network.named_parameters(), gradients, strict=True)
        moved = {name: (weight + 0.05 * g).detach() for (name, weight), g in named}
        released.append(save({**original, **moved}))
    return save(original), tuple(released), images, labels


def draw_samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of blurred classes [count, 1, 9, 9] in [0, 1], and labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    prototypes = np.random.default_rng(0).random((CLASSES, *SHAPE))
    images = np.clip(prototypes[labels] * 0.7 + 0.3 * draw.random((count, *SHAPE)), 0, 1)
    return torch.tensor(images, dtype=torch.float32), torch.tensor(labels)


def write_samples(folder: Path) -> None:
    """deleted.npz and public.npz."""
    _, _, images, labels = make_weights()
    public = draw_samples(40, seed=2)
    for name, (some, own) in {"deleted": (images, labels), "public": public}.items():
        np.savez(folder / f"{name}.npz", images=some.numpy(), labels=own.numpy())


class BroughtPair:
    """An audit of such a pair, run here and now.

    parts: of `deleted` and `public`, those that are brought.
    """

    def __init__(self, *parts: str, **changes: Any) -> None:
        original, released, *_ = make_weights()
        self.uploads = {compute_sha256(data): data for data in (original, *released)}
        samples = {
            "name": "own_samples",
            "params": {"num_classes": CLASSES, **{part: f"{part}.npz" for part in parts}},
        }
        spec: dict[str, Any] = {
            "name": "a pair",
            **({"dataset": samples} if parts else {}),
            "model": MODEL,
            "original": compute_sha256(original),
            "releases": [
                {"name": "ascent", "weights": [compute_sha256(data) for data in released]}
            ],
            "ingest": {"input_shape": list(SHAPE), "num_classes": CLASSES}
            | changes.pop("ingest", {}),
            "attacks": [INFERRED, "label_inference"],
            **changes,
        }
        self.jobs: list[PlannedJob] = plan(AuditSpec.model_validate(spec), real_catalog(), identify)

    def run(self) -> BroughtPair:
        """All its stages but the self-test."""
        self.outputs: PlanOutputs = run_planned(self.jobs, {"selftest"}, self.uploads)
        return self

    def read(self, stage: str, role: str) -> bytes:
        """What the first job of that stage with such an output made."""
        job = next(
            job
            for job in self.jobs
            if job.stage == stage and role in self.outputs.get(job.request_key, {})
        )
        return self.outputs[job.request_key][role].data

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.read("report", "REPORT"))
        return report

    @property
    def page(self) -> str:
        return self.read("report", "REPORT_HTML").decode()
