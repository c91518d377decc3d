"""Sanity of a brought pair before any attack: what moved between two files of weights, and whether
the models behave as an original and its release would.

A finding is `refused` (an attack would only measure an error), a `warning` (go on, but look) or a
`note`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.ingest._expected import TensorMap, map_tensors
from shared.ml.ingest._mismatch import shorten
from shared.ml.ingest.weights import RESOLUTIONS, ReadWeights
from shared.ml.records import Record
from shared.ml.tensors import DTYPES

Severity = Literal["refused", "warning", "note"]
# The cosine of kernels and matrices was at most 0.02 between models of different initial weights, and
# at least 0.61 between trainings from the same ones (docs/own-models.md). Two vectors of one length
# and a cosine of 0.3 differ by 1.2 times their length.
UNRELATED_COSINE, UNRELATED_CHANGE = 0.3, 2.0
# shares of the weights that did not move
NOTED_SHARE, HIDDEN_SHARE = 0.01, 0.5
# Rounding all weights with a relative error of r moved a loss of L nats by up to 3.4 (1 + L) r.
ROUNDING_FACTOR = 16.0
# of the way from guessing to a perfect model
NEAR_CHANCE = 0.1


class PairFinding(Record):
    """Something about a pair that its owner has to know."""

    severity: Severity
    code: str = Field(description="the same for every finding of its kind")
    message: str = Field(description="a sentence that says what to do")


class TensorChange(Record):
    """How far one tensor moved."""

    name: str
    buffer: bool = Field(description="whether it is no trained weight")
    size: int = Field(description="number of values")
    length: float = Field(description="Euclidean length of its values before")
    change: float = Field(description="length of the difference")
    relative_change: float | None = Field(
        description="change / length; null: it was all zeros before"
    )
    unchanged_share: float = Field(
        ge=0, le=1, description="share of values that are equal at the coarser file's precision"
    )


class WeightComparison(Record):
    """How far the weights of a pair are apart."""

    tensors: list[TensorChange]
    relative_change: float = Field(
        description="length of the difference of all weights / their length before"
    )
    unchanged_share: float = Field(
        ge=0, le=1, description="share of the weights that are equal at the coarser precision"
    )
    cosine: float | None = Field(
        description="between all kernels and matrices of the two models; null: one has only zeros"
    )
    resolution: float = Field(description="relative rounding error of the coarser file")
    before_dtypes: dict[str, int] = Field(description="number of tensors of each type in the file")
    after_dtypes: dict[str, int]
    moved_buffers: list[str] = Field(description="names of buffers that differ")
    moved_statistics: list[str] = Field(
        description="those among them that are running means and variances of normalisation"
    )
    base_relative_change: float | None = Field(
        description="the same from the base model to the original; null: no base model"
    )
    findings: list[PairFinding]


def compare_weights(
    before: ReadWeights, after: ReadWeights, base: ReadWeights | None = None
) -> WeightComparison:
    """Tensor by tensor. Tied tensors count once, and counters that a file lacks are left out.

    Raises:
        InvalidRequest: not of one architecture.
    """
    architecture = before.networks.architecture
    if any(
        weights is not None and weights.networks.architecture != architecture
        for weights in (after, base)
    ):
        raise InvalidRequest("the models of a pair must have one architecture")
    expected = map_tensors(architecture)
    changes = [
        _compare_tensor(name, expected, before, after)
        for name in _list_compared(expected, before, after)
    ]
    weights = [change for change in changes if not change.buffer]
    total = sum(change.size for change in weights)
    moved = [change.name for change in changes if change.buffer and change.relative_change != 0]
    comparison = WeightComparison(
        tensors=changes,
        relative_change=_measure_change(expected, before, after),
        unchanged_share=min(1.0, sum(c.unchanged_share * c.size for c in weights) / max(total, 1)),
        cosine=_measure_cosine(expected, before, after),
        resolution=max(before.resolution, after.resolution),
        before_dtypes=before.dtypes,
        after_dtypes=after.dtypes,
        moved_buffers=moved,
        moved_statistics=[name for name in moved if name in expected.statistics],
        base_relative_change=None if base is None else _measure_change(expected, base, before),
        findings=[],
    )
    findings = [
        *_judge_difference(comparison),
        *_judge_precision(comparison, before, after),
        *_judge_buffers(comparison),
    ]
    if base is not None:
        findings += _judge_base(comparison, _measure_cosine(expected, base, before))
    return comparison.model_copy(update={"findings": findings})


def check_behaviour(
    before_losses: Sequence[float] | Tensor | None,
    after_losses: Sequence[float] | Tensor | None,
    accuracy_before: float | None,
    num_classes: int,
    resolution: float = RESOLUTIONS["F32"],
    majority_share: float = 0.0,
) -> list[PairFinding]:
    """Whether the models behave as an original and its release would.

    Args:
        before_losses: cross-entropy of the original on each deleted sample, in nats; None if there
            are no deleted samples.
        after_losses: the same of the release, in the same order.
        accuracy_before: of the original on public samples, from 0 to 1; None if there are none.
        resolution: of the coarser file, as in `WeightComparison`.
        majority_share: of the most common class among the public samples, which guessing reaches.

    Raises:
        ValueError: not as many losses after as before.
    """
    findings: list[PairFinding] = []
    if before_losses is not None and after_losses is not None and len(before_losses):
        before, after = ([float(loss) for loss in each] for each in (before_losses, after_losses))
        if len(before) != len(after):
            raise ValueError("there must be as many losses after as before")
        findings += _judge_losses(before, after, resolution)
    chance = max(1 / num_classes, majority_share)
    if accuracy_before is not None and accuracy_before < chance + NEAR_CHANCE * (1 - chance):
        findings.append(PairFinding(
            severity="warning",
            code="near_chance",
            message=f"the original has {accuracy_before:.2f} test accuracy, where guessing reaches "
            f"{chance:.2f}: check mean and std, and that the classes are numbered as in training",
        ))  # fmt: skip
    return findings


def _judge_losses(
    before: Sequence[float], after: Sequence[float], resolution: float
) -> Iterator[PairFinding]:
    if not all(math.isfinite(loss) for loss in (*before, *after)):
        yield PairFinding(
            severity="refused",
            code="loss_not_finite",
            message="a model's loss on the deleted samples is not finite: check mean and std, and "
            "that the weights are those of a model that works",
        )
        return
    first, second = (math.fsum(losses) / len(losses) for losses in (before, after))
    if first - second > ROUNDING_FACTOR * resolution * (1 + first):
        yield PairFinding(
            severity="warning",
            code="swapped",
            message=f"before and after may be swapped: the mean loss on the deleted samples falls "
            f"from {first:.3g} to {second:.3g} nats, and unlearning raises it; check which file is "
            "which, and that these samples are the deleted ones",
        )


def _judge_difference(comparison: WeightComparison) -> Iterator[PairFinding]:
    if comparison.relative_change == 0:
        moved = len(comparison.moved_buffers)
        yield PairFinding(
            severity="refused",
            code="identical",
            message="no difference: nothing to invert. "
            + (f"Only {moved} buffer{' differs' if moved == 1 else 's differ'}. " if moved else "")
            + "Check that the two files are not the same model, and that unlearning was run",
        )
    elif comparison.unchanged_share == 1:
        yield PairFinding(
            severity="refused",
            code="rounding_only",
            message="the two files differ by rounding alone, at the precision of the coarser one: "
            "nothing to invert. Bring both as they were in training, in float32",
        )
    elif (
        comparison.cosine is not None and comparison.cosine < UNRELATED_COSINE
    ) or comparison.relative_change > UNRELATED_CHANGE:
        cosine = "" if comparison.cosine is None else f", at a cosine of {comparison.cosine:.2f}"
        yield PairFinding(
            severity="refused",
            code="unrelated",
            message="the update is as large as the weights: it is "
            f"{comparison.relative_change:.3g} times as long as they are{cosine}, so the release "
            "was trained from other initial weights, or has diverged. Bring the model that the "
            "release was made from",
        )


def _judge_precision(
    comparison: WeightComparison, before: ReadWeights, after: ReadWeights
) -> Iterator[PairFinding]:
    differing = [
        name
        for name, dtype in before.tensor_dtypes.items()
        if RESOLUTIONS.get(dtype) != RESOLUTIONS.get(after.tensor_dtypes.get(name, dtype))
    ]
    if differing:
        name = differing[0]
        yield PairFinding(
            severity="warning",
            code="precision_differs",
            message=f"{_count(len(differing), 'tensor')} of other precision before than after (such "
            f"as {shorten(name)}: {before.tensor_dtypes[name]}, then {after.tensor_dtypes[name]}), "
            "so the difference is mostly rounding: bring both files as they were in training",
        )
    share = comparison.unchanged_share
    if not NOTED_SHARE <= share < 1:
        return
    if comparison.resolution > RESOLUTIONS["F32"]:
        yield PairFinding(
            severity="warning" if share >= HIDDEN_SHARE else "note",
            code="hidden_by_precision",
            message=f"{share:.0%} of the weights did not move at the files' precision, which hides "
            f"changes of less than {comparison.resolution:.1g} of a weight: if there are float32 "
            "files, bring those",
        )
    else:
        yield PairFinding(
            severity="note",
            code="unmoved",
            message=f"{share:.0%} of the weights did not move: if layers were frozen, or weights "
            "masked, say so beside the results",
        )


def _judge_buffers(comparison: WeightComparison) -> Iterator[PairFinding]:
    moved = comparison.moved_buffers
    if moved and comparison.relative_change:
        statistics = len(comparison.moved_statistics)
        yield PairFinding(
            severity="note",
            code="buffers_moved",
            message=f"{_count(len(moved), 'buffer')} not the same before and after"
            + (f", {statistics} of them running means and variances" if statistics else "")
            + ": unlearning ran in train mode, and attacks on the weights' difference do not see "
            "what batches left in buffers",
        )


def _judge_base(comparison: WeightComparison, cosine: float | None) -> Iterator[PairFinding]:
    if comparison.base_relative_change == 0:
        yield PairFinding(
            severity="warning",
            code="identical_base",
            message="the base model equals the original: leave it out, or bring the model from "
            "before the training on the samples that may be deleted",
        )
    elif cosine is not None and cosine < UNRELATED_COSINE:
        yield PairFinding(
            severity="warning",
            code="unrelated_base",
            message=f"the base model is not what the original was trained from (cosine "
            f"{cosine:.2f}): leave it out, or bring the one that was",
        )


def _count(number: int, noun: str) -> str:
    return f"1 {noun} is" if number == 1 else f"{number} {noun}s are"


def _list_compared(expected: TensorMap, *read: ReadWeights) -> list[str]:
    filled = {name for weights in read for name in weights.filled}
    return [n for n in expected.shapes if n not in filled and n not in expected.duplicates]


def _list_weights(expected: TensorMap) -> list[str]:
    return [name for name in expected.parameters if name not in expected.duplicates]


def _take(weights: ReadWeights, name: str) -> Tensor:
    """One tensor in double precision, in which no difference overflows."""
    return weights.networks.state[name].double()


def _compare_tensor(
    name: str, expected: TensorMap, before: ReadWeights, after: ReadWeights
) -> TensorChange:
    first, second = (weights.networks.state[name] for weights in (before, after))
    length = float(first.double().norm())
    moved = float((second.double() - first.double()).norm())
    coarse = max(
        (weights.tensor_dtypes[name] for weights in (before, after)),
        key=lambda dtype: RESOLUTIONS.get(dtype, 0.0),
    )
    if first.is_floating_point():
        first, second = (each.to(DTYPES[coarse]) for each in (first, second))
    return TensorChange(
        name=name,
        buffer=name not in expected.parameters,
        size=first.numel(),
        length=length,
        change=moved,
        relative_change=moved / length if length else 0.0 if not moved else None,
        unchanged_share=float((first == second).double().mean()) if first.numel() else 1.0,
    )


def _measure_change(expected: TensorMap, before: ReadWeights, after: ReadWeights) -> float:
    moved = length = 0.0
    for name in _list_weights(expected):
        first = _take(before, name)
        moved += float((_take(after, name) - first).square().sum())
        length += float(first.square().sum())
    return math.sqrt(moved / length) if length else 0.0


def _measure_cosine(expected: TensorMap, before: ReadWeights, after: ReadWeights) -> float | None:
    """Of kernels and matrices: scales of normalisation are near 1 in any two models."""
    product = first_length = second_length = 0.0
    for name in _list_weights(expected):
        if len(expected.shapes[name]) >= 2:
            first, second = _take(before, name), _take(after, name)
            product += float((first * second).sum())
            first_length += float(first.square().sum())
            second_length += float(second.square().sum())
    length = math.sqrt(first_length) * math.sqrt(second_length)
    return max(-1.0, min(1.0, product / length)) if length else None
