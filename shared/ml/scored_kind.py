"""What a kind of finding is to the science: which artifact an attack leaves, and what that is
worth."""

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

    `labels` int64 [D, k], the classes of the forgotten samples. `public` are samples that anybody
    has: baselines and decoys are made of them. `networks` by role are what metrics need besides
    images.
    """

    forget_sets: ForgetSets
    labels: Tensor
    dataset: Dataset
    public: Samples
    networks: Mapping[str, nn.Module]


@dataclass(frozen=True)
class Pictures:
    """Images by name, [D, k, C, H, W] in [0, 1], and what stands under them."""

    images: Mapping[str, Tensor]
    metadata: JSONObject


@dataclass(frozen=True)
class Triples:
    """Pictures that a report shows: what was deleted, what came back, and what needs no attack.
    Each [n, C, H, W].

    `ranks` and `labels` have n entries or none; `names` are those of the classes, by label.
    """

    truth: Tensor
    reconstruction: Tensor
    null: Tensor
    psnr: Sequence[float]
    baseline_psnr: Sequence[float]
    ranks: Sequence[int]
    labels: Sequence[int]
    names: Mapping[str, str]
    decoys: int


@dataclass(frozen=True)
class ScoredResult:
    """What a result is worth.

    `metrics` by name are each a `shared.evaluation.Measured`, as JSON (`shared.ml.scoring.summary`
    makes them), and `details` further fields of EVALUATION. `threat_model` is what the attack says
    of itself, {} if nothing.
    """

    metrics: JSONObject
    threat_model: JSONObject
    details: JSONObject = field(default_factory=dict)
    pictures: Pictures | None = None


class ScoredKind(ABC):
    """A kind of finding. `shared/ml/findings` has a module for each, with an instance called
    KIND."""

    role: str  # the artifact of attacks of this kind
    uses: tuple[str, ...] = ()  # further artifacts that it is scored with, where they are given

    @abstractmethod
    def score(self, ctx: JobInputs, truth: GroundTruth) -> ScoredResult:
        """Read the artifact and score it beside its baselines.

        Raises:
            InvalidRequest: the artifact is not what its role says, or does not fit the truth.
        """

    def read_pictures(
        self,
        images: Mapping[str, Tensor],  # noqa: ARG002 - most kinds show none
        about: JSONObject,  # noqa: ARG002 - as above
        role: str,  # noqa: ARG002 - as above
    ) -> Triples | str:
        """The pictures of a result as `Scored.pictures` has them, deletions and samples flattened
        into one dimension.

        Args:
            images: by name, of whatever type and shape: they may be anyone's.
            about: what stands under them.
            role: of the input that holds them.

        Returns:
            what a report shows, or why it shows nothing.

        Raises:
            InvalidRequest: they are not what this kind writes.
        """
        return "no report shows those"


def read_threat_model(metadata: Mapping[str, Any], role: str) -> JSONObject:
    """What an artifact says of the attack that made it, {} where it says nothing.

    Raises:
        InvalidRequest: it says something that is no threat model.
    """
    threat_model = metadata.get("threat_model") or {}
    if not isinstance(threat_model, dict) or (
        threat_model and not isinstance(threat_model.get("attack"), str)
    ):
        raise InvalidRequest(f"{role}: threat_model must name the attack", f"inputs.{role}")
    return threat_model
