"""download: an audit with all that belongs to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from services.cli.commands.clone import AuditId
from services.cli.output.console import (
    Json,
    escape_markup,
    format_size,
    make_client,
    print_json,
    print_note,
    print_path,
    stderr_console,
)

RETRY_FOR_S = 60.0  # a download of minutes should outlast a restart of the gateway


def download(
    audit: AuditId,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File or folder. Default: current folder.")
    ] = Path(),
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Include the weights of models.")
    ] = True,
    json: Json = False,
) -> None:
    """Download an audit as a zip archive: its report, jobs and artifacts."""
    columns = (
        SpinnerColumn(),
        TextColumn(escape_markup(audit)),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with (
        make_client(RETRY_FOR_S) as gateway,
        Progress(
            *columns, console=stderr_console(), transient=True, disable=not sys.stderr.isatty()
        ) as bar,
    ):
        task = bar.add_task("", total=None)
        path = gateway.download_audit(
            audit,
            output,
            models=models,
            on_progress=lambda received: bar.update(task, completed=received),
        )
    if json:
        print_json({"path": str(path), "size": path.stat().st_size})
        return
    print_path(path)
    print_note(f"{format_size(path.stat().st_size)}; its index.json lists what is missing")
