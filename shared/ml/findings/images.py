"""Reconstructed images: RECONSTRUCTION, scored by every image metric and ranked among decoys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from shared.compatibility import MAX_FEATURES
from shared.errors import InvalidRequest
from shared.evaluation import ClassName, FrozenModel, Label, Number
from shared.ml import baselines
from shared.ml.context import JobInputs
from shared.ml.findings._nearest_public import find_nearest_public
from shared.ml.metrics import registry
from shared.ml.samples import Samples, name_classes
from shared.ml.scored_kind import (
    GroundTruth,
    Pictures,
    ScoredKind,
    ScoredResult,
    Triples,
    read_threat_model,
)
from shared.ml.scoring import MetricScale, average_per_deletion, summarise_metric
from shared.ml.statistics import bca, wilson
from shared.ml.tensors import read_tensors
from shared.plugin_ref import validate_model
from shared.plugins import MetricPlugin
from shared.roles import Role

JSONObject = dict[str, Any]
NO_NETWORKS: Mapping[str, object] = MappingProxyType({})
CHANCE_DRAWS = 20  # decoys drawn in place of a reconstruction, if chance must be measured
CAPTION_METRIC = "psnr"  # the score in a picture's caption
NAMES = ("truth", "reconstruction", "class_mean")  # of the pictures


class Captions(FrozenModel):
    """Captions of the pictures."""

    psnr: list[Number]
    baseline_psnr: list[Number]
    ranks: list[Annotated[int, Field(ge=1, le=1_000_001)]] = Field(default_factory=list)
    labels: list[Label] = Field(default_factory=list)
    names: dict[ClassName, ClassName] = Field(default_factory=dict)
    decoys: int = Field(0, ge=0, le=1_000_000)


class ScoredImages(ScoredKind):
    """Which samples were forgotten, as images or rows of a table."""

    role = Role.RECONSTRUCTION
    uses = (
        Role.ORIGINAL,
        Role.UNLEARNED,
        Role.BASE,
        Role.DELETION_SIZES,
        Role.DEFENSE,
        Role.PUBLIC,
    )

    def score(self, ctx: JobInputs, truth: GroundTruth) -> ScoredResult:
        images, labels, public = truth.forget_sets.load_images(), truth.labels, truth.public
        reconstruction, baseline_images, alternatives, metadata = _read_reconstruction(
            ctx.read_input(self.role), images
        )
        baseline_images["class_mean"] = baselines.compute_class_means(public, labels)
        if (nearest := find_nearest_public(ctx, metadata, labels, public)) is not None:
            baseline_images["nearest_public"] = nearest
        metrics = score_images(reconstruction, images, baseline_images, truth.networks)

        def identify(candidate: Tensor) -> JSONObject:
            generator = ctx.make_generator("decoys")
            return identify_truths(candidate, images, labels, public, ctx.params.decoys, generator)

        ranks = identify(reconstruction)
        details: JSONObject = {"identification": ranks}
        if alternatives:
            details["alternatives"] = {
                name: {
                    "values": {
                        metric: part["values"]
                        for metric, part in score_images(
                            alternative, images, {}, truth.networks
                        ).items()
                    },
                    "identification": identify(alternative),
                }
                for name, alternative in alternatives.items()
            }
        return ScoredResult(
            metrics,
            read_threat_model(metadata, self.role),
            details=details,
            pictures=Pictures(
                dict(
                    zip(
                        NAMES,
                        (images, assign(reconstruction, images), baseline_images["class_mean"]),
                        strict=True,
                    )
                ),
                {
                    "labels": labels.flatten().tolist(),
                    "names": name_classes(truth.dataset, labels.flatten().tolist()),
                    CAPTION_METRIC: metrics[CAPTION_METRIC]["values"],
                    f"baseline_{CAPTION_METRIC}": metrics[CAPTION_METRIC]["baseline_values"][
                        "class_mean"
                    ],
                    "ranks": ranks.get("ranks", []),
                    "decoys": ranks["decoys"],
                },
            ),
        )

    def read_pictures(
        self, images: Mapping[str, Tensor], about: JSONObject, role: str
    ) -> Triples | str:
        captions = validate_model(Captions, about, f"{role}.{self.role}", f"inputs.{role}")
        channels, *sides = _shape(images, captions, role)
        if channels not in (1, 3) and sides != [1, 1]:
            return f"images of {channels} channels, not 1 or 3"
        truth, reconstruction, baseline = (images[name] for name in NAMES)
        return Triples(truth, reconstruction, baseline, **captions.model_dump())


KIND = ScoredImages()


def _shape(images: Mapping[str, Tensor], captions: Captions, role: str) -> tuple[int, ...]:
    """C, H, W of the pictures. Refuses shapes that differ, and a number that differs from the
    captions'."""
    shapes = {tuple(images[name].shape) for name in NAMES if name in images}
    shape = next(iter(shapes), ())
    if (
        not images.keys() >= set(NAMES)
        or len(shapes) != 1
        or len(shape) != 4
        or 0 in shape
        or shape[1] > MAX_FEATURES
        or any(images[name].dtype != torch.float32 for name in NAMES)
    ):
        got = {
            name: f"{some.dtype} {list(some.shape)}"
            for name, some in images.items()
            if name in NAMES
        }
        raise InvalidRequest(
            f"{role} must hold {', '.join(NAMES)}, float32 [n, C, H, W] of one shape, with at "
            f"most {MAX_FEATURES} channels or features, got {got}",
            f"inputs.{role}",
        )
    counts, n = {len(captions.psnr), len(captions.baseline_psnr)}, shape[0]
    if counts != {n} or any(len(some) not in (0, n) for some in (captions.ranks, captions.labels)):
        raise InvalidRequest(
            f"{role}: psnr, baseline_psnr, ranks and labels must have {n} entries",
            f"inputs.{role}",
        )
    return shape[1:]


