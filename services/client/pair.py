"""An audit of a pair of models that the user brings: which files it needs, and its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .upload import FileToUpload

DECLARED_PREFIX = "model:"  # of a declared model, where a file may stand too
DEFAULT_ATTACKS = ("feature_recovery", "label_inference")
MAX_CONTROLS = 1000  # random directions that an attack searches for


@dataclass(frozen=True)
class Pair:
    """A model before and after deletions, and what is known of it.

    Weights are a file, or a declared model: "model:NAME" or "model:NAME@VERSION".

    before: its weights (safetensors) before the deletions.
    after: by name of the release, its weights after each deletion, in the order of the deletions.
    model: the architecture, as the catalog names it: a name, or {"name", "params"}; with the next
        two left out if `before` is a declared model.
    input_shape: C, H, W.
    deleted: the deleted samples, in the order of the deletions: .npz with images and labels, or .zip
        with pictures in folders called by the number of their class; None: what comes back cannot
        be scored.
    public: samples of the same kind that the model was not trained on, in the same form; None: there
        are no baselines from them.
    retained: samples that the model was trained on and no deletion forgot (.npz).
    dataset: instead of these files, a data set of the catalog as its name or {"name", "params"}, or
        a declared one as "declared:NAME": its test split is public, and `deleted_rows` or
        `deleted_files` name the deleted samples in it, `size` for each deletion.
    retrained: for each deletion, in their order, the weights of models trained without its samples,
        one per seed; three seeds make it measurable whether a release has forgotten.
    methods: by name of the release, the unlearning method of the catalog that it was made by.
    recipe: how the model was trained: the parameters of SGD, as the stage train has them.
    p_values: compute p-values of label attacks, for releases with a method; that takes the recipe
        and retained samples.
    trained_on_all: the model was trained on all of the train split of `dataset`.
    mean, std: per channel, with which the model's own code normalises images in [0, 1].
    base: the weights that training started from.
    training_set: N, samples that the model was trained on.
    size: k, deleted samples per deletion.
    """

    before: Path | str
    after: Mapping[str, Sequence[Path | str]]
    model: str | Mapping[str, Any] | None = None
    num_classes: int | None = None
    input_shape: tuple[int, int, int] | None = None
    deleted: Path | None = None
    public: Path | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    base: Path | str | None = None
    training_set: int | None = None
    size: int = 1
    retained: Path | None = None
    dataset: str | Mapping[str, Any] | None = None
    deleted_rows: Sequence[int] = ()
    deleted_files: Sequence[str] = ()
    retrained: Sequence[Sequence[Path | str]] = ()
    methods: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    p_values: bool = False
    trained_on_all: bool = False
    attacks: Sequence[str | Mapping[str, Any]] | None = None  # None: `default_attacks`
    options: Mapping[str, Any] = field(default_factory=dict)  # further fields of the audit

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: it is said twice which samples were deleted, or of no data set; or a method
                is that of no release.
        """
        if unknown := [name for name in self.methods if name not in self.after]:
            raise ValueError(
                f"a method is given for {unknown[0]}, but there is no such release: the releases "
                f"are {', '.join(self.after)}"
            )
        if self.dataset is None:
            if self.deleted_rows or self.deleted_files:
                raise ValueError("rows and files belong to a data set: name it")
            if self.deleted is None and (self.retained or self.retrained):
                raise ValueError("retained samples and retrained models need the deleted samples")
        elif self._samples:
            raise ValueError("bring samples as files or as a data set, not both")
        elif self.deleted_rows and self.deleted_files:
            raise ValueError("name the deleted samples by rows or by files, not both")
        if self._has_pictures and self.input_shape is None:
            raise ValueError(
                "pictures in a zip archive are resized to what the model takes: give its "
                "input shape"
            )

    @property
    def files(self) -> list[Path]:
        """All files, each once."""
        released = [path for paths in self.after.values() for path in paths]
        retrained = [path for paths in self.retrained for path in paths]
        samples = [self.base, self.deleted, self.public, self.retained]
        every = [self.before, *released, *retrained, *samples]
        return list(dict.fromkeys(path for path in every if isinstance(path, Path)))

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

        def name_weights(weights: Path | str) -> str:
            return weights if isinstance(weights, str) else digests[weights]

        ingest: dict[str, Any] = {"size": self.size}
        if self.input_shape is not None:
            ingest["input_shape"] = list(self.input_shape)
        if self.num_classes is not None:
            ingest["num_classes"] = self.num_classes
        if self.mean is not None:
            ingest["mean"] = list(self.mean)
        if self.std is not None:
            ingest["std"] = list(self.std)
        if self.training_set is not None:
            ingest["training_set"] = self.training_set
        if self.recipe is not None:
            ingest["recipe"] = dict(self.recipe)
        if self.trained_on_all:
            ingest["trained_on_all"] = True
        for kind, names in (("rows", self.deleted_rows), ("files", self.deleted_files)):
            if names:
                ingest[kind] = [
                    list(names[n : n + self.size]) for n in range(0, len(names), self.size)
                ]
        audit: dict[str, Any] = {
            "name": f"{self.title}: before and after",
            "original": name_weights(self.before),
            "releases": [
                {"name": name, "weights": [name_weights(one) for one in paths]}
                | ({"method": self.methods[name]} if name in self.methods else {})
                for name, paths in self.after.items()
            ],
            "ingest": ingest,
            "attacks": list(self.default_attacks if self.attacks is None else self.attacks),
            **self.options,
        }
        if self.p_values:
            audit["p_values"] = True
        if self.model is not None:
            audit["model"] = self.model
        if (dataset := self._name_dataset(digests)) is not None:
            audit["dataset"] = dataset
        if self.base is not None:
            audit["base"] = name_weights(self.base)
        if self.retrained:
            audit["retrained"] = [
                [name_weights(one) for one in weights] for weights in self.retrained
            ]
        return audit

    @property
    def title(self) -> str:
        """The name of the original."""
        if isinstance(self.before, str):
            return self.before.removeprefix(DECLARED_PREFIX)
        return self.before.stem

    @property
    def _samples(self) -> dict[str, Path]:
        """Files of samples, by what they are to the model."""
        files = {"deleted": self.deleted, "public": self.public, "retained": self.retained}
        return {name: path for name, path in files.items() if path is not None}

    def _name_dataset(self, digests: Mapping[Path, str]) -> str | Mapping[str, Any] | None:
        if self.dataset is not None:
            return self.dataset
        params: dict[str, Any] = {
            name: f"upload:{digests[path]}" for name, path in self._samples.items()
        }
        if not params:
            return None
        if self.input_shape is not None and self._has_pictures:
            # resized to what the model takes
            params |= {"size": self.input_shape[1], "grey": self.input_shape[0] == 1}
        return {"name": "own_samples", "params": {**params, "num_classes": self.num_classes}}

    @property
    def _has_pictures(self) -> bool:
        return any(path.suffix.lower() == ".zip" for path in self._samples.values())
