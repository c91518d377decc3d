"""pair: audit a model that you bring, from the weights before and after a deletion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.commands.audit import print_submitted
from services.cli.commands.declared import LabelOption
from services.cli.commands.report import show_outcome
from services.cli.commands.uploads import RETRY_FOR_S, show_upload
from services.cli.input.architecture import parse_model, parse_numbers, parse_shape
from services.cli.input.params import parse_choice, parse_labels, parse_param_list
from services.cli.output.console import INTERRUPTED, OK, Json, UsageError, make_client
from services.cli.output.dry_run import DryRunOption, WorkersOption, print_dry_run
from services.cli.output.progress import follow
from services.client import Client, Pair
from services.client.pair import DECLARED_PREFIX, DEFAULT_ATTACKS

RELEASE_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,39})=(.+)", re.DOTALL)


def pair(
    before: Annotated[
        str,
        typer.Argument(
            metavar="BEFORE",
            help="Weights before the deletion: a .safetensors file, or model:NAME if it is "
            "declared.",
        ),
    ],
    after: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]AFTER...",
            help="Weights after the deletion; for several deletions, one file each, in order. "
            "NAME= starts another release.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:PARAM=VALUE]",
            help="The architecture, such as convnet:width=16, torchvision:resnet18 or "
            "timm:vit_tiny_patch16_224. Leave out, with --classes and --input, if BEFORE "
            "is declared.",
        ),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Number of classes.")] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="CxHxW", help="Shape of an image, such as 3x32x32."),
    ] = None,
    deleted: Annotated[
        Path | None,
        typer.Option(
            help="The deleted samples: .npz with images and labels, or .zip of CLASS/PICTURE. "
            "Without them, the report shows what was reconstructed, but has no scores."
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
    retained: Annotated[
        Path | None,
        typer.Option(help="Samples that the model was trained on and no deletion forgot: .npz."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:PARAM=VALUE]",
            help="A data set instead of these files: one of the catalog, such as npz:path=own.npz, "
            "or declared:NAME. Its test split is public; --rows or --files name the deleted "
            "samples in it.",
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="With --dataset, the deleted samples by their rows in its file, from 0, such "
            "as 4711,4712: --size per deletion, in the order of the deletions.",
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="With --dataset, the same by their files in its folder: cat/0007.png,cat/0009.png.",
        ),
    ] = None,
    retrained: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[,FILE...]",
            help="Weights of models trained without the deleted samples, one per seed: once for "
            "each deletion, in the order of the deletions. Three seeds show whether the samples "
            "were forgotten.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[RELEASE=]NAME[:PARAM=VALUE]",
            help="The unlearning method (of the catalog) that produced a release, such as "
            "scrub:lr=0.01; with several releases, RELEASE=METHOD.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="PARAM=VALUE[,...]",
            help="How the model was trained, by SGD: epochs=20,lr=0.1,batch_size=128,momentum=0.9.",
        ),
    ] = None,
    p_values: Annotated[
        bool,
        typer.Option(
            "--p-values",
            help="Compute p-values of label attacks by repeating --method on retained samples; "
            "needs --recipe too.",
        ),
    ] = False,
    trained_on_all: Annotated[
        bool,
        typer.Option(
            "--trained-on-all",
            help="With --dataset: the model was trained on all of its train split, so all its "
            "other samples are retained ones.",
        ),
    ] = False,
    mean: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="What the model subtracts, such as .49,.48,.45."),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="What it divides by, such as .25,.24,.26.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Weights that training started from.")] = None,
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
    label: LabelOption = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to save the report in.")
    ] = None,
    dry_run: DryRunOption = False,
    workers: WorkersOption = None,
    json: Json = False,
) -> None:
    """Audit your own model: what do the weights before and after a deletion reveal?"""
    original, releases = parse_weights(before), _group_releases(after)
    _require_options(
        original, model=model, classes=classes, input=input_, deleted=deleted, public=public,
        retained=retained, dataset=dataset,
    )  # fmt: skip
    own = {"name": name, "labels": parse_labels(label)}
    try:
        wanted = Pair(
            before=original,
            after=releases,
            model=parse_model(model) if model else None,
            num_classes=classes,
            input_shape=parse_shape(input_) if input_ else None,
            deleted=deleted,
            public=public,
            mean=parse_numbers(mean, "--mean"),
            std=parse_numbers(std, "--std"),
            base=parse_weights(base) if base else None,
            training_set=training_set,
            size=size,
            retained=retained,
            dataset=None if dataset is None else parse_choice(dataset, "--dataset"),
            deleted_rows=_parse_rows(rows),
            deleted_files=files.split(",") if files else (),
            retrained=[[parse_weights(one) for one in word.split(",")] for word in retrained or ()],
            methods=_parse_methods(method or [], [*releases]),
            recipe=None if recipe is None else parse_param_list(recipe, "--recipe"),
            p_values=p_values,
            trained_on_all=trained_on_all,
            attacks=[parse_choice(word, "--attack") for word in attack] if attack else None,
            options={key: value for key, value in own.items() if value},
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
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


def parse_weights(word: str) -> Path | str:
    """A file, or a declared model as `Pair` takes it. A file of such a name is written with its
    folder: ./model:before."""
    return word if word.startswith(DECLARED_PREFIX) else Path(word)


def _require_options(original: Path | str, **options: Any) -> None:
    """
    Raises:
        UsageError: one is missing that the others do not make up for.
    """
    needed = [] if isinstance(original, str) else ["model", "classes", "input"]
    if options["deleted"] or options["public"] or options["retained"]:
        needed.append("classes")
    missing = [f"--{name}" for name in dict.fromkeys(needed) if options[name] is None]
    if missing:
        hint = "" if isinstance(original, str) else "; or give a declared model as model:NAME"
        raise UsageError(f"missing {', '.join(missing)}{hint}")


def _upload(gateway: Client, path: Path) -> str:
    with show_upload(path) as on_progress:
        return gateway.upload(path, on_progress=on_progress).sha256


def _group_releases(words: list[str]) -> dict[str, list[Path | str]]:
    """Files by the release that was named last; the first is `after` if it has no name.

    Raises:
        UsageError: a name is given twice.
    """
    releases: dict[str, list[Path | str]] = {}
    name = "after"
    for word in words:
        match = RELEASE_NAME.fullmatch(word)
        if match and not Path(word).exists():
            name, word = match[1], match[2]
            if name in releases:
                raise UsageError(f"the release {name} is named twice")
        releases.setdefault(name, []).append(parse_weights(word))
    return releases


def _parse_methods(words: list[str], releases: list[str]) -> dict[str, Any]:
    """Methods by release; the only release needs no name.

    Raises:
        UsageError: a release is not named, or twice.
    """
    methods: dict[str, Any] = {}
    for word in words:
        match = RELEASE_NAME.fullmatch(word)
        if match is None and len(releases) > 1:
            raise UsageError(
                f"--method {word!r}: there are several releases, so name one of them: "
                f"{releases[0]}={word}"
            )
        name, text = (match[1], match[2]) if match else (releases[0], word)
        if name in methods:
            raise UsageError(f"--method: the method of the release {name} is given twice")
        methods[name] = parse_choice(text, "--method")
    return methods


def _parse_rows(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(f"--rows {text!r}: expected numbers, such as 4711,4712") from error
