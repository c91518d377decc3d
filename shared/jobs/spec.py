"""What a user posts: one grid of choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.jobs.declared_refs import (
    DECLARED,
    MODEL_PREFIX,
    DeclaredName,
    OptionalDatasetRef,
    WeightsRef,
)
from shared.plugin_ref import PluginRef
from shared.pool import DESCRIPTION, PoolSize

MAX_JOBS = 10_000  # of one audit

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
MethodIndex = Annotated[int, Field(ge=0, le=31)]  # in one of the audit's lists of methods, from 0
TimeLimit = Annotated[float, Field(gt=0, le=365 * 24 * 3600)]  # seconds


class ReleaseFiles(BaseModel):
    """A release of brought models: one file of weights per deletion, all from the same original."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$",
        description="a name of your choice, such as the unlearning method",
    )
    weights: list[WeightsRef] = Field(
        min_length=1,
        max_length=100,
        description="one upload or declared model per deletion, in their order",
    )
    method: PluginRef | None = Field(
        None,
        description="the unlearning method that the release was made by, with its parameters: "
        "shadow deletions repeat it, for p_values; null: not known",
    )


# fields that say how an audit trains and changes models: without meaning if they are brought
TRAINING_FIELDS = (
    "pool", "pretrain", "train", "forget", "unlearning", "defenses", "defend", "sweep", "probe",
    "retraining", "pretrain_seed",
)  # fmt: skip
P_VALUES = "p_values"
MAX_RELEASES = 32
RETRAINED_NAME = "retrained"  # of the release that is added for retrained models


# of one deletion, by seed
RetrainedFiles = Annotated[list[WeightsRef], Field(min_length=1, max_length=16)]


