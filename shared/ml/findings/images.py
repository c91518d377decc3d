"""Reconstructed images: RECONSTRUCTION, scored by every image metric and ranked among decoys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from shared.compatibility import MAX_FEATURES
from shared.errors import InvalidRequest
from shared.evaluation import ClassName, FrozenModel, Label, Number, Rank
from shared.ml import baselines
from shared.ml.context import JobInputs
from shared.ml.decoys import DecoySource, draw_decoys, gather_decoys
from shared.ml.findings._nearest_public import find_nearest_public
from shared.ml.findings._unscored_images import describe_images, read_unscored_pictures
from shared.ml.metrics import registry
from shared.ml.metrics.decoy_rank import measure_distances
from shared.ml.samples import name_classes
from shared.ml.scored_kind import (
    GroundTruth,
    Pictures,
    PublicData,
    ScoredKind,
    ScoredResult,
    Triples,
    UnscoredPictures,
    read_threat_model,
)
from shared.ml.scoring import MetricScale, summarise_metric
from shared.ml.statistics import choose_interval, compute_interval, wilson
from shared.ml.tensors import read_tensors
from shared.plugin_ref import validate_model
from shared.plugins import MetricPlugin
from shared.roles import Role

JSONObject = dict[str, Any]
NO_NETWORKS: Mapping[str, object] = MappingProxyType({})
LEAST_DISTANCE = 1e-10  # 100 dB: an image that is hit exactly
CAPTION_METRIC = "psnr"  # the score in a picture's caption
TRUTH, RECONSTRUCTION, BASELINE = "truth", "reconstruction", "class_mean"
NAMES = (TRUTH, RECONSTRUCTION, BASELINE)  # of the pictures; without public samples, no baseline


class Captions(FrozenModel):
    """Captions of the pictures."""

    psnr: list[Number]
    baseline_psnr: list[Number] = Field(description="empty without public samples")
    ranks: list[Rank | None] = Field(default_factory=list)
    decoy_counts: list[Annotated[int, Field(ge=0, le=1_000_000)]] = Field(default_factory=list)
    labels: list[Label] = Field(default_factory=list)
    names: dict[ClassName, ClassName] = Field(default_factory=dict)


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
        class_means = None
        if len(public.labels):
            class_means = baselines.compute_class_means(public, labels)
            baseline_images[BASELINE] = class_means
            if (nearest := find_nearest_public(ctx, metadata, labels, public)) is not None:
                baseline_images["nearest_public"] = nearest.images
        metrics = score_images(reconstruction, images, baseline_images, truth.networks)
        threat_model = read_threat_model(metadata, self.role)
        decoys = gather_decoys(ctx, truth, _read_observed(threat_model))

        def identify(answer: Tensor) -> JSONObject:
            generator = ctx.make_generator("decoys")
            return identify_truths(answer, images, labels, decoys, ctx.params.decoys, generator)

        ranks = identify(reconstruction)
        if ranks["n"]:
            ranks["above_baseline"] = count_above_baseline(ranks["ranks"], metrics[CAPTION_METRIC])
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
            threat_model,
            details=details,
            pictures=Pictures(
                {TRUTH: images, RECONSTRUCTION: assign(reconstruction, images)}
                | ({} if class_means is None else {BASELINE: class_means}),
                {
                    "labels": labels.flatten().tolist(),
                    "names": name_classes(truth.dataset, labels.flatten().tolist()),
                    CAPTION_METRIC: metrics[CAPTION_METRIC]["values"],
                    f"baseline_{CAPTION_METRIC}": metrics[CAPTION_METRIC]["baseline_values"].get(
                        BASELINE, []
                    ),
                    "ranks": ranks.get("ranks", []),
                    "decoy_counts": ranks.get("decoy_counts", []),
                },
            ),
        )

    def describe(self, ctx: JobInputs, public: PublicData | None) -> ScoredResult:
        return describe_images(ctx, public)

    def read_pictures(
        self, images: Mapping[str, Tensor], about: JSONObject, role: str
    ) -> Triples | UnscoredPictures | str:
        if TRUTH not in images and RECONSTRUCTION in images:
            return read_unscored_pictures(images, about, role)
        captions = validate_model(Captions, about, f"{role}.{self.role}", f"inputs.{role}")
        channels, *sides = _shape(images, captions, role)
        if channels not in (1, 3) and sides != [1, 1]:
            return f"images of {channels} channels, not 1 or 3"
        truth, reconstruction = images[TRUTH], images[RECONSTRUCTION]
        baseline = images.get(BASELINE, truth[:0])
        return Triples(truth, reconstruction, baseline, **captions.model_dump())


KIND = ScoredImages()


def _shape(images: Mapping[str, Tensor], captions: Captions, role: str) -> tuple[int, ...]:
    """C, H, W of the pictures. Refuses shapes that differ, and a number that differs from the
    captions'."""
    shapes = {tuple(images[name].shape) for name in NAMES if name in images}
    shape = next(iter(shapes), ())
    if (
        not images.keys() >= {TRUTH, RECONSTRUCTION}
        or len(shapes) != 1
        or len(shape) != 4
        or 0 in shape
        or shape[1] > MAX_FEATURES
        or any(images[name].dtype != torch.float32 for name in NAMES if name in images)
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
    n = shape[0]
    counts = [len(captions.psnr), len(captions.baseline_psnr)]
    optional = (captions.ranks, captions.decoy_counts, captions.labels)
    if counts != [n, n if BASELINE in images else 0] or any(
        len(some) not in (0, n) for some in optional
    ):
        raise InvalidRequest(
            f"{role}: psnr, baseline_psnr, ranks, decoy_counts and labels must have {n} entries",
            f"inputs.{role}",
        )
    return shape[1:]


def _read_observed(threat_model: JSONObject) -> set[str]:
    """The roles that an attacker was given, as the attack states them."""
    observed = threat_model.get("observes", [])
    return (
        {one for one in observed if isinstance(one, str)} if isinstance(observed, list) else set()
    )


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


def identify_truths(
    reconstruction: Tensor,
    truth: Tensor,
    labels: Tensor,
    source: DecoySource,
    most: int,
    generator: torch.Generator,
) -> JSONObject:
    """Rank of each truth among decoys of its class; see the metric `decoy_rank`.

    A class with few decoys lowers their number for its own samples only. Ranks of one sample at a
    time, so that memory is that of one sample's decoys.

    Args:
        reconstruction: [D, k, C, H, W], like `truth`; `labels` int64 [D, k].
        most: decoys of a sample, at most.
    """
    plugin = registry.get("decoy_rank")
    ranks: list[int | None] = []
    margins: list[float | None] = []
    counts: list[int] = []
    for answer, true, own_labels in zip(reconstruction, truth, labels, strict=True):
        drawn = draw_decoys(source, true, own_labels, most, generator)
        for one, decoys in zip(true, drawn, strict=True):
            counts.append(len(decoys))
            if not len(decoys):
                ranks.append(None)
                margins.append(None)
                continue
            ranks.append(
                int(plugin.target(answer.unsqueeze(0), one.unsqueeze(0), decoys.unsqueeze(0)))
            )
            margins.append(_measure_margin(answer, torch.cat([one.unsqueeze(0), decoys])))
    ranked = [rank for rank in ranks if rank is not None]
    if not ranked:
        return {"n": 0, "decoys": 0}
    size = truth.shape[1]
    by_deletion = [
        [float(rank == 1) for rank in ranks[start : start + size] if rank is not None]
        for start in range(0, len(ranks), size)
    ]
    shares = [fmean(own) for own in by_deletion if own]
    is_proportion = size == 1
    rank_1 = ranked.count(1)
    interval = wilson(rank_1, len(ranked)) if is_proportion else compute_interval(shares)
    low, high = interval or (None, None)
    return {
        "n": len(ranked),
        "decoys": max(counts),
        "rank_1": rank_1,
        "share": rank_1 / len(ranked),
        "low": None if low is None else max(0.0, low),
        "high": None if high is None else min(1.0, high),
        "interval": "wilson" if is_proportion else choose_interval(len(shares)),
        "chance": fmean(1 / (count + 1) for count in counts if count),
        "median_rank": median(ranked),
        "worst_rank": max(ranked),
        "ranks": ranks,
        "decoy_counts": counts,
        "margins": margins,
        "split_auc": source.split_auc,
        "split_auc_limit": source.split_auc_limit,
    }


def _measure_margin(reconstructions: Tensor, candidates: Tensor) -> float:
    """By how many dB the nearest candidate is nearer than the second. [k, C, H, W] and [M, C, H,
    W], M at least 2; at most 100."""
    distances = measure_distances(reconstructions.unsqueeze(0), candidates.unsqueeze(0))[0]
    nearest, second = distances.double().clamp_min(LEAST_DISTANCE).topk(2, largest=False).values
    return 10 * math.log10(second.item() / nearest.item())


def count_above_baseline(ranks: Sequence[int | None], metric: JSONObject) -> int:
    """Identified samples whose score also beats their own baseline: a rank of 1 alone occurs by
    chance, once in decoys + 1."""
    baseline_values = metric["baseline_values"].get(metric["baseline_name"], [])
    sign = 1 if metric["higher_is_better"] else -1
    return sum(
        rank == 1 and sign * own > sign * baseline
        for rank, own, baseline in zip(ranks, metric["values"], baseline_values, strict=True)
    )
