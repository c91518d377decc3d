"""Checkpoints of a job that does one group of deletions after another: the finished ones and where the next stands."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from shared.ml.attacks._observation import Answers, Reconstruction
from shared.ml.context import Checkpoint, Context, Part

RUNNING, STEP, TOLD = "running.", "step", "told"  # names in a checkpoint


class Group(Part):
    """A group's share of the job. Its checkpoints are the job's, and hold the groups before it too."""

    def __init__(
        self, whole: Context, index: int, count: int, finished: list[Reconstruction | Answers], at: Checkpoint | None
    ) -> None:
        super().__init__(whole, index, count)
        self._finished = finished
        self._at = at

    def due(self) -> bool:
        return self._whole.due()

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        running = {f"{RUNNING}{name}": t for name, t in {**tensors, STEP: torch.tensor(step)}.items()}
        self._whole.save(self._index, packed(self._finished) | running)

    def resume(self) -> Checkpoint | None:
        return self._at


def packed(results: list[Reconstruction | Answers]) -> dict[str, Tensor]:
    """As tensors, under the number of each."""
    tensors: dict[str, Tensor] = {}
    for i, result in enumerate(results):
        plain = {f.name: getattr(result, f.name) for f in fields(result)}
        controls = plain.pop("controls", {})
        told = {name: value for name, value in plain.items() if not isinstance(value, Tensor)}
        tensors |= {f"{i}.{name}": value.clone() for name, value in plain.items() if isinstance(value, Tensor)}
        tensors |= {f"{i}.controls.{name}": t.clone() for name, t in controls.items()}
        tensors[f"{i}.{TOLD}"] = torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)
    return tensors


def resumed(ctx: Context) -> tuple[list[Reconstruction | Answers], Checkpoint | None]:
    """What finished groups found, and where the next one stands."""
    if (found := ctx.resume()) is None:
        return [], None
    done, tensors = found
    results: list[Reconstruction | Answers] = []
    for i in range(done):
        mine: dict[str, Any] = {
            name.removeprefix(f"{i}."): t for name, t in tensors.items() if name.startswith(f"{i}.")
        }
        told = json.loads(bytes(mine.pop(TOLD).tolist()))
        controls = {n.removeprefix("controls."): mine.pop(n) for n in list(mine) if n.startswith("controls.")}
        results.append(
            Answers(**mine, **told) if "scores" in mine else Reconstruction(**mine, **told, controls=controls)
        )
    running = {name.removeprefix(RUNNING): t for name, t in tensors.items() if name.startswith(RUNNING)}
    return results, (int(running.pop(STEP)), running) if running else None
