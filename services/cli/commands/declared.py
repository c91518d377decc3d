"""What models and datasets share: waiting for a check, listing, showing, names with versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.commands.uploads import (
    confirm_erasure,
    show_derived,
    show_erasure,
    show_upload,
)
from services.cli.output.console import (
    FAILED,
    INTERRUPTED,
    OK,
    UsageError,
    colour_state,
    escape_markup,
    format_age,
    print_json,
    print_note,
    print_pairs,
    print_table,
)
from services.cli.output.progress import follow
from services.client import Client, Declaration, Erasure

PREFIX = "declared:"  # of a declared data set, where a file may stand too

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Letters, digits, dots, dashes and underscores.")
]
NameWithVersion = Annotated[
    str,
    typer.Argument(metavar="NAME[@VERSION]", help="A declared name; default: its newest version."),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="A label; may be repeated."),
]
NameToDelete = Annotated[
    str,
    typer.Argument(metavar="NAME[@VERSION]", help="A declared name; default: all versions."),
]
NameFilter = Annotated[str | None, typer.Option("--name", help="Only versions of this name.")]


def upload(gateway: Client, path: Path) -> str:
    """The sha256 of a file that is uploaded, with a bar on a terminal."""
    with show_upload(path) as on_progress:
        return gateway.upload(path, on_progress=on_progress).sha256


def parse_name(text: str) -> tuple[str, int | None]:
    """`before@2`, or `before` for the newest.

    Raises:
        UsageError: the version is no number.
    """
    name, sign, version = text.partition("@")
    if not sign:
        return name, None
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise UsageError(f"{text!r}: expected NAME, or NAME@VERSION such as {name}@1")
    return name, int(version)


def finish_adding(gateway: Client, declared: Declaration, json: bool) -> None:
    """Wait until a new declaration is checked, show it, and exit with its status."""
    if json:
        checked = gateway.wait_until_checked(declared)
        print_json(checked.raw)
    else:
        print_note(f"{declared.label}: checked by {declared.job}")
        if not declared.is_checked and follow([declared.job], False) == INTERRUPTED:
            raise typer.Exit(INTERRUPTED)
        checked = gateway.wait_until_checked(declared)
        show_declaration(checked)
    raise typer.Exit(OK if checked.state == "ready" else FAILED)


def finish_deleting(name: str, erased: Erasure | None, json: bool) -> None:
    """Say what was deleted."""
    if json:
        print_json({"deleted": name} if erased is None else {"name": name, **dict(erased.raw)})
    elif erased is None:
        print_note(f"deleted: {name}")
    else:
        show_erasure(name, erased)


def confirm_deletion(gateway: Client, digests: Iterable[str], yes: bool) -> None:
    """Show what goes with uploads, and ask on a terminal."""
    for sha256 in digests:
        show_derived(gateway.get_derived(sha256))
    confirm_erasure(yes)


def show_list(items: Sequence[Declaration], json: bool) -> None:
    """A table of declarations."""
    if json:
        print_json([one.raw for one in items])
        return
    rows = [
        [
            one.label,
            colour_state(one.state),
            format_age(one.created_at),
            escape_markup(" ".join(f"{key}={value}" for key, value in one.labels.items())),
            escape_markup(one.reason or ""),
        ]
        for one in items
    ]
    print_table(["name", "state", "age", "labels", "message"], rows)


def show_declaration(declared: Declaration) -> None:
    """All that is known of one declaration."""
    raw = declared.raw
    facts = {
        "name": declared.label,
        "state": colour_state(declared.state),
        "reason": escape_markup(declared.reason or "", keep="\n"),
        "weights": raw.get("weights", ""),
        "model": _describe_plugin(raw.get("model")),
        "input": "x".join(str(size) for size in raw.get("input_shape", ())),
        "classes": str(raw.get("num_classes", "")),
        "data set": _describe_plugin(raw.get("dataset")),
        "labels": " ".join(f"{key}={value}" for key, value in declared.labels.items()),
        "created": declared.created_at or "",
        "job": declared.job,
        **_list_facts(declared.inspection or {}),
    }
    print_pairs({name: escape_unless_marked(name, text) for name, text in facts.items() if text})


def escape_unless_marked(name: str, text: str) -> str:
    """Values with markup of their own are left as they are."""
    return text if name in ("state", "reason") else escape_markup(text)


def _describe_plugin(choice: Any) -> str:
    if not isinstance(choice, dict):
        return ""
    params = ", ".join(f"{key}={value}" for key, value in choice.get("params", {}).items())
    return f"{choice.get('name')} ({params})" if params else str(choice.get("name"))


def _list_facts(inspection: Any) -> dict[str, str]:
    """What a check has read, in words."""
    facts: dict[str, str] = {}
    if "parameters" in inspection:
        types = ", ".join(f"{count} {name}" for name, count in inspection["dtypes"].items())
        facts["parameters"] = (
            f"{inspection['parameters']:,} in {inspection['tensors']} tensors ({types})"
        )
        facts["prefixes"] = " ".join(inspection["prefixes"])
        accuracy = inspection.get("test_accuracy")
        if accuracy is not None:
            facts["accuracy"] = f"{accuracy:.1%} of {inspection['test_samples']:,} test samples"
    if "train" in inspection:
        facts["images"] = "x".join(str(size) for size in inspection["input_shape"])
        facts["samples"] = (
            f"{inspection['train']['samples']:,} train, {inspection['test']['samples']:,} test"
        )
        names = inspection["classes"]
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        facts["classes"] = f"{inspection['num_classes']}: {', '.join(names[:10])}{more}"
    return facts
