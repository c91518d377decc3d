"""A kind of finding, for evaluation: which artifact an attack writes, and how it is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.context import JobInputs
from shared.ml.records import ForgetSets
from shared.ml.samples import Dataset, Samples

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
class Pictures:
    """Images by name, [D, k, C, H, W] in [0, 1], and their captions."""

    images: Mapping[str, Tensor]
    metadata: JSONObject


@dataclass(frozen=True)
class Triples:
    """Pictures that a report shows: truth, reconstruction and baseline, [n, C, H, W] each.

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

    def read_pictures(
        self,
        images: Mapping[str, Tensor],  # noqa: ARG002 - most kinds show none
        about: JSONObject,  # noqa: ARG002 - as above
        role: str,  # noqa: ARG002 - as above
    ) -> Triples | str:
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
