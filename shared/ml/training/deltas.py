"""BATCH_DELTAS: the weight change of every training step, and the samples it saw."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from shared.errors import InvalidRequest, JobFailed
from shared.ml.tensors import MAX_HEADER_BYTES, read_tensors, write_tensors
from shared.roles import Role

MAX_BYTES = 2 << 30
HEADER_MARGIN_BYTES = 1 << 20  # for the names and shapes of the weights


@dataclass
class BatchDeltas:
    """`batches` [steps] lists positions in the training set, `changes` the change of each step by
    weight."""

    batches: list[list[int]] = field(default_factory=list)
    changes: dict[str, list[Tensor]] = field(default_factory=dict)
    header_bytes: int = 0

    def record_step(self, batch: Tensor, change: dict[str, Tensor]) -> None:
        """Record a step.

        Raises:
            JobFailed: `invalid`, more than 2 GiB would be recorded, or more positions than the
                header of a file can list.
        """
        self.batches.append(batch.tolist())
        self.header_bytes += sum(len(str(position)) + 1 for position in self.batches[-1]) + 2
        if self.header_bytes > MAX_HEADER_BYTES - HEADER_MARGIN_BYTES:
            raise JobFailed(
                "invalid",
                f"{len(self.batches)} steps name more samples than can be recorded; train for "
                "fewer epochs",
            )
        total_bytes = len(self.batches) * sum(t.numel() * t.element_size() for t in change.values())
        if total_bytes > MAX_BYTES:
            raise JobFailed(
                "invalid",
                f"{len(self.batches)} steps of this model exceed the 2 GiB limit of recorded "
                "changes; train for fewer epochs",
            )
        for name, t in change.items():
            self.changes.setdefault(name, []).append(t.cpu())

    def sum_changes(self, samples: set[int]) -> dict[str, Tensor]:
        """The sum of the changes of all steps that saw any of the samples, by weight."""
        steps = [step for step, batch in enumerate(self.batches) if samples & set(batch)]
        return {
            name: torch.stack([ts[0] * 0, *(ts[step] for step in steps)]).sum(0)
            for name, ts in self.changes.items()
        }

    def to_bytes(self) -> bytes:
        """As a safetensors file: per weight [steps, *shape]."""
        return write_tensors(
            {name: torch.stack(ts) for name, ts in self.changes.items()}, {"batches": self.batches}
        )

    @classmethod
    def from_bytes(cls, data: bytes, shapes: dict[str, torch.Size]) -> BatchDeltas:
        """From such a file.

        Args:
            shapes: of the model's weights, by name.

        Raises:
            InvalidRequest: not such a file, or of another model.
        """
        tensors, metadata = read_tensors(data, Role.BATCH_DELTAS)
        batches = metadata.get("batches")
        if not isinstance(batches, list) or not all(
            isinstance(b, list) and all(type(i) is int and i >= 0 for i in b) for b in batches
        ):
            raise InvalidRequest(
                "BATCH_DELTAS must list the samples of each step", f"inputs.{Role.BATCH_DELTAS}"
            )
        if {name: t.shape for name, t in tensors.items()} != {
            name: torch.Size((len(batches), *shape)) for name, shape in shapes.items()
        }:
            raise InvalidRequest(
                "BATCH_DELTAS does not belong to this model", f"inputs.{Role.BATCH_DELTAS}"
            )
        return cls(batches, {name: list(t) for name, t in tensors.items()})