def _read_reconstruction(
    data: bytes, truth: Tensor
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], JSONObject]:
    """The images, the control images and the alternative answers by name, and the metadata."""
    tensors, metadata = read_tensors(data, Role.RECONSTRUCTION)
    images = tensors.get("images")
    if images is None or images.shape != truth.shape or images.dtype != truth.dtype:
        raise InvalidRequest(
            f"RECONSTRUCTION must hold float32 'images' {list(truth.shape)}, one per sample of "
            "FORGET_SETS",
            f"inputs.{Role.RECONSTRUCTION}",
        )
    controls = {
        n.removeprefix("control."): t.clamp(0, 1)
        for n, t in tensors.items()
        if n.startswith("control.")
    }
    for name, control in controls.items():
        if (
            control.shape[1:] != truth.shape[1:]
            or not 1 <= len(control) <= len(truth)
            or control.dtype != truth.dtype
        ):
            raise InvalidRequest(
                f"RECONSTRUCTION: 'control.{name}' must hold images of the first deletions",
                f"inputs.{Role.RECONSTRUCTION}",
            )
    alternatives = {
        n.removeprefix("alternative."): t.clamp(0, 1)
        for n, t in tensors.items()
        if n.startswith("alternative.")
    }
    for name, alternative in alternatives.items():
        if alternative.shape != truth.shape or alternative.dtype != truth.dtype:
            raise InvalidRequest(
                f"RECONSTRUCTION: 'alternative.{name}' must be like 'images'",
                f"inputs.{Role.RECONSTRUCTION}",
            )
    return images.clamp(0, 1), controls, alternatives, metadata


def find_assignment(reconstruction: Tensor, truth: Tensor) -> Tensor:
    """Assign each deletion's k images to its k truths by total squared distance (Hungarian method).

    Attackers do not know the order. [D, k, C, H, W] twice -> int64 [D, k].
    """
    deletions, size = truth.shape[:2]
    if size == 1:
        return torch.zeros(deletions, 1, dtype=torch.int64)
    # imported here: it takes 0.4 seconds, and is not needed for one sample per deletion
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(truth.flatten(2).double(), reconstruction.flatten(2).double()).square()
    return torch.stack([torch.from_numpy(linear_sum_assignment(one.numpy())[1]) for one in cost])


def assign(reconstruction: Tensor, truth: Tensor) -> Tensor:
    """Order each deletion's k images by the truth they are assigned to. [D, k, C, H, W] twice ->
    [D, k, C, H, W]."""
    return reconstruction[
        torch.arange(len(truth)).unsqueeze(1), find_assignment(reconstruction, truth)
    ]


def is_applicable(
    plugin: MetricPlugin, shape: Sequence[int], networks: Mapping[str, object]
) -> bool:
    """Whether a metric compares images, is defined for this shape [C, H, W], and has the networks
    it needs."""
    channels, *sides = shape
    return (
        plugin.takes in ("image", "embedding")
        and min(sides) >= plugin.min_size
        and (plugin.channels is None or channels in plugin.channels)
        and networks.keys() >= set(plugin.needs)
    )


def _build_scorer(
    plugin: MetricPlugin, images: Tensor, networks: Mapping[str, object]
) -> baselines.ScoreFunction:
    """A function of rows: (rows of reconstructions [D], rows of truths [D]) -> float64 [D * k].

    Features of an image are computed once, however often it is compared.

    Args:
        images: truths, reconstructions and baselines, [M, k, C, H, W].
    """
    needed = [networks[role] for role in plugin.needs]
    features = images
    if plugin.takes == "embedding":
        features = plugin.target(images.flatten(0, 1), *needed).unflatten(0, images.shape[:2])

    def score(reconstruction_rows: Tensor, truth_rows: Tensor) -> Tensor:
        order = find_assignment(images[reconstruction_rows], images[truth_rows])
        left, right = (
            features[reconstruction_rows.unsqueeze(1), order].flatten(0, 1),
            features[truth_rows].flatten(0, 1),
        )
        if plugin.takes == "embedding":
            return (left - right).square().sum(1).double()
        scores: Tensor = plugin.target(left, right, *needed)
        return scores.double()

    return score


