"""All that a stage sees of its job. Where it reads from, writes to and reports to is behind
`Hooks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from shared.errors import InvalidRequest
from shared.jobs.summaries import encode_summary
from shared.ml.context import Checkpoint, make_generator
from shared.ml.records import write_json
from shared.ml.tensors import read_header
from shared.plugins import Params, Plugin
from workers.previews import draw_preview


@dataclass(frozen=True)
class StageOutput:
    """One artifact as a stage hands it over: the same inputs must give the same bytes (no times, no
    ids; a report names its submission, which is the same whenever its job runs)."""

    data: bytes
    media_type: str = "application/octet-stream"

    @classmethod
    def of_json(cls, value: Any) -> StageOutput:
        """Canonical JSON."""
        return cls(write_json(value), "application/json")


@dataclass(frozen=True)
class Submission:
    """Which job this is, the same for each of its attempts."""

    job: str
    audit: str | None  # the first that needed it; None: posted by hand
    submitted_at: float  # seconds since 1970, by the database's clock
    # by path, sha256 of the files of the data root that it and its ancestors read
    data_files: Mapping[str, str] = field(default_factory=dict)


class Hooks(Protocol):
    """What the life of an attempt offers to the stage inside it (`workers.runner` has the real
    one)."""

    def heartbeat(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Note progress; raises AttemptEnded when the attempt must stop."""

    def offer_preview(self, done: int, total: int, draw: Callable[[], bytes]) -> None:
        """Show the PNG that `draw` gives, if it is time for one."""

    def is_checkpoint_due(self) -> bool:
        """Whether a checkpoint should be written now."""

    def save(self, data: bytes) -> None:
        """Move the job's checkpoint to these bytes."""

    def load(self) -> bytes | None:
        """The job's checkpoint."""


class NoHooks:
    """A job that nobody watches."""

    def heartbeat(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        pass

    def offer_preview(self, done: int, total: int, draw: Callable[[], bytes]) -> None:
        pass

    def is_checkpoint_due(self) -> bool:
        return False

    def save(self, data: bytes) -> None:
        pass

    def load(self) -> bytes | None:
        return None


class JobContext:
    """Implements `shared.ml.context.Context` for one job.

    `params` are the stage's own, `method` and `method_params` the plugin that the job's method
    names (None for a stage without methods). `inputs` maps role -> bytes, only the roles that the
    job supplies.
    """

    def __init__(
        self,
        *,
        params: Any = None,
        method: Plugin | None = None,
        method_params: Any = None,
        inputs: Mapping[str, bytes] | None = None,
        seed: int = 0,
        device: torch.device | None = None,
        hooks: Hooks | None = None,
        load_submission: Callable[[], Submission] | None = None,
    ) -> None:
        self.params: Any = params if params is not None else Params()
        self.method = method
        self.method_params: Any = method_params
        self.inputs: Mapping[str, bytes] = inputs or {}
        self.seed = seed
        self.device = device or torch.device("cpu")
        self._hooks: Hooks = hooks or NoHooks()
        self._load_submission = load_submission
        self.summary: Mapping[str, Any] | None = None

    def read_input(self, role: str) -> bytes:
        """The bytes in that role.

        Raises:
            InvalidRequest: the job supplies none.
        """
        try:
            return self.inputs[role]
        except KeyError:
            raise InvalidRequest(f"this job has no input {role}", f"inputs.{role}") from None

    def load_submission(self) -> Submission | None:
        """Which job this is, for a report, which states it; None for a job that is in no store."""
        return self._load_submission() if self._load_submission else None

    def make_generator(self, purpose: str) -> torch.Generator:
        return make_generator(self.seed, purpose)

    def report_progress(self, done: int, total: int, **values: float) -> None:
        self._hooks.heartbeat(done, total, values)

    def offer_preview(self, done: int, total: int, estimate: Callable[[], Tensor]) -> None:
        self._hooks.offer_preview(done, total, lambda: draw_preview(estimate()))

    def set_summary(self, summary: Mapping[str, Any]) -> None:
        """Say in brief what the job has found, for lists and pages; its result is in the outputs.

        Raises:
            InvalidRequest: it is larger than 2 KiB of JSON, or none.
        """
        encode_summary(summary)
        self.summary = dict(summary)

    def is_checkpoint_due(self) -> bool:
        return self._hooks.is_checkpoint_due()

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor]) -> None:
        copies = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        self._hooks.save(save(copies, metadata={"step": str(step)}))

    def load_checkpoint(self) -> Checkpoint | None:
        data = self._hooks.load()
        if data is None:
            return None
        return int(read_header(data)["step"]), load(data)
