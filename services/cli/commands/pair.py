"""pair: audit a model that you bring, from the weights before and after a deletion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.commands.audit import print_submitted
from services.cli.commands.report import show_outcome
from services.cli.commands.uploads import RETRY_FOR_S, show_upload
from services.cli.input.params import parse_choice
from services.cli.output.console import INTERRUPTED, OK, Json, UsageError, make_client
from services.cli.output.dry_run import DryRunOption, WorkersOption, print_dry_run
from services.cli.output.progress import follow
from services.client import Client, Pair
from services.client.pair import DEFAULT_ATTACKS

RELEASE_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,39})=(.+)", re.DOTALL)


def pair(
    before: Annotated[
        Path, typer.Argument(metavar="BEFORE", help="Weights before the deletion (.safetensors).")
    ],
    after: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]AFTER...",
            help="Weights after it; NAME= begins another release. Of several deletions, one file "
            "each, in their order.",
        ),
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
    deleted: Annotated[
        Path | None,
        typer.Option(
            help="The deleted samples: .npz with images and labels, or .zip of CLASS/PICTURE. "
            "Without them, the report shows what comes back, but scores nothing."
        ),
    ] = None,
    public: Annotated[
        Path | None,
        typer.Option(
            help="Samples of the same kind that the model was not trained on, in the same form. "
            "Without them, there are no baselines from public data, no ranks and no test "
            "accuracies."
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="What the model subtracts, such as .49,.48,.45."),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="What it divides by, such as .25,.24,.26.")
    ] = None,
    base: Annotated[Path | None, typer.Option(help="Weights that training started from.")] = None,
    training_set: Annotated[
        int | None,
        typer.Option(min=1, help="N, samples that the model was trained on (needed with --base)."),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="k, deleted samples per deletion.")] = 1,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PARAM=VALUE]",
            help=f"Attack; may be repeated. Default: {' and '.join(DEFAULT_ATTACKS)}; without "
            "--deleted with inferred labels and random directions as controls.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the audit.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to save the report in.")
    ] = None,
    dry_run: DryRunOption = False,
    workers: WorkersOption = None,
    json: Json = False,
) -> None:
    """Audit a model that you bring: what do the weights before and after a deletion reveal?"""
    wanted = Pair(
        before=before,
        after=_group_releases(after),
        model=_parse_model(model),
        num_classes=classes,
        input_shape=_parse_shape(input_),
        deleted=deleted,
        public=public,
        mean=_parse_numbers(mean, "--mean"),
        std=_parse_numbers(std, "--std"),
        base=base,
        training_set=training_set,
        size=size,
        attacks=[parse_choice(word, "--attack") for word in attack] if attack else None,
        options={"name": name} if name else {},
    )
    with make_client(RETRY_FOR_S) as gateway:
        if dry_run:
            spec = wanted.build_audit(wanted.compute_digests())
            print_dry_run(gateway.dry_run(spec, workers=workers), json, audit=spec)
            return
        spec = wanted.build_audit({path: _upload(gateway, path) for path in wanted.files})
        submitted = gateway.submit_audit(spec)
    print_submitted(submitted, True, json)
    status = follow([submitted.id], json)
    if status != INTERRUPTED:
        status = show_outcome(submitted.id, (), report, json, failed=status != OK)
    raise typer.Exit(status)


def _upload(gateway: Client, path: Path) -> str:
    with show_upload(path) as on_progress:
        return gateway.upload(path, on_progress=on_progress).sha256


def _group_releases(words: list[str]) -> dict[str, list[Path]]:
    """Files by the release that was named last; the first is `after` if it has no name.

    Raises:
        UsageError: a name is given twice.
    """
    releases: dict[str, list[Path]] = {}
    name = "after"
    for word in words:
        match = RELEASE_NAME.fullmatch(word)
        if match and not Path(word).exists():
            name, word = match[1], match[2]
            if name in releases:
                raise UsageError(f"the release {name} is named twice")
        releases.setdefault(name, []).append(Path(word))
    return releases


def _parse_model(text: str) -> Any:
    """`convnet:width=16`; for libraries of models, the model's name alone: `timm:resnet18`."""
    name, colon, rest = text.partition(":")
    if colon and "=" not in rest:
        return {"name": name, "params": {"name": rest}}
    return parse_choice(text, "--model")


def _parse_shape(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--input {text!r}: expected CxHxW, such as 3x32x32")
    return int(match[1]), int(match[2]), int(match[3])


def _parse_numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: expected numbers, such as .49,.48,.45") from error
