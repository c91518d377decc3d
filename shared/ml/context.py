"""What a running plugin can use of its job: randomness, device, progress, checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
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
        """`make_generator(self.seed, purpose)`."""

    def report_progress(self, done: int, total: int, **values: float) -> None:
        """Report that step `done` of `total` is finished; cheap, call it every step.

        `values` are shown while the job runs (`loss=`, `matching_loss=`): pass them every so often.

        Raises:
            AttemptEnded: the attempt must stop here; let it pass through.
        """

    def offer_preview(self, done: int, total: int, estimate: Callable[[], Tensor]) -> None:
        """Offer to show what the attacker sees of its reconstruction after step `done` of `total`;
        cheap, call it every step.

        `estimate` gives samples [n, C, H, W] in [0, 1], the first of which are shown. It is called
        every few seconds only, or never, so it must change nothing and draw nothing at random.
        """

    def is_checkpoint_due(self) -> bool:
        """Whether to write a checkpoint now (some seconds since the last one, or the worker is
        shutting down)."""

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint: `step` steps are done, and `tensors` holds all that is needed to
        resume there."""

    def load_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint of this job, or None to start from the beginning."""


class JobInputs(Context, Protocol):
    """A context with the job's inputs, by role, and the parameters of its stage."""

    params: Any
    inputs: Mapping[str, bytes]

    def read_input(self, role: str) -> bytes:
        """The bytes of the input in that role.

        Raises:
            InvalidRequest: the job supplies none.
        """


class LocalContext:
    """A context without a job, for tests and notebooks. Keeps its last checkpoint in memory.

    `is_checkpoint_due()` is true at every `checkpoint_every`-th call; 0: never.
    """

    def __init__(
        self, seed: int = 0, device: str | torch.device = "cpu", checkpoint_every: int = 0
    ) -> None:
        self.seed = seed
        self.device = torch.device(device)
        self.checkpoint_every = checkpoint_every
        self.checkpoint: Checkpoint | None = None
        self.progress_reports: list[tuple[int, int, dict[str, float]]] = []
        self._due_calls = 0

    def make_generator(self, purpose: str) -> torch.Generator:
        return make_generator(self.seed, purpose)

    def report_progress(self, done: int, total: int, **values: float) -> None:
        self.progress_reports.append((done, total, values))

    def offer_preview(self, done: int, total: int, estimate: Callable[[], Tensor]) -> None:
        pass

    def is_checkpoint_due(self) -> bool:
        self._due_calls += 1
        return self.checkpoint_every > 0 and self._due_calls % self.checkpoint_every == 0

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        self.checkpoint = (step, {name: t.detach().clone() for name, t in tensors.items()})

    def load_checkpoint(self) -> Checkpoint | None:
        return self.checkpoint


class SubContext:
    """One of `count` equal parts of a job: its progress is a share of the job's.

    It never writes checkpoints: the job does, between parts.
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

    def offer_preview(self, done: int, total: int, estimate: Callable[[], Tensor]) -> None:
        """Nothing: what is attacked in a part need not be what the job attacks."""

    def is_checkpoint_due(self) -> bool:
        return False

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        pass

    def load_checkpoint(self) -> Checkpoint | None:
        return None


class SeededSubContext(SubContext):
    """A part with generators of its own: a deletion, or a pass over the data."""

    def make_generator(self, purpose: str) -> torch.Generator:
        return self._parent.make_generator(f"part {self._index}/{purpose}")
