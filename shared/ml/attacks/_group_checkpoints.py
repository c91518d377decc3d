"""Checkpoints of a job that attacks one group of deletions after another: finished results and the
current state."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from shared.ml.attack_io import Result
from shared.ml.context import Checkpoint, Context, SeededSubContext

RUNNING, STEP, JSON_FIELDS, TYPE = "running.", "step", "json", "type"  # names in a checkpoint
TUPLE = "tuple"  # marks tuples in JSON, which has lists only


class GroupContext(SeededSubContext):
    """A group's part of the job. Its checkpoints are the job's, and contain the finished groups
    too; its previews are the job's, and show this group."""

    def __init__(
        self,
        parent: Context,
        index: int,
        count: int,
        finished: list[Result],
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__(parent, index, count)
        self._finished = finished
        self._checkpoint = checkpoint

    def offer_preview(self, done: int, total: int, estimate: Callable[[], Tensor]) -> None:
        self._parent.offer_preview(self._index * total + done, self._count * total, estimate)

    def is_checkpoint_due(self) -> bool:
        return self._parent.is_checkpoint_due()

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        running = {
            f"{RUNNING}{name}": t for name, t in {**tensors, STEP: torch.tensor(step)}.items()
        }
        self._parent.save_checkpoint(self._index, pack_results(self._finished) | running)

    def load_checkpoint(self) -> Checkpoint | None:
        return self._checkpoint


def pack_results(results: list[Result]) -> dict[str, Tensor]:
    """As tensors, prefixed with the number of each result; tensors by name get that name after the
    field's."""
    tensors: dict[str, Tensor] = {}
    for i, result in enumerate(results):
        json_fields: dict[str, Any] = {TYPE: _type_name(type(result))}
        for name in (f.name for f in fields(result)):
            value = getattr(result, name)
            if isinstance(value, Tensor):
                tensors[f"{i}.{name}"] = value.clone()
            elif isinstance(value, dict):
                json_fields[name] = {}
                tensors |= {f"{i}.{name}.{key}": tensor.clone() for key, tensor in value.items()}
            else:
                json_fields[name] = _without_tuples(value)
        tensors[f"{i}.{JSON_FIELDS}"] = torch.tensor(
            list(json.dumps(json_fields).encode()), dtype=torch.uint8
        )
    return tensors


def load_results(ctx: Context) -> tuple[list[Result], Checkpoint | None]:
    """The results of finished groups and the state of the next one; nothing if other code wrote the
    checkpoint."""
    if (checkpoint := ctx.load_checkpoint()) is None:
        return [], None
    done, tensors = checkpoint
    results = [result for i in range(done) if (result := _unpack_result(i, tensors))]
    if len(results) < done:
        return [], None
    running = {
        name.removeprefix(RUNNING): t for name, t in tensors.items() if name.startswith(RUNNING)
    }
    return results, (int(running.pop(STEP)), running) if running else None


def _unpack_result(index: int, tensors: dict[str, Tensor]) -> Result | None:
    prefix = f"{index}."
    result_tensors = {
        name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)
    }
    fields: dict[str, Any] = json.loads(bytes(result_tensors.pop(JSON_FIELDS).tolist()))
    if (kind := _list_types().get(fields.pop(TYPE, ""))) is None:
        return None
    values = {name: _with_tuples(value) for name, value in fields.items()}
    for name, tensor in result_tensors.items():
        field, _, key = name.partition(".")
        if key:
            values[field][key] = tensor
        else:
            values[field] = tensor
    return kind(**values)


def _type_name(kind: type[Result]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _list_types() -> dict[str, type[Result]]:
    """All classes of results by name, subclasses of subclasses too: several may write one role."""
    types: dict[str, type[Result]] = {}
    left = Result.__subclasses__()
    while left:
        kind = left.pop(0)
        types[_type_name(kind)] = kind
        left += kind.__subclasses__()
    return types


def _without_tuples(value: Any) -> Any:
    if isinstance(value, tuple):
        return {TUPLE: [_without_tuples(one) for one in value]}
    return [_without_tuples(one) for one in value] if isinstance(value, list) else value


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {TUPLE}:
        return tuple(_with_tuples(one) for one in value[TUPLE])
    return [_with_tuples(one) for one in value] if isinstance(value, list) else value
