"""Why weights do not fit an architecture, in one sentence that says what to change."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice, product

from pydantic import ValidationError

from shared.ml.ingest._expected import TensorMap, map_tensors
from shared.ml.networks import Architecture

OWN_PREFIX = "network."  # of every tensor of ours; users know their names without it
MAX_ATTEMPTS = 12  # architectures that are built (without memory) to find the one that fits
Shapes = Mapping[str, tuple[int, ...]]


def find_common_prefix(names: Collection[str]) -> str:
    """The text with which all names begin, at least one."""
    first, last = min(names), max(names)  # what these two share, those in between share too
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[:length]


def shorten(name: str) -> str:
    """A tensor's name as users know it, quoted, at most 100 characters."""
    return repr(name.removeprefix(OWN_PREFIX)[:100])


def describe_names(
    architecture: Architecture,
    expected: TensorMap,
    shapes: Shapes,
    missing: Sequence[str],
    unknown: Sequence[str],
) -> str:
    """What the names of a file say about it.

    Args:
        shapes: of the tensors of the file, by name.
        missing: names that the architecture has and the file has not.
        unknown: names that the file has and the architecture has not.
    """
    parts = []
    if missing:
        parts.append(f"{_count(missing)} missing, the first {shorten(missing[0])}")
    if unknown:
        parts.append(f"{_count(unknown)} unknown, the first {shorten(unknown[0])}")
    said = f"does not fit {_name_architecture(architecture)}: {'; '.join(parts)}. "
    inner = find_common_prefix(shapes)
    inner = inner[: inner.rfind(".") + 1]
    bare = {name.removeprefix(OWN_PREFIX) for name in expected.shapes}
    if inner and {name.removeprefix(inner) for name in shapes} == bare:
        return said + (
            f"The names fit without {inner[:100]!r}, with which all of them begin: save the state "
            "dict of the model inside, or rename the tensors"
        )
    return said + _describe_head(architecture, expected, shapes)


def describe_shapes(
    architecture: Architecture, expected: TensorMap, shapes: Shapes, differing: Sequence[str]
) -> str:
    """What the shapes of a file, whose names fit, say about it.

    Args:
        shapes: of the tensors of the file, by the architecture's names.
        differing: names whose shape differs, at least one.
    """
    first = differing[0]
    said = (
        f"does not fit {_name_architecture(architecture)}: {_count(differing)} of another shape, "
        f"the first {shorten(first)}, which is {list(shapes[first])} and should be "
        f"{list(expected.shapes[first])}. "
    )
    for other in islice(
        _list_alternatives(architecture, expected, shapes, differing), MAX_ATTEMPTS
    ):
        try:
            fits = map_tensors(other).shapes == dict(shapes)
        except Exception:  # noqa: S112 - whatever a model raises for a size that nobody asked for
            continue
        if fits:
            return said + _describe_change(architecture, other)
    return said + (
        "Check the model's parameters (such as its width), the input shape and the number of "
        "classes"
    )


def _count(names: Sequence[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def _name_architecture(architecture: Architecture) -> str:
    shape = " x ".join(str(side) for side in architecture.input_shape)
    return (
        f"{architecture.model.name[:100]} with {architecture.num_classes} classes and inputs "
        f"of {shape}"
    )


def _describe_head(architecture: Architecture, expected: TensorMap, shapes: Shapes) -> str:
    matrices = [name for name in expected.parameters if len(expected.shapes[name]) >= 2]
    advice = "Choose the model and the parameters that these weights were trained with"
    if not matrices:
        return advice
    head = matrices[-1]
    advice += f"; its last layer must be {shorten(head)} of shape {list(expected.shapes[head])}"
    similar = [
        name
        for name, shape in shapes.items()
        if len(shape) == 2 and shape[0] == architecture.num_classes
    ]
    if similar and OWN_PREFIX + similar[-1] != head:
        advice += f" (in the file, {shorten(similar[-1])} of {list(shapes[similar[-1]])} may be it)"
    return advice


def _list_alternatives(
    architecture: Architecture, expected: TensorMap, shapes: Shapes, differing: Sequence[str]
) -> Iterator[Architecture]:
    """The same model for other numbers of classes and of channels: those that the shapes name."""
    channels, height, width = architecture.input_shape
    sizes = list(dict.fromkeys(
        actual
        for name in (differing[-1], differing[0])
        for actual, wanted in zip(shapes[name], expected.shapes[name], strict=False)
        if actual != wanted
    ))[:3]  # fmt: skip
    # a dense first layer has one column per channel and pixel
    inputs = dict.fromkeys([*sizes, *(size // (height * width) for size in sizes)])
    classes_and_channels = [
        *((size, channels) for size in sizes),
        *((architecture.num_classes, size) for size in inputs),
        *product(sizes, inputs),
    ]
    for num_classes, count in classes_and_channels:
        if count == channels:
            mean, std = architecture.mean, architecture.std
        else:
            mean, std = (0.0,) * min(count, 1 << 16), (1.0,) * min(count, 1 << 16)
        try:
            yield Architecture(
                model=architecture.model,
                input_shape=(count, height, width),
                num_classes=num_classes,
                mean=mean,
                std=std,
            )
        except ValidationError:
            continue


def _describe_change(architecture: Architecture, fitting: Architecture) -> str:
    changes = []
    if fitting.num_classes != architecture.num_classes:
        changes.append(f"{fitting.num_classes} classes instead of {architecture.num_classes}")
    channels, others = fitting.input_shape[0], architecture.input_shape[0]
    if channels != others:
        plural = "" if channels == 1 else "s"
        changes.append(f"{channels} input channel{plural} instead of {others}")
    return f"It fits with {' and '.join(changes)}: declare the model so, or bring other weights"
