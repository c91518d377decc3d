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


def _describe_model(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    formats = ", ".join(f"{format_count(n)} in {name}" for name, n in found["dtypes"].items())
    lines = [
        ("Parameters", format_count(found["parameters"])),
        ("Tensors", format_count(found["tensors"]) + (f" ({formats})" if formats else "")),
    ]
    if found["resolution"]:
        lines.append(
            (
                "Precision",
                f"values are rounded by at most {found['resolution']:.1e} of their size: smaller "
                "differences between two models cannot be seen",
            )
        )
    if found["prefixes"]:
        prefixes = " and ".join(f"“{prefix}”" for prefix in found["prefixes"])
        lines.append(("Names", f"{prefixes} was removed from the beginning of each"))
    if found["tied"]:
        lines.append(("Tied", f"{pluralize(found['tied'], 'tensor')} under several names"))
    if found["filled"]:
        missing = pluralize(found["filled"], "batch counter")
        lines.append(("Filled in", f"{missing} that the file lacks"))
    if found["test_accuracy"] is not None:
        samples = pluralize(found["test_samples"] or 0, "test sample")
        lines.append(("Test accuracy", f"{found['test_accuracy']:.1%} of {samples}"))
    else:
        lines.append(("Test accuracy", "not measured: no test data are declared"))
    return lines


def _describe_data(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    shape = found["input_shape"]
    is_table = shape[1:] == [1, 1]
    lines = [
        (
            "Samples",
            pluralize(shape[0], "feature") if is_table else f"images of {format_shape(shape)}",
        ),
        ("Classes", _describe_classes(found["num_classes"], found["classes"])),
    ]
    for split, name in (("train", "Training split"), ("test", "Test split")):
        one = found[split]
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
