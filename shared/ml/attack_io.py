"""What attacks are given (views) and what they return (results). Neither contains the truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.networks import Networks
from shared.ml.oracles import Oracle
from shared.ml.records import DeletionSizes, write_json
from shared.ml.samples import Samples
from shared.ml.tensors import write_tensors
from shared.roles import Role


@dataclass(frozen=True)
class WhiteBoxView:
    """The roles that the attack's `needs` and `uses` name; all others are None.

    `unlearned` holds D networks, one per deletion; `labels` int64 [D, k]; `candidates` C samples,
    some of them forgotten, the same for all deletions. `coordinate_weights` are set for an adaptive
    attacker: by parameter name [D, *shape], the weight of each coordinate of a change, from 0; None
    if all count the same.
    """

    original: Networks
    unlearned: Networks
    base: Networks | None = None
    deletion_sizes: DeletionSizes | None = None
    labels: Tensor | None = None
    coordinate_weights: dict[str, Tensor] | None = None
    candidates: Samples | None = None

    @property
    def deletion_size(self) -> int:
        """k as far as the attacker knows: from LABELS or DELETION_SIZES, else 1."""
        if self.labels is not None:
            return self.labels.shape[1]
        return self.deletion_sizes.k if self.deletion_sizes is not None else 1

    @property
    def num_guesses(self) -> int:
        """Number of classes to guess, as far as the attacker knows: one per sample, or as
        DELETION_SIZES says."""
        return (
            self.deletion_sizes.num_guesses
            if self.labels is None and self.deletion_sizes is not None
            else self.deletion_size
        )

    def require_base(self) -> tuple[Networks, DeletionSizes]:
        """BASE and DELETION_SIZES.

        Raises:
            InvalidRequest: one is missing.
        """
        if self.base is None or self.deletion_sizes is None:
            raise InvalidRequest(
                "an estimate from the base model needs BASE and DELETION_SIZES",
                f"inputs.{Role.BASE}",
            )
        return self.base, self.deletion_sizes

    def require_candidates(self) -> Samples:
        """CANDIDATES.

        Raises:
            InvalidRequest: they are missing.
        """
        if self.candidates is None:
            raise InvalidRequest("this attack needs CANDIDATES", f"inputs.{Role.CANDIDATES}")
        return self.candidates


@dataclass(frozen=True)
class ProbeView:
    """What attacks that need PROBES see: two prediction APIs per deletion, and probes for them.

    `before` and `after` hold D APIs each: the model that each deletion started from (often the same
    one), and the released model. `probes` [K, m, C, H, W], m for each class.
    """

    before: Sequence[Oracle]
    after: Sequence[Oracle]
    probes: Tensor
    deletion_sizes: DeletionSizes | None = None

    @property
    def deletions(self) -> int:
        return len(self.after)

    @property
    def num_guesses(self) -> int:
        """Number of classes to guess, as far as the attacker knows."""
        return self.deletion_sizes.num_guesses if self.deletion_sizes is not None else 1

    @property
    def query_count(self) -> int:
        """Queries so far, of all models; one that several deletions started from counts once."""
        return sum(oracle.query_count for oracle in {*self.before, *self.after})


@dataclass(frozen=True)
class CandidateView:
    """What attacks that need CANDIDATES see: samples, some of them forgotten, and APIs to query
    with them.

    `candidates` are C samples, the same for all deletions; `after` D released models; `before` the
    model that each deletion started from, empty without ORIGINAL; `population` public samples, None
    without POPULATION.
    """

    candidates: Samples
    after: Sequence[Oracle]
    before: Sequence[Oracle] = ()
    population: Samples | None = None

    @property
    def deletions(self) -> int:
        return len(self.after)

    @property
    def query_count(self) -> int:
        """Queries so far, of all models; one that several deletions started from counts once."""
        return sum(oracle.query_count for oracle in {*self.before, *self.after})


@dataclass(frozen=True)
class Result(ABC):
    """The result of an attack, of one kind: see `shared.ml.findings`.

    `role` is the artifact that it is written to; `releases_compared` says how many released models
    each answer uses; `batch_size` how many trials of a search shared a pass at most, 0 without a
    search; `fallbacks` [D] why no two images of a deletion shared one, "" where they could. In the
    fields of a kind, tensors [D, ...], lists and tuples hold one entry per deletion, and dicts hold
    tensors by name for the first R deletions. Of numbers the largest over all groups counts;
    anything else must be equal for all deletions. Entries are JSON values or tuples of them;
    classes may inherit from each other.
    """

    role: ClassVar[str]
    media_type: ClassVar[str] = "application/octet-stream"
    releases_compared: int = field(default=1, kw_only=True)
    batch_size: int = field(default=0, kw_only=True)
    fallbacks: list[str] | None = field(default=None, kw_only=True)

    @abstractmethod
    def write(self, threat_model: dict[str, Any]) -> bytes:
        """The artifact's bytes, including the threat model."""


@dataclass(frozen=True)
class Reconstruction(Result):
    """`images` [D, k, C, H, W], `labels` [D, k] that they were optimised for, `matching_loss` [D]
    in [0, 2].

    `gradient_sources` [D] names the gradient estimate of each deletion: `pair` or `base`, from
    which evaluate makes a baseline, or any other word of the attack. `controls` by name [R, k, C,
    H, W]: what the same search returns, for the first R deletions, given something unrelated to
    them; `control_losses` by name [R], how well that matches. `alternatives` by name [D, k, C, H,
    W]: further answers, scored beside `images`.
    """

    role = Role.RECONSTRUCTION

    images: Tensor
    labels: Tensor
    matching_loss: Tensor
    gradient_sources: list[str]
    controls: dict[str, Tensor] = field(default_factory=dict)
    control_losses: dict[str, Tensor] = field(default_factory=dict)
    alternatives: dict[str, Tensor] = field(default_factory=dict)

    def write(self, threat_model: dict[str, Any]) -> bytes:
        tensors = {
            "images": self.images,
            "labels": self.labels,
            "matching_loss": self.matching_loss,
        }
        tensors |= {f"control.{name}": images for name, images in self.controls.items()}
        tensors |= {f"control_loss.{name}": loss for name, loss in self.control_losses.items()}
        tensors |= {f"alternative.{name}": images for name, images in self.alternatives.items()}
        return write_tensors(
            tensors, {"threat_model": threat_model, "gradient_sources": self.gradient_sources}
        )


@dataclass(frozen=True)
class LabelGuesses(Result):
    """`labels` [D, k], the classes guessed to be forgotten, `scores` [D, K], lower is likelier."""

    role = Role.ANSWERS
    media_type = "application/json"

    labels: Tensor
    scores: Tensor

    def write(self, threat_model: dict[str, Any]) -> bytes:
        values = {"labels": self.labels.tolist(), "scores": self.scores.tolist()}
        return write_json({**values, "threat_model": threat_model})


@dataclass(frozen=True)
class MembershipScores(Result):
    """`scores` float64 [D, C], one per candidate and deletion; higher means more likely
    forgotten."""

    role = Role.SCORES

    scores: Tensor

    def write(self, threat_model: dict[str, Any]) -> bytes:
        return write_tensors({"scores": self.scores}, {"threat_model": threat_model})
