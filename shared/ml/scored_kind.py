"""A kind of finding, for evaluation: which artifact an attack writes, and how it is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.context import JobInputs
from shared.ml.records import ForgetSets
from shared.ml.samples import Dataset, Samples, name_classes
from shared.roles import Role

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class GroundTruth:
    """What results are scored against.

    `labels` int64 [D, k], the classes of the forgotten samples. `public` are samples that everyone
    has: baselines and decoys are drawn from them. `networks` by role are those that metrics need.
    """

    forget_sets: ForgetSets
    labels: Tensor
    dataset: Dataset
    public: Samples
    networks: Mapping[str, nn.Module]


@dataclass(frozen=True)
class PublicData:
    """What there is without a truth: public samples, and the data set that they are of."""

    dataset: Dataset
    samples: Samples

    def name_classes(self, labels: Iterable[int]) -> dict[str, str]:
        """As `shared.ml.samples.name_classes`."""
        return name_classes(self.dataset, labels)


@dataclass(frozen=True)
class Pictures:
    """Images by name, [D, k, C, H, W] in [0, 1], and their captions."""

    images: Mapping[str, Tensor]
    metadata: JSONObject


@dataclass(frozen=True)
class Triples:
    """Pictures that a report shows: truth, reconstruction and baseline, [n, C, H, W] each; without
    public samples there are no baselines, and `baseline` and `baseline_psnr` are empty.

    `ranks`, `decoy_counts` and `labels` have n entries or none; `names` are the class names, by
    label.
    """

    truth: Tensor
    reconstruction: Tensor
    baseline: Tensor
    psnr: Sequence[float]
    baseline_psnr: Sequence[float]
    ranks: Sequence[int | None]
    decoy_counts: Sequence[int]
    labels: Sequence[int]
    names: Mapping[str, str]


@dataclass(frozen=True)
class UnscoredPictures:
    """Pictures of a result that no truth was brought for, [n, C, H, W] each, n = D k.

    `control` is what the same search returned for a random direction, for the first ones (at most
    n); `public` the public samples nearest to each reconstruction, n or none. `losses` have n
    entries, `control_losses` as many as `control`; `names` are the class names, by label.
    """

    reconstruction: Tensor
    control: Tensor
    public: Tensor
    losses: Sequence[float]
    control_losses: Sequence[float]
    labels: Sequence[int]
    names: Mapping[str, str]


@dataclass(frozen=True)
class ScoredResult:
    """A scored result.

    `metrics` are by name, each a `shared.evaluation.MetricResult` as JSON (made by
    `shared.ml.scoring.summarise_metric`); `details` are further fields of EVALUATION.
    `threat_model` is as the attack states it, {} if it does not.
    """

    metrics: JSONObject
    threat_model: JSONObject
    details: JSONObject = field(default_factory=dict)
    pictures: Pictures | None = None


class ScoredKind(ABC):
    """A kind of finding. `shared/ml/findings` has a module for each, with an instance called
    KIND."""

    role: str  # the artifact of attacks of this kind
    uses: tuple[str, ...] = ()  # further artifacts for scoring, if given

    @abstractmethod
    def score(self, ctx: JobInputs, truth: GroundTruth) -> ScoredResult:
        """Read the artifact and score it against its baselines.

        Raises:
            InvalidRequest: the artifact is not what its role says, or does not fit the truth.
        """

    def describe(
        self,
        ctx: JobInputs,  # noqa: ARG002 - most kinds are nothing without a truth
        public: PublicData | None,  # noqa: ARG002 - as above
    ) -> ScoredResult:
        """Read the artifact where no truth was brought: no metrics, but what was returned, as
        `details["unscored"]`, and pictures without a truth.

        Args:
            public: samples of the same kind, if any were brought.

        Raises:
            InvalidRequest: the artifact is not what its role says, or says nothing by itself.
        """
        raise InvalidRequest(
            f"{self.role} says nothing without the deleted samples: bring them",
            f"inputs.{Role.FORGET_SETS}",
        )

    def read_pictures(
        self,
        images: Mapping[str, Tensor],  # noqa: ARG002 - most kinds show none
        about: JSONObject,  # noqa: ARG002 - as above
        role: str,  # noqa: ARG002 - as above
    ) -> Triples | UnscoredPictures | str:
        """The pictures of a result, as `ScoredResult.pictures` has them, with deletions and samples
        flattened into one dimension.

        Args:
            images: by name, of any type and shape: they are untrusted.
            about: their captions.
            role: of the input that holds them.

        Returns:
            what a report shows, or the reason why it shows nothing.

        Raises:
            InvalidRequest: they are not what this kind writes.
        """
        return "no report shows those"


def read_threat_model(metadata: Mapping[str, Any], role: str) -> JSONObject:
    """The threat model that an artifact states, {} if it states none.

    Raises:
        InvalidRequest: it is not a threat model.
    """
    threat_model = metadata.get("threat_model") or {}
    if not isinstance(threat_model, dict) or (
        threat_model and not isinstance(threat_model.get("attack"), str)
    ):
        raise InvalidRequest(f"{role}: threat_model must name the attack", f"inputs.{role}")
    return threat_model
