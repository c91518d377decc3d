"""How far the weights of a brought release moved: summed up by layer, and drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from shared.comparison import Comparison, ModelDifference
from shared.evaluation import WIDEST
from shared.reporting.bars import Bar, draw_bars
from shared.reporting.formatting import format_percent, pluralise
from shared.reporting.models import MovedLayer, MovedWeights, OtherLayers

MAX_LAYERS = 24  # on the chart and in report.json; the others are summed up
MAX_BUFFERS = 8  # that are named


@dataclass
class _Sums:
    """Of the weights of one layer, after one deletion."""

    size: int = 0
    length: float = 0.0  # squared
    change: float = 0.0  # squared
    unchanged: float = 0.0  # number of weights

    def add(self, size: int, length: float, change: float, unchanged_share: float) -> None:
        self.size += size
        self.length += length**2
        self.change += change**2
        self.unchanged += unchanged_share * size

    @property
    def relative_change(self) -> float | None:
        if not self.length:
            return None if self.change else 0.0
        return min(math.sqrt(self.change / self.length), WIDEST)


def summarise_weights(comparison: Comparison) -> MovedWeights:
    """One release: means over its deletions, and the layers that moved most."""
    deletions = comparison.deletions
    by_layer = [_add_up(one) for one in deletions]
    names = list(dict.fromkeys(name for layers in by_layer for name in layers))
    layers = [_summarise_layer(name, [one[name] for one in by_layer if name in one])
              for name in names]  # fmt: skip
    most = sorted(layers, key=_measure_move)[:MAX_LAYERS]
    listed = {one.name for one in most}
    cosines = [one.cosine for one in deletions if one.cosine is not None]
    buffers = dict.fromkeys(name for one in deletions for name in one.moved_buffers)
    return MovedWeights(
        release=comparison.release,
        deletions=len(deletions),
        relative_change=fmean(one.relative_change for one in deletions),
        cosine=fmean(cosines) if cosines else None,
        unchanged_share=fmean(one.unchanged_share for one in deletions),
        resolution=max(one.resolution for one in deletions),
        dtypes=comparison.dtypes,
        layers=[one for one in layers if one.name in listed],
        other_layers=_sum_others(deletions, by_layer, [n for n in names if n not in listed]),
        moved_buffers=list(buffers)[:MAX_BUFFERS],
        moved_buffer_count=max(one.moved_buffer_count for one in deletions),
        original_test_accuracy=comparison.original_test_accuracy,
        findings=comparison.findings,
    )


def _measure_move(layer: MovedLayer) -> float:
    """Largest moves first; a layer that was all zeros has moved without end."""
    return -math.inf if layer.relative_change is None else -layer.relative_change


def _add_up(deletion: ModelDifference) -> dict[str, _Sums]:
    """By layer, in the order of the network: a tensor belongs to what stands before its last dot."""
    layers: dict[str, _Sums] = {}
    for tensor in deletion.tensors:
        layer = tensor.name.rpartition(".")[0] or tensor.name
        layers.setdefault(layer, _Sums()).add(
            tensor.size, tensor.length, tensor.change, tensor.unchanged_share
        )
    return layers


def _summarise_layer(name: str, by_deletion: Sequence[_Sums]) -> MovedLayer:
    changes = [one.relative_change for one in by_deletion if one.relative_change is not None]
    return MovedLayer(
        name=name,
        size=max(one.size for one in by_deletion),
        relative_change=fmean(changes) if changes else None,
        least=min(changes, default=None),
        most=max(changes, default=None),
        unchanged_share=_average_share(by_deletion),
    )


def _average_share(sums: Iterable[_Sums]) -> float:
    every = list(sums)
    size = sum(one.size for one in every)
    return min(1.0, sum(one.unchanged for one in every) / size) if size else 1.0


def _sum_others(
    deletions: Sequence[ModelDifference],
    by_layer: Sequence[dict[str, _Sums]],
    names: Sequence[str],
) -> OtherLayers | None:
    """Layers beyond those that are listed, and tensors that the stage did not name."""
    sums, unnamed = [], 0
    for deletion, layers in zip(deletions, by_layer, strict=True):
        rest = _Sums()
        for name in names:
            if (layer := layers.get(name)) is not None:
                rest.add(
                    layer.size,
                    math.sqrt(layer.length),
                    math.sqrt(layer.change),
                    layer.unchanged / max(layer.size, 1),
                )
        if (others := deletion.others) is not None:
            rest.add(others.size, others.length, others.change, others.unchanged_share)
            unnamed = max(unnamed, others.count)
        sums.append(rest)
    if not names and not unnamed:
        return None
    changes = [one.relative_change for one in sums if one.relative_change is not None]
    return OtherLayers(
        count=min(len(names) + unnamed, 1_000_000),
        relative_change=fmean(changes) if changes else None,
        unchanged_share=_average_share(sums),
    )


@dataclass(frozen=True)
class MovedWeightsView:
    """One release on the page."""

    weights: MovedWeights
    facts: Sequence[tuple[str, str, str]]  # name, value, what it means
    drawing: Markup


def draw_moved_weights(weights: MovedWeights) -> MovedWeightsView:
    """The numbers of a release in words, and its layers as bars."""
    bars = [
        Bar(
            one.name,
            one.relative_change,
            one.least if weights.deletions > 1 else None,
            one.most if weights.deletions > 1 else None,
            "from zero" if one.relative_change is None else format_change(one.relative_change),
        )
        for one in weights.layers
    ]
    if (others := weights.other_layers) is not None:
        change = others.relative_change
        text = "from zero" if change is None else format_change(change)
        bars.append(Bar(f"{others.count} others together", change, None, None, text))
    return MovedWeightsView(
        weights,
        _list_facts(weights),
        draw_bars(bars, "change / length before, by layer", "How far each layer moved."),
    )


def _list_facts(weights: MovedWeights) -> list[tuple[str, str, str]]:
    facts = [
        (
            "Total change",
            format_change(weights.relative_change),
            "of the length of all weights before"
            + (f"; mean of {weights.deletions} deletions" if weights.deletions > 1 else ""),
        ),
        (
            "Cosine",
            "—" if weights.cosine is None else format_cosine(weights.cosine),
            "between the kernels and matrices before and after",
        ),
        (
            "Did not move",
            f"{format_percent(100 * weights.unchanged_share)} %",
            "of the weights, at the resolution of the files",
        ),
        (
            "Resolution",
            f"{weights.resolution:.1g}",
            f"of a weight ({', '.join(weights.dtypes)})",
        ),
        (
            "Buffers that differ",
            str(weights.moved_buffer_count),
            _name_buffers(weights),
        ),
    ]
    if weights.original_test_accuracy is not None:
        facts.append(
            (
                "Accuracy of the original",
                f"{weights.original_test_accuracy:.2f}",
                "on the public samples",
            )
        )
    return facts


def _name_buffers(weights: MovedWeights) -> str:
    if not weights.moved_buffer_count:
        return "running statistics and counters are the same"
    rest = weights.moved_buffer_count - len(weights.moved_buffers)
    more = f" and {pluralise(rest, 'other')}" if rest > 0 else ""
    return f"{', '.join(weights.moved_buffers)}{more}"


def format_change(change: float) -> str:
    """`0.012 %`, `3.4 %`, `140 %`; below a ten-thousandth of a percent as a power of ten."""
    percent = 100 * change
    if percent and percent < 1e-4:
        return f"{percent:.0e} %"
    return f"{format_percent(percent)} %"


def format_cosine(cosine: float) -> str:
    """Four digits of what is missing to 1: `0.9997`, `1 − 2e-07`."""
    missing = 1 - cosine
    if 0 < missing < 5e-5:
        return f"1 − {missing:.0e}"
    return f"{cosine:.4f}".replace("-", "−")
