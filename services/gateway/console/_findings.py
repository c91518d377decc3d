"""What the check of a model or data set has found, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.gateway.console.words import format_count, format_shape, pluralize

MAX_CLASSES = 20  # named


def describe_findings(inspection: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Term and description of each finding; none while there are none."""
    if inspection is None:
        return []
    return _describe_model(inspection) if "parameters" in inspection else _describe_data(inspection)


def _describe_model(seen: Mapping[str, Any]) -> list[tuple[str, str]]:
    formats = ", ".join(f"{format_count(n)} in {name}" for name, n in seen["dtypes"].items())
    lines = [
        ("Parameters", format_count(seen["parameters"])),
        ("Tensors", format_count(seen["tensors"]) + (f" ({formats})" if formats else "")),
    ]
    if seen["resolution"]:
        lines.append(
            (
                "Precision",
                f"values are rounded by at most {seen['resolution']:.1e} of their size: smaller "
                "differences between two models cannot be seen",
            )
        )
    if seen["prefixes"]:
        prefixes = " and ".join(f"“{prefix}”" for prefix in seen["prefixes"])
        lines.append(("Names", f"{prefixes} was removed from the beginning of each"))
    if seen["tied"]:
        lines.append(("Tied", f"{pluralize(seen['tied'], 'tensor')} under several names"))
    if seen["filled"]:
        missing = pluralize(seen["filled"], "batch counter")
        lines.append(("Filled in", f"{missing} that the file lacks"))
    if seen["test_accuracy"] is not None:
        samples = pluralize(seen["test_samples"] or 0, "test sample")
        lines.append(("Test accuracy", f"{seen['test_accuracy']:.1%} of {samples}"))
    else:
        lines.append(("Test accuracy", "not measured: no test data are declared"))
    return lines


def _describe_data(seen: Mapping[str, Any]) -> list[tuple[str, str]]:
    shape = seen["input_shape"]
    is_table = shape[1:] == [1, 1]
    lines = [
        (
            "Samples",
            pluralize(shape[0], "feature") if is_table else f"images of {format_shape(shape)}",
        ),
        ("Classes", _describe_classes(seen["num_classes"], seen["classes"])),
    ]
    for split, name in (("train", "Training split"), ("test", "Test split")):
        one = seen[split]
        text = pluralize(one["samples"], "sample")
        if one["lowest_label"] is not None:
            text += f", labels {one['lowest_label']} to {one['highest_label']}"
        lines.append((name, text))
    return lines


def _describe_classes(count: int, names: list[str]) -> str:
    if not names:
        return format_count(count)
    named = ", ".join(names[:MAX_CLASSES])
    rest = len(names) - MAX_CLASSES
    return f"{format_count(count)}: {named}" + (f" and {rest:,} more" if rest > 0 else "")