class AuditSpec(BaseModel):
    """An audit. Wherever a plugin is named, a plain name means the plugin with default parameters.
    Choices that are equal once defaults are filled in, and equal seeds, count once.

    `pretrain`, `train`, `forget`, `ingest`, `defend`, `probe`, `candidates`, `shadow`, `retraining`,
    `forgetting` and `evaluate` are parameters of the stages pretrain, train, unlearn, ingest, defend,
    probe, candidates, shadow, retraining, forgetting and evaluate, as the catalog describes them.

    With `original` and `releases`, the audit trains nothing: it attacks models that were brought.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field("audit", min_length=1, max_length=200, description="a name of your choice")
    dataset: OptionalDatasetRef = Field(
        description="where pretraining data, training set and public data come from; null, or left "
        "out, only if models are brought without any samples"
    )
    model: PluginRef = Field(
        description="the architecture; left out if the original is a declared model"
    )
    pool: PoolSize | None = Field(None, description=DESCRIPTION)
    pretrain: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the pretrain stage"
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the train stage, such as size (N)"
    )
    forget: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the unlearn stage: deletions and size (k), or the samples "
        "themselves as rows, ids or files",
    )
    original: WeightsRef | None = Field(
        None,
        description="bring your own models: upload with the weights from before the deletions "
        "(safetensors), or declared model",
    )
    releases: list[ReleaseFiles] = Field(
        default_factory=list,
        max_length=MAX_RELEASES,
        description="bring your own models: the weights from after the deletions",
    )
    retrained: list[RetrainedFiles] = Field(
        default_factory=list,
        max_length=100,
        description="bring your own models: for each deletion, uploads with the weights of models "
        "trained without its samples, one per seed; with at least three seeds it can be measured "
        "whether a release has forgotten. Those of the first seed are also attacked, as a release",
    )
    base: WeightsRef | None = Field(
        None,
        description="bring your own models: upload with the weights that training started from, or "
        "declared model",
    )
    ingest: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the ingest stage, for models that you bring: input_shape, "
        "num_classes and others",
    )
    declared: Mapping[str, DeclaredName] = Field(
        default_factory=dict,
        max_length=4096,
        description="filled in by the gateway: by field, name and version of the declared model or "
        "data set that it was",
    )
    unlearning: list[PluginRef] = Field(
        min_length=1,
        max_length=32,
        description="unlearning methods to compare; of models that you bring, the releases",
    )
    defenses: list[PluginRef] = Field(
        default_factory=lambda: [PluginRef(name="none")],
        min_length=1,
        max_length=32,
        description="defenses to compare",
    )
    defend: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the defend stage, such as max_accuracy_cost",
    )
    sweep: bool = Field(
        False,
        description="release every setting of each defense's grid instead of a single chosen one",
    )
    attacks: list[PluginRef] = Field(
        min_length=1, max_length=32, description="attacks to run against each release"
    )
    probe: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the probe stage, for attacks that only query the models",
    )
    candidates: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the candidates stage, for membership attacks",
    )
    p_values: bool = Field(
        False,
        description="compute p-values for label attacks, from shadow deletions; of models that you "
        "bring, for releases with a method",
    )
    shadow: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the shadow stage, for p_values"
    )
    check_forgetting: bool = Field(
        True,
        description="compare each release with retrained models: was the deleted data forgotten?",
    )
    retraining: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the retraining stage, for check_forgetting, such as seeds",
    )
    forgetting: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of the forgetting stage, for check_forgetting, such as tests",
    )
    evaluate: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the evaluate stage"
    )
    seeds: list[Seed] = Field(
        default_factory=lambda: [0],
        min_length=1,
        max_length=100,
        description="each seed draws its own training set and forget sets",
    )
    pretrain_seed: Seed = Field(
        0, description="seed of the base model, which is the same for all seeds of the audit"
    )
    no_cache: bool = Field(False, description="run all jobs even if identical ones have finished")
    priority: int = Field(0, ge=-100, le=100, description="jobs with a higher priority run first")
    time_limit: TimeLimit | None = Field(
        None, description="time limit of each attempt of a job, in seconds"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_releases(cls, value: Any) -> Any:
        """Brought releases stand where an audit has its unlearning methods; nothing is compared
        with retraining unless retrained models are there."""
        if not isinstance(value, dict):
            return value
        if not (value.get("original") or value.get("releases")):
            # whoever trains needs a data set: null is none
            is_null = "dataset" in value and value["dataset"] is None
            return {n: v for n, v in value.items() if n != "dataset"} if is_null else value
        if not value.get("original") or not value.get("releases"):
            raise ValueError("bring both: original, and at least one release")
        if not isinstance(value["releases"], list):
            return value  # refused as a field
        releases = add_retrained_release(value["releases"], value.get("retrained"))
        if _is_declared(value["original"]) and "model" not in value:
            value = {**value, "model": DECLARED}
        names = [one["name"] for one in releases if isinstance(one, dict) and "name" in one]
        return {
            "dataset": None,
            **value,
            "releases": releases,
            "unlearning": value.get("unlearning") or names,
            "check_forgetting": value.get("check_forgetting", bool(value.get("retrained"))),
        }

    @model_validator(mode="after")
    def _check_origin(self) -> AuditSpec:
        if not self.is_brought:
            if self.base or self.ingest or self.retrained:
                raise ValueError(
                    "base, retrained and ingest belong to models that you bring: set original too"
                )
            return self
        names = [release.name for release in self.releases]
        if len(set(names)) < len(names):
            raise ValueError("two releases have the same name: rename one of them")
        if [choice.name for choice in self.unlearning] != names:
            raise ValueError(
                "unlearning has no meaning for models that you bring: remove it from the audit"
            )
        if len({len(release.weights) for release in self.releases}) > 1:
            raise ValueError("all releases must be of the same deletions: one upload for each")
        self.check_retrained()
        fields = type(self).model_fields
        if self.base and "training_set" not in self.ingest:
            raise ValueError(
                "the exact estimate with base needs N: set ingest.training_set to the number of "
                "samples that the original was trained on"
            )
        for name in TRAINING_FIELDS:
            expected = {"unlearning": self.unlearning}.get(
                name, fields[name].get_default(call_default_factory=True)
            )
            if getattr(self, name) != expected:
                raise ValueError(
                    f"{name} has no meaning for models that you bring: remove it from the audit"
                )
        return self

    def check_retrained(self) -> None:
        """Refuse retrained models that do not belong to the deletions, or are not several trainings.

        Raises:
            ValueError: says which.
        """
        if not self.retrained:
            if self.check_forgetting or self.forgetting:
                raise ValueError(
                    "whether samples were forgotten is measured with models trained without them: "
                    "bring some as retrained, or remove check_forgetting and forgetting"
                )
            return
        if self.dataset is None or self.ingest.get("with_deleted") is False:
            raise ValueError(
                "retrained models are compared on the deleted samples: bring these too"
            )
        deletions = len(self.releases[0].weights)
        if len(self.retrained) != deletions:
            raise ValueError(
                f"retrained must list the models of {deletions} deletions, as the releases do, not "
                f"of {len(self.retrained)}"
            )
        if len({len(seeds) for seeds in self.retrained}) > 1:
            raise ValueError("retrained must have as many seeds for each deletion")
        files = [sha256 for seeds in self.retrained for sha256 in seeds]
        if self.original in files:
            raise ValueError("a retrained model is the original: it was not trained again")
        if len({*files}) < len(files):
            raise ValueError(
                "one file is two of the retrained models: each must be a training of its own"
            )

    def is_exact(self, release: int) -> bool:
        """Whether that release is made of retrained models, which never saw the deleted samples."""
        weights = self.releases[release].weights
        return len(weights) == len(self.retrained) and all(
            one in seeds for one, seeds in zip(weights, self.retrained, strict=True)
        )

    def is_set(self, flag: str, release: int | None) -> bool:
        """Whether a field that switches a stage on is true; of p-values of a release that was
        brought, whether it also says by which method it was made."""
        has_method = not self.releases or release is None or self.releases[release].method
        return getattr(self, flag) is True and (flag != P_VALUES or has_method is not None)

    @property
    def is_brought(self) -> bool:
        """Whether the audit attacks models that a user has brought."""
        return bool(self.original or self.releases)


def _is_declared(original: Any) -> bool:
    """Whether it is a declared model, before it is validated."""
    return isinstance(original, dict) or str(original).startswith(MODEL_PREFIX)


def add_retrained_release(releases: Any, retrained: Any) -> Any:
    """The releases as they were posted, and one of the retrained models of the first seed: what an
    exact deletion leaks. None is added where it is among them already, or what was posted has
    another form, which is refused later."""
    try:
        first = [seeds[0] for seeds in retrained or ()]
        taken = {one["name"]: one["weights"] for one in releases}
        fits = all(len(weights) == len(first) for weights in taken.values())
    except (TypeError, LookupError):
        return releases
    if not first or not fits or first in taken.values() or len(releases) >= MAX_RELEASES:
        return releases
    others = [f"{RETRAINED_NAME}-{n}" for n in range(2, MAX_RELEASES + 2)]
    name = next(name for name in (RETRAINED_NAME, *others) if name not in taken)
    return [*releases, {"name": name, "weights": first}]


class PlannedRow(BaseModel):
    """A row that the report of an audit should have: an attack on a release, or without one what
    the release is worth.

    Methods are named by their places in the audit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    seed: Seed
    unlearning: MethodIndex
    defense: MethodIndex
    attack: MethodIndex | None
    adaptive_too: bool = Field(
        False,
        description=(
            "whether the audit also asked for the adaptive attack, which is the same as the plain "
            "one here"
        ),
    )
    evaluation: str = Field(
        max_length=40,
        description="the role of the input that holds it, such as EVALUATION_7; empty if the "
        "attack was not planned",
    )
    not_planned: str | None = Field(
        None, max_length=600, description="why there is no such attack: a sentence"
    )

    @property
    def report_position(self) -> tuple[int, int, int]:
        """Where it stands in the report; what a release is worth comes before the attacks on it."""
        return self.unlearning, self.defense, -1 if self.attack is None else self.attack


class PlannedMeasurement(BaseModel):
    """What a further stage measured, and of what; null where it is of all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stage: str = Field(max_length=40)
    seed: Seed | None = None
    unlearning: MethodIndex | None = None
    defense: MethodIndex | None = None
    attack: MethodIndex | None = None
    metrics: str = Field(
        max_length=40, description="the role of the input that holds it, such as METRICS_7"
    )


class PlannedRetention(BaseModel):
    """For how many days the service that planned an audit keeps what is told of in its report;
    null: for ever."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reconstructions_days: float | None = Field(gt=0, description="what shows or names samples")
    audits_days: float | None = Field(gt=0, description="audits, from the end of their last job on")
    uploads_days: float | None = Field(gt=0, description="uploads that no declaration names")
