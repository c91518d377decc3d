"""An audit of a pair of models that the user brings: which files it needs, and its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_ATTACKS = ("feature_recovery", "label_inference")
MAX_CONTROLS = 1000  # random directions that an attack searches for


@dataclass(frozen=True)
class Pair:
    """A model before and after deletions, and what is known of it.

    before: its weights (safetensors) before the deletions.
    after: by name of the release, its weights after each deletion, in the order of the deletions.
    model: the architecture, as the catalog names it: a name, or {"name", "params"}.
    input_shape: C, H, W.
    deleted: the deleted samples (.npz with images and labels), in the order of the deletions; None:
        what comes back cannot be scored.
    public: samples of the same kind that the model was not trained on (.npz); None: there are no
        baselines from them.
    retained: samples that the model was trained on and no deletion forgot (.npz).
    dataset: instead of these files a data set of the catalog, as its name or {"name", "params"}:
        its test split is public, and `deleted_rows` or `deleted_files` name the deleted samples in
        it, `size` for each deletion.
    retrained: for each deletion, in their order, the weights of models trained without its samples,
        one per seed; three seeds make it measurable whether a release has forgotten.
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
    retained: Path | None = None
    dataset: str | Mapping[str, Any] | None = None
    deleted_rows: Sequence[int] = ()
    deleted_files: Sequence[str] = ()
    retrained: Sequence[Sequence[Path]] = ()
    attacks: Sequence[str | Mapping[str, Any]] | None = None  # None: `default_attacks`
    options: Mapping[str, Any] = field(default_factory=dict)  # further fields of the audit

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: it is not said which samples were deleted, or twice.
        """
        listed = bool(self.deleted_rows) != bool(self.deleted_files)
        if self.dataset is None:
            if self.deleted_rows or self.deleted_files:
                raise ValueError("rows and files are those of a data set: name it")
            if self.deleted is None and (self.retained or self.retrained):
                raise ValueError("retained samples and retrained models need the deleted samples")
        elif self.deleted or self.public or self.retained or not listed:
            raise ValueError(
                "with a data set, name the deleted samples in it, by rows or by files, instead of "
                "bringing samples as files"
            )

    @property
    def files(self) -> list[Path]:
        """All files, each once."""
        released = [path for paths in self.after.values() for path in paths]
        retrained = [path for paths in self.retrained for path in paths]
        samples = [self.base, self.deleted, self.public, self.retained]
        return list(
            dict.fromkeys([self.before, *released, *retrained, *(one for one in samples if one)])
        )

    @property
    def default_attacks(self) -> list[str | dict[str, Any]]:
        """`DEFAULT_ATTACKS`; without the deleted samples, the classes are inferred, and each search
        is repeated for a random direction."""
        if self.deleted is not None or self.dataset is not None:
            return [*DEFAULT_ATTACKS]
        recovery, *others = DEFAULT_ATTACKS
        deletions = max(len(paths) for paths in self.after.values())
        params = {"labels": "inferred", "controls": min(deletions, MAX_CONTROLS)}
        return [{"name": recovery, "params": params}, *others]

    def build_audit(self, digests: Mapping[Path, str]) -> dict[str, Any]:
        """The request of the audit.

        Args:
            digests: sha256 of each of `files`, which were uploaded.
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
        for kind, names in (("rows", self.deleted_rows), ("files", self.deleted_files)):
            if names:
                ingest[kind] = [
                    list(names[n : n + self.size]) for n in range(0, len(names), self.size)
                ]
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
        if (dataset := self._name_dataset(digests)) is not None:
            audit["dataset"] = dataset
        if self.base is not None:
            audit["base"] = digests[self.base]
        if self.retrained:
            audit["retrained"] = [[digests[path] for path in paths] for paths in self.retrained]
        return audit

    def _name_dataset(self, digests: Mapping[Path, str]) -> str | Mapping[str, Any] | None:
        if self.dataset is not None:
            return self.dataset
        files = {"deleted": self.deleted, "public": self.public, "retained": self.retained}
        uploads = {name: f"upload:{digests[path]}" for name, path in files.items() if path}
        if not uploads:
            return None
        return {"name": "own_samples", "params": {**uploads, "num_classes": self.num_classes}}
