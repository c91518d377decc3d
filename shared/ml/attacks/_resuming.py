"""Checkpoints of a job that does one group of deletions after another: the finished ones and where the next stands."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from shared.ml.context import Checkpoint, Context, Part
from shared.ml.observations import Result

RUNNING, STEP, TOLD, ROLE = "running.", "step", "told", "role"  # names in a checkpoint


class Group(Part):
    """A group's share of the job. Its checkpoints are the job's, and hold the groups before it too."""

    def __init__(self, whole: Context, index: int, count: int, finished: list[Result], at: Checkpoint | None) -> None:
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


def packed(results: list[Result]) -> dict[str, Tensor]:
    """As tensors, under the number of each; tensors by name have that name after the field's."""
    tensors: dict[str, Tensor] = {}
    for i, result in enumerate(results):
        told: dict[str, Any] = {ROLE: result.role}
        for name in (f.name for f in fields(result)):
            value = getattr(result, name)
            if isinstance(value, Tensor):
                tensors[f"{i}.{name}"] = value.clone()
            elif isinstance(value, dict):
                told[name] = {}
                tensors |= {f"{i}.{name}.{key}": tensor.clone() for key, tensor in value.items()}
            else:
                told[name] = value
        tensors[f"{i}.{TOLD}"] = torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)
    return tensors


def resumed(ctx: Context) -> tuple[list[Result], Checkpoint | None]:
    """What finished groups found, and where the next one stands."""
    if (found := ctx.resume()) is None:
        return [], None
    done, tensors = found
    results = [_unpacked(i, tensors) for i in range(done)]
    running = {name.removeprefix(RUNNING): t for name, t in tensors.items() if name.startswith(RUNNING)}
    return results, (int(running.pop(STEP)), running) if running else None


def _unpacked(place: int, tensors: dict[str, Tensor]) -> Result:
    start = f"{place}."
    mine = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
    values: dict[str, Any] = json.loads(bytes(mine.pop(TOLD).tolist()))
    kind = {kind.role: kind for kind in Result.__subclasses__()}[values.pop(ROLE)]
    for name, tensor in mine.items():
        field, _, key = name.partition(".")
        if key:
            values[field][key] = tensor
        else:
            values[field] = tensor
    return kind(**values)
