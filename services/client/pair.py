"""An audit of a pair of models that the user brings: which files it needs, and its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .upload import FileToUpload

DEFAULT_ATTACKS = ("feature_recovery", "label_inference")
MAX_CONTROLS = 1000  # random directions that an attack searches for


@dataclass(frozen=True)
class Pair:
    """A model before and after deletions, and what is known of it.

    before: its weights (safetensors) before the deletions.
    after: by name of the release, its weights after each deletion, in the order of the deletions.
    model: the architecture, as the catalog names it: a name, or {"name", "params"}.
    input_shape: C, H, W.
    deleted: the deleted samples, in the order of the deletions: .npz with images and labels, or .zip
        with pictures in folders called by the number of their class; None: what comes back cannot
        be scored.
    public: samples of the same kind that the model was not trained on, in the same form; None: there
        are no baselines from them.
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
    deleted: Path | None = None
    public: Path | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    base: Path | None = None
    training_set: int | None = None
    size: int = 1
    attacks: Sequence[str | Mapping[str, Any]] | None = None  # None: `default_attacks`
    options: Mapping[str, Any] = field(default_factory=dict)  # further fields of the audit

    @property
    def files(self) -> list[Path]:
        """All files, each once."""
        released = [path for paths in self.after.values() for path in paths]
        optional = [path for path in (self.base, self.deleted, self.public) if path is not None]
        return list(dict.fromkeys([self.before, *released, *optional]))

    @property
    def default_attacks(self) -> list[str | dict[str, Any]]:
        """`DEFAULT_ATTACKS`; without the deleted samples, the classes are inferred, and each search
        is repeated for a random direction."""
        if self.deleted is not None:
            return [*DEFAULT_ATTACKS]
        recovery, *others = DEFAULT_ATTACKS
        deletions = max(len(paths) for paths in self.after.values())
        params = {"labels": "inferred", "controls": min(deletions, MAX_CONTROLS)}
        return [{"name": recovery, "params": params}, *others]

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
        samples: dict[str, Any] = {
            name: f"upload:{digests[path]}"
            for name, path in (("deleted", self.deleted), ("public", self.public))
            if path is not None
        }
        if any(path and path.suffix.lower() == ".zip" for path in (self.deleted, self.public)):
            # pictures, resized to what the model takes
            samples |= {"size": self.input_shape[1], "grey": self.input_shape[0] == 1}
        audit: dict[str, Any] = {
            "name": f"{self.before.stem}: before and after",
            "model": self.model,
            "original": digests[self.before],
            "releases": [
                {"name": name, "weights": [digests[path] for path in paths]}
                for name, paths in self.after.items()
            ],
            "ingest": ingest,
            "attacks": list(self.default_attacks if self.attacks is None else self.attacks),
            **self.options,
        }
        if samples:
            params = {**samples, "num_classes": self.num_classes}
            audit["dataset"] = {"name": "own_samples", "params": params}
        if self.base is not None:
            audit["base"] = digests[self.base]
        return audit
