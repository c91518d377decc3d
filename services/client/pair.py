"""An audit of a pair of models that the user brings: which files it needs, and its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .upload import FileToUpload

DEFAULT_ATTACKS = ("feature_recovery", "label_inference")


@dataclass(frozen=True)
class Pair:
    """A model before and after deletions, and what is known of it.

    before: its weights (safetensors) before the deletions.
    after: by name of the release, its weights after each deletion, in the order of the deletions.
    model: the architecture, as the catalog names it: a name, or {"name", "params"}.
    input_shape: C, H, W.
    deleted: the deleted samples, in the order of the deletions: .npz with images and labels, or .zip
        with pictures in folders called by the number of their class.
    public: samples of the same kind that the model was not trained on, in the same form.
    mean, std: per channel, with which the model's own code normalises images in [0, 1].
    base: the weights that training started from.
    training_set: N, samples that the model was trained on.
    size: k, deleted samples per deletion.
    """

    before: Path
    after: Mapping[str, Sequence[Path]]
    model: str | Mapping[str, Any]
    num_classes: int
    input_shape: tuple[int, int, int]
    deleted: Path
    public: Path
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    base: Path | None = None
    training_set: int | None = None
    size: int = 1
    attacks: Sequence[str | Mapping[str, Any]] = DEFAULT_ATTACKS
    options: Mapping[str, Any] = field(default_factory=dict)  # further fields of the audit

    @property
    def files(self) -> list[Path]:
        """All files, each once."""
        released = [path for paths in self.after.values() for path in paths]
        base = [self.base] if self.base else []
        return list(dict.fromkeys([self.before, *released, *base, self.deleted, self.public]))

    def compute_digests(self) -> dict[Path, str]:
        """sha256 of each of `files`, read from the disk.

        Raises:
            ReadError: one cannot be read.
        """
        return {path: FileToUpload.scan(path).sha256 for path in self.files}

    def build_audit(self, digests: Mapping[Path, str]) -> dict[str, Any]:
        """The request of the audit.

        Args:
            digests: sha256 of each of `files`.
        """
        ingest: dict[str, Any] = {
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "size": self.size,
        }
        if self.mean is not None:
            ingest["mean"] = list(self.mean)
        if self.std is not None:
            ingest["std"] = list(self.std)
        if self.training_set is not None:
            ingest["training_set"] = self.training_set
        data: dict[str, Any] = {
            "deleted": f"upload:{digests[self.deleted]}",
            "public": f"upload:{digests[self.public]}",
            "num_classes": self.num_classes,
        }
        if any(path.suffix.lower() == ".zip" for path in (self.deleted, self.public)):
            # pictures, resized to what the model takes
            data |= {"size": self.input_shape[1], "grey": self.input_shape[0] == 1}
        audit: dict[str, Any] = {
            "name": f"{self.before.stem}: before and after",
            "dataset": {"name": "own_samples", "params": data},
            "model": self.model,
            "original": digests[self.before],
            "releases": [
                {"name": name, "weights": [digests[path] for path in paths]}
                for name, paths in self.after.items()
            ],
            "ingest": ingest,
            "attacks": list(self.attacks),
            **self.options,
        }
        if self.base is not None:
            audit["base"] = digests[self.base]
        return audit
