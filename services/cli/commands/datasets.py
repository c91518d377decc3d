"""datasets add, list, show, delete: data that are declared once and named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.commands.declared import (
    LabelOption,
    NameArgument,
    NameFilter,
    NameToDelete,
    NameWithVersion,
    confirm_deletion,
    finish_adding,
    finish_deleting,
    parse_name,
    show_declaration,
    show_list,
    upload,
)
from services.cli.commands.listing import Limit
from services.cli.commands.uploads import RETRY_FOR_S, WithDerived, Yes
from services.cli.input.filters import LabelFilter
from services.cli.input.params import parse_labels, parse_params
from services.cli.output.console import (
    Json,
    UsageError,
    make_client,
    print_json,
)


def add(
    name: NameArgument,
    plugin: Annotated[
        str,
        typer.Argument(
            metavar="PLUGIN", help="Data set plugin, such as npz; see `palimpsest catalog dataset`."
        ),
    ],
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARAM=FILE",
            help="A file for the plugin to read, which is uploaded, such as path=mine.npz.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; may be repeated."),
    ] = None,
    class_name: Annotated[
        list[str] | None,
        typer.Option(help="Name of a class; repeat it in the order of the labels."),
    ] = None,
    label: LabelOption = None,
    json: Json = False,
) -> None:
    """Declare a data set and wait until it is checked; an existing name gets a new version."""
    params: dict[str, Any] = parse_params(param or ())
    files = {}
    for word in file or ():
        key, sign, path = word.partition("=")
        if not sign or not key or not path or key in params or key in files:
            raise UsageError(f"--file {word!r}: expected PARAM=FILE, each parameter once")
        files[key] = Path(path)
    labels = parse_labels(label)
    with make_client(RETRY_FOR_S) as gateway:
        params |= {key: f"upload:{upload(gateway, path)}" for key, path in files.items()}
        declared = gateway.declare_dataset(
            name,
            {"name": plugin, "params": params},
            classes=class_name or None,
            labels=labels,
        )
        finish_adding(gateway, declared, json)


def list_(
    name: NameFilter = None, label: LabelFilter = None, limit: Limit = 20, json: Json = False
) -> None:
    """List declared data sets, newest first."""
    with make_client() as gateway:
        matching = gateway.list_datasets(name=name, label=label, limit=min(limit, 200))
        show_list(list(islice(matching, limit)), json)


def show(name: NameWithVersion, json: Json = False) -> None:
    """Show a declared data set and what its check has found."""
    with make_client() as gateway:
        declared = gateway.get_dataset(*parse_name(name))
    if json:
        print_json(declared.raw)
    else:
        show_declaration(declared)


def delete(
    name: NameToDelete, with_derived: WithDerived = False, yes: Yes = False, json: Json = False
) -> None:
    """Delete a declared data set. Its uploads stay; `artifacts delete` removes them."""
    bare_name, version = parse_name(name)
    with make_client() as gateway:
        if with_derived:
            versions = [
                one
                for one in gateway.list_datasets(name=bare_name)
                if version in (None, one.version)
            ]
            confirm_deletion(
                gateway,
                sorted(
                    set(
                        re.findall(
                            r"upload:([0-9a-f]{64})", str([one.raw["dataset"] for one in versions])
                        )
                    )
                ),
                yes,
            )
        erased = gateway.delete_dataset(bare_name, version, derived=with_derived)
    finish_deleting(name, erased, json)


SUBCOMMANDS: Sequence[Callable[..., None]] = (add, list_, show, delete)
