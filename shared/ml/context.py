"""What a running plugin may ask of the job around it: randomness, device, progress, checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

Checkpoint = tuple[int, dict[str, Tensor]]


def make_generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that adding a draw somewhere moves no other
    draw.

    Random numbers are always drawn on the CPU and then moved, so that a GPU repeats what a CPU
    drew.
    """
    seed_bytes = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(seed_bytes, "big") & 0x7FFF_FFFF_FFFF_FFFF)


class Context(Protocol):
    """Passed to every plugin that works for long."""

    seed: int
    device: torch.device

    def make_generator(self, purpose: str) -> torch.Generator:
        """`generator(self.seed, purpose)`."""

    def report_progress(self, done: int, total: int, **values: float) -> None:
        """Say that step `done` of `total` is finished; cheap, call it every step.

        `numbers` are shown while it runs (`loss=`, `matching_loss=`): pass them every so often.

        Raises:
            AttemptEnded: the attempt must stop here; let it pass through.
        """

    def is_checkpoint_due(self) -> bool:
        """Whether a checkpoint should be written now (some seconds since the last, or the worker
        leaves)."""

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint: `step` steps are done, and `tensors` is all that is needed to go on
        from there."""

    def load_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint of this very job, or None: start from the beginning."""


class JobInputs(Context, Protocol):
    """A context that hands over the job's inputs by role too, and the parameters of its stage."""

    params: Any
    inputs: Mapping[str, bytes]

    def read_input(self, role: str) -> bytes:
        """The bytes in that role.

        Raises:
            InvalidRequest: the job supplies none.
        """


class LocalContext:
    """A context without a job, for tests and notebooks. Keeps its last checkpoint in memory.

    `save_every` makes `due()` true every that many calls, 0 never.
    """

    def __init__(
        self, seed: int = 0, device: str | torch.device = "cpu", checkpoint_interval_s: int = 0
    ) -> None:
        self.seed = seed
        self.device = torch.device(device)
        self.checkpoint_interval_s = checkpoint_interval_s
        self.checkpoint: Checkpoint | None = None
        self.progress_reports: list[tuple[int, int, dict[str, float]]] = []
        self._due_calls = 0

    def make_generator(self, purpose: str) -> torch.Generator:
        return make_generator(self.seed, purpose)

    def report_progress(self, done: int, total: int, **values: float) -> None:
        self.progress_reports.append((done, total, values))

    def is_checkpoint_due(self) -> bool:
        self._due_calls += 1
        return self.checkpoint_interval_s > 0 and self._due_calls % self.checkpoint_interval_s == 0

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        self.checkpoint = (step, {name: t.detach().clone() for name, t in tensors.items()})

    def load_checkpoint(self) -> Checkpoint | None:
        return self.checkpoint


class SubContext:
    """One of `count` equal stretches of a job's work: its progress is a share of the whole's.

    It never checkpoints: its job does, between them.
    """

    def __init__(self, parent: Context, index: int, count: int) -> None:
        self.seed = parent.seed
        self.device = parent.device
        self._parent = parent
        self._index = index
        self._count = count

    def make_generator(self, purpose: str) -> torch.Generator:
        return self._parent.make_generator(purpose)

    def report_progress(self, done: int, total: int, **values: float) -> None:
        self._parent.report_progress(self._index * total + done, self._count * total, **values)

    def is_checkpoint_due(self) -> bool:
        return False

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        pass

    def load_checkpoint(self) -> Checkpoint | None:
        return None


class SeededSubContext(SubContext):
    """A share with randomness of its own: a deletion, or a pass over the data."""

    def make_generator(self, purpose: str) -> torch.Generator:
        return self._parent.make_generator(f"part {self._index}/{purpose}")
