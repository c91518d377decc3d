"""models add, list, show, delete: weights that are declared once and named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.commands.declared import (
    PREFIX,
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
from services.cli.input.architecture import parse_model, parse_numbers, parse_shape
from services.cli.input.filters import LabelFilter
from services.cli.input.params import parse_labels
from services.cli.output.console import Json, make_client, print_json
from services.client import Client


def add(
    name: NameArgument,
    weights: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A .safetensors file, or the sha256 of an upload."),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME[:PARAM=VALUE]",
            help="The architecture, such as convnet:width=16, torchvision:resnet18 or "
            "timm:vit_tiny_patch16_224.",
        ),
    ],
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")],
    input_: Annotated[
        str, typer.Option("--input", metavar="CxHxW", help="Shape of an image, such as 3x32x32.")
    ],
    mean: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="What the model subtracts, such as .49,.48,.45."),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="What it divides by, such as .25,.24,.26.")
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Samples to measure accuracy on: .npz with images and labels, or declared:NAME.",
        ),
    ] = None,
    label: LabelOption = None,
    json: Json = False,
) -> None:
    """Declare a model and wait until it is checked; an existing name gets a new version."""
    options = {
        "model": parse_model(model),
        "input_shape": parse_shape(input_),
        "num_classes": classes,
        "mean": parse_numbers(mean, "--mean"),
        "std": parse_numbers(std, "--std"),
        "labels": parse_labels(label),
    }
    is_digest = re.fullmatch("[0-9a-f]{64}", weights) is not None
    with make_client(RETRY_FOR_S) as gateway:
        digest = weights if is_digest else upload(gateway, Path(weights))
        declared = gateway.declare_model(
            name, digest, test=_choose_test(gateway, test, classes), **options
        )
        finish_adding(gateway, declared, json)


def _choose_test(gateway: Client, test: str | None, classes: int) -> Any:
    """The data set whose test split is the file; its labels are the model's class numbers."""
    if test is None:
        return None
    if test.startswith(PREFIX):
        return {"declared": test.removeprefix(PREFIX)}
    file = f"upload:{upload(gateway, Path(test))}"
    params = {"public": file, "num_classes": classes}
    return {"name": "own_samples", "params": params}


def list_(
    name: NameFilter = None, label: LabelFilter = None, limit: Limit = 20, json: Json = False
) -> None:
    """List declared models, newest first."""
    with make_client() as gateway:
        matching = gateway.list_models(name=name, label=label, limit=min(limit, 200))
        show_list(list(islice(matching, limit)), json)


def show(name: NameWithVersion, json: Json = False) -> None:
    """Show a declared model and what its check has found."""
    with make_client() as gateway:
        declared = gateway.get_model(*parse_name(name))
    if json:
        print_json(declared.raw)
    else:
        show_declaration(declared)


def delete(
    name: NameToDelete, with_derived: WithDerived = False, yes: Yes = False, json: Json = False
) -> None:
    """Delete a declared model. Its uploads stay; `artifacts delete` removes them."""
    bare_name, version = parse_name(name)
    with make_client() as gateway:
        if with_derived:
            versions = [
                one for one in gateway.list_models(name=bare_name) if version in (None, one.version)
            ]
            confirm_deletion(gateway, sorted({str(one.raw["weights"]) for one in versions}), yes)
        erased = gateway.delete_model(bare_name, version, derived=with_derived)
    finish_deleting(name, erased, json)


SUBCOMMANDS: Sequence[Callable[..., None]] = (add, list_, show, delete)
