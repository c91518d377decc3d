"""What a running plugin may ask of the job around it: randomness, device, progress, checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

Checkpoint = tuple[int, dict[str, Tensor]]


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that adding a draw somewhere moves no other draw.

    Random numbers are always drawn on the CPU and then moved, so that a GPU repeats what a CPU drew.
    """
    word = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(word, "big") & 0x7FFF_FFFF_FFFF_FFFF)


class Context(Protocol):
    """Passed to every plugin that works for long."""

    seed: int
    device: torch.device

    def generator(self, purpose: str) -> torch.Generator:
        """`generator(self.seed, purpose)`."""

    def progress(self, done: int, total: int, **numbers: float) -> None:
        """Say that step `done` of `total` is finished; cheap, call it every step.

        `numbers` are shown while it runs (`loss=`, `matching_loss=`): pass them every so often.

        Raises:
            AttemptEnded: the attempt must stop here; let it pass through.
        """

    def due(self) -> bool:
        """Whether a checkpoint should be written now (some seconds since the last, or the worker leaves)."""

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint: `step` steps are done, and `tensors` is all that is needed to go on from there."""

    def resume(self) -> Checkpoint | None:
        """The last checkpoint of this very job, or None: start from the beginning."""


class JobInputs(Context, Protocol):
    """A context that hands over the job's inputs by role too, and the parameters of its stage."""

    params: Any
    inputs: Mapping[str, bytes]

    def input(self, role: str) -> bytes:
        """The bytes in that role.

        Raises:
            InvalidRequest: the job supplies none.
        """


class LocalContext:
    """A context without a job, for tests and notebooks. Keeps its last checkpoint in memory.

    `save_every` makes `due()` true every that many calls, 0 never.
    """

    def __init__(self, seed: int = 0, device: str | torch.device = "cpu", save_every: int = 0) -> None:
        self.seed = seed
        self.device = torch.device(device)
        self.save_every = save_every
        self.checkpoint: Checkpoint | None = None
        self.steps: list[tuple[int, int, dict[str, float]]] = []
        self._asked = 0

    def generator(self, purpose: str) -> torch.Generator:
        return generator(self.seed, purpose)

    def progress(self, done: int, total: int, **numbers: float) -> None:
        self.steps.append((done, total, numbers))

    def due(self) -> bool:
        self._asked += 1
        return self.save_every > 0 and self._asked % self.save_every == 0

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        self.checkpoint = (step, {name: t.detach().clone() for name, t in tensors.items()})

    def resume(self) -> Checkpoint | None:
        return self.checkpoint


class Share:
    """One of `count` equal stretches of a job's work: its progress is a share of the whole's.

    It never checkpoints: its job does, between them.
    """

    def __init__(self, whole: Context, index: int, count: int) -> None:
        self.seed = whole.seed
        self.device = whole.device
        self._whole = whole
        self._index = index
        self._count = count

    def generator(self, purpose: str) -> torch.Generator:
        return self._whole.generator(purpose)

    def progress(self, done: int, total: int, **numbers: float) -> None:
        self._whole.progress(self._index * total + done, self._count * total, **numbers)

    def due(self) -> bool:
        return False

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        pass

    def resume(self) -> Checkpoint | None:
        return None


class Part(Share):
    """A share with randomness of its own: a deletion, or a pass over the data."""

    def generator(self, purpose: str) -> torch.Generator:
        return self._whole.generator(f"part {self._index}/{purpose}")
