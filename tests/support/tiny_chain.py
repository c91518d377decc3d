"""A data set small enough for a whole chain of stages in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import JobFailed
from workers.context import NoHooks, StageOutput
from workers.local import run_stage

Outputs = dict[str, StageOutput]
DATA = {"name": "npz", "params": {"path": "tiny.npz"}}
MODEL = {"name": "mlp", "params": {"hidden": 16}}


def write_data(folder: Path, seed: int = 0, name: str = "tiny.npz") -> None:
    draw = np.random.default_rng(seed)
    labels = np.arange(200) % 4
    images = np.clip(draw.random((4, 9, 9))[labels] * 0.7 + 0.3 * draw.random((200, 9, 9)), 0, 1)
    np.savez(folder / name, images=images, labels=labels)


def run_chain(method: str = "gradient_ascent", seed: int = 0, **params: Any) -> Outputs:
    """Everything up to the unlearned models; ascent takes the single step of the paper."""
    published = {"steps": 1} if method == "gradient_ascent" else {}
    outputs = run_stage("pretrain", {}, seed=seed, dataset=DATA, model=MODEL)
    outputs |= run_stage("train", outputs, seed=seed, dataset=DATA, size=12)
    return outputs | run_stage(
        "unlearn", outputs, method, seed=seed, **({"deletions": 3} | published | params)
    )


def parse_output(output: StageOutput) -> Any:
    return json.loads(output.data)


class StopAtCheckpoint(NoHooks):
    """Checkpoints at every chance and breaks at the one numbered `stop`; goes on from the last."""

    def __init__(self, stop_at: int) -> None:
        self.stop = stop_at
        self.checkpoints: list[bytes] = []

    def is_checkpoint_due(self) -> bool:
        return True

    def save(self, data: bytes) -> None:
        self.checkpoints.append(data)
        if len(self.checkpoints) == self.stop:
            raise JobFailed("error", "stopped")

    def load(self) -> bytes | None:
        return self.checkpoints[-1] if self.checkpoints else None