def score_images(
    reconstruction: Tensor,
    truth: Tensor,
    baseline_images: Mapping[str, Tensor],
    networks: Mapping[str, object] = NO_NETWORKS,
) -> JSONObject:
    """Score by every metric that compares images, with its baselines. Images [D, k, C, H, W] in [0,
    1].

    Args:
        baseline_images: by name, like `reconstruction`; those with fewer deletions cover the first
            ones.
        networks: those that metrics need, by role. A metric that lacks one, or is not defined for
            this size or number of channels, is left out.
    """
    metrics: JSONObject = {}
    sets = [truth, reconstruction, *baseline_images.values()]
    images = torch.cat(sets)
    truth_rows, reconstruction_rows, *baseline_rows = torch.arange(len(images)).split(
        [len(each) for each in sets]
    )
    for plugin in registry:
        if not is_applicable(plugin, truth.shape[2:], networks):
            continue
        score = _build_scorer(plugin, images, networks)
        scores = {
            name: score(at, truth_rows[: len(at)]).tolist()
            for name, at in zip(baseline_images, baseline_rows, strict=True)
        }
        partial_baselines = {
            name: scores.pop(name)
            for name, images_of in baseline_images.items()
            if len(images_of) < len(truth)
        }
        permuted = baselines.score_permuted_truth(score, reconstruction_rows, truth_rows)
        if permuted is not None:
            scores["permuted_truth"] = permuted.tolist()
        metrics[plugin.name] = summarise_metric(
            MetricScale.from_plugin(plugin),
            score(reconstruction_rows, truth_rows).tolist(),
            scores,
            False,
            partial_baselines,
            truth.shape[1],
        )
    return metrics


def _measure_chance(
    rank_truths: Callable[[Tensor, Tensor], list[int]],
    decoys: Tensor,
    truth: Tensor,
    generator: torch.Generator,
) -> float:
    """How often a decoy in place of the reconstruction is identified with the truth.

    With several samples per deletion that is more than 1 in M + 1: each is assigned to the truth it
    fits best.
    """
    n, count = decoys.shape[:2]
    rows, hits = torch.arange(n), []
    for _ in range(CHANCE_DRAWS):
        picks = torch.randint(count, (n,), generator=generator)
        remaining = torch.ones(n, count, dtype=torch.bool)
        remaining[rows, picks] = False
        stand_in = decoys[rows, picks].view(truth.shape)
        ranks = rank_truths(stand_in, decoys[remaining].view(n, count - 1, *decoys.shape[2:]))
        hits.append(fmean(float(rank == 1) for rank in ranks))
    return fmean(hits)


def identify_truths(
    reconstruction: Tensor,
    truth: Tensor,
    labels: Tensor,
    public: Samples,
    decoys: int,
    generator: torch.Generator,
) -> JSONObject:
    """Rank of each truth among public images of its class; see the metric `decoy_rank`.

    A class with fewer than `decoys` public samples reduces their number for all, so that ranks are
    comparable.
    """
    plugin = registry.get("decoy_rank")
    pools = [(public.labels == label).nonzero().flatten() for label in labels.flatten().tolist()]
    count = min(decoys, *(len(pool) for pool in pools))
    if count == 0:
        return {"n": 0, "decoys": 0}
    picks = torch.stack(
        [pool[torch.randperm(len(pool), generator=generator)[:count]] for pool in pools]
    )
    decoy_images, size = public.images[picks], truth.shape[1]

    def rank_truths(images: Tensor, decoys: Tensor) -> list[int]:
        ranks: list[int] = plugin.target(
            assign(images, truth).flatten(0, 1), truth.flatten(0, 1), decoys
        ).tolist()
        return ranks

    ranks = rank_truths(reconstruction, decoy_images)
    identified = [float(rank == 1) for rank in ranks]
    chance, interval = 1 / (count + 1), wilson(sum(identified), len(identified))
    if size > 1:
        chance, interval = (
            _measure_chance(rank_truths, decoy_images, truth, generator),
            bca(average_per_deletion(identified, size)),
        )
    low, high = interval or (None, None)
    return {
        "n": len(ranks),
        "decoys": count,
        "rank_1": int(sum(identified)),
        "share": fmean(identified),
        "low": low,
        "high": high,
        "interval": "wilson" if size == 1 else "bca",
        "chance": chance,
        "median_rank": median(ranks),
        "worst_rank": max(ranks),
        "ranks": ranks,
    }
