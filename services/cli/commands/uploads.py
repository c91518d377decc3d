"""push, and artifacts list, show, delete: files that you bring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from services.cli.commands.listing import Limit
from services.cli.output.console import (
    Json,
    escape_markup,
    format_age,
    format_size,
    make_client,
    print_json,
    print_note,
    print_pairs,
    print_table,
    stderr_console,
)
from services.client import Derived, Erasure, Upload

RETRY_FOR_S = 60.0  # an upload of minutes should outlast a restart of the gateway

Digest = Annotated[
    str, typer.Argument(metavar="SHA256", help="Digest of an upload, as push prints it.")
]


def push(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files to upload.")],
    media_type: Annotated[
        str | None,
        typer.Option(help="Media type of the files. Default: by their names."),
    ] = None,
    json: Json = False,
) -> None:
    """Upload files and print the sha256 of each. Files that are already stored are not sent again."""
    uploaded = []
    with make_client(RETRY_FOR_S) as gateway:
        for path in files:
            with show_upload(path) as on_progress:
                upload = gateway.upload(path, media_type=media_type, on_progress=on_progress)
            uploaded.append(upload)
            if not json:
                typer.echo(upload.sha256)
                print_note(f"{path.name}: {format_size(upload.size)}")
    if json:
        print_json(
            [
                {"path": str(path), "sha256": one.sha256, "size": one.size}
                for path, one in zip(files, uploaded, strict=True)
            ]
        )


@contextmanager
def show_upload(path: Path) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal."""
    columns = (
        TextColumn(escape_markup(path.name)),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(
        *columns, console=stderr_console(), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda sent, total: bar.update(task, completed=sent, total=total)


def list_(limit: Limit = 20, json: Json = False) -> None:
    """List your uploads, newest first."""
    with make_client() as gateway:
        items = list(islice(gateway.list_uploads(limit=min(limit, 200)), limit))
        space = gateway.get_upload_space()
    if json:
        print_json([upload.raw for upload in items])
        return
    print_table(
        ["sha256", "size", "type", "age", "expires"],
        [
            [
                one.sha256,
                format_size(one.size),
                escape_markup(one.media_type),
                format_age(one.created_at),
                one.expires_at or "never",
            ]
            for one in items
        ],
    )
    print_note(f"{format_size(space.used_bytes)} of {format_size(space.quota_bytes)} are used")


def show(sha256: Digest, json: Json = False) -> None:
    """Show one upload."""
    with make_client() as gateway:
        upload = gateway.get_upload(sha256)
    if json:
        print_json(upload.raw)
        return
    print_pairs(_list_facts(upload))


def _list_facts(upload: Upload) -> dict[str, str]:
    return {
        "sha256": upload.sha256,
        "size": format_size(upload.size),
        "type": escape_markup(upload.media_type),
        "created": upload.created_at or "",
        "expires": upload.expires_at or "never",
    }


WithDerived = Annotated[
    bool,
    typer.Option(
        "--with-derived", help="Also delete the audits, jobs and artifacts derived from them."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def delete(
    digests: Annotated[list[str], typer.Argument(metavar="SHA256...", help="Digests of uploads.")],
    with_derived: WithDerived = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Permanently delete uploads: their bytes are removed from the store."""
    with make_client() as gateway:
        if not with_derived:
            for sha256 in digests:
                gateway.delete_artifact(sha256)
            if json:
                print_json({"deleted": digests})
            else:
                print_note(f"deleted: {', '.join(digests)}")
            return
        for sha256 in digests:
            show_derived(gateway.get_derived(sha256))
        confirm_erasure(yes)
        erased = [(sha256, gateway.delete_artifact(sha256, derived=True)) for sha256 in digests]
    if json:
        print_json([{"sha256": sha256, **dict(one.raw)} for sha256, one in erased if one])
        return
    for sha256, one in erased:
        if one:
            show_erasure(sha256, one)


def confirm_erasure(yes: bool) -> None:
    """Ask, on a terminal, before something is deleted for good."""
    if not yes and sys.stdin.isatty():
        typer.confirm("Permanently delete all of this?", abort=True, err=True)


def show_erasure(item: str, erased: Erasure) -> None:
    """What was deleted, on standard error."""
    print_note(
        f"deleted {item}: {_count(erased.audits, 'audit')}, {_count(erased.jobs, 'job')}, "
        f"{_count(erased.artifacts, 'artifact')} ({format_size(erased.bytes)})"
    )
    if not erased.finished:
        print_note("The service is still removing bytes, or rewriting its job store.")


def show_derived(derived: Derived) -> None:
    """What goes with an upload, on standard error."""
    print_note(f"Deleting upload {derived.sha256} deletes:")
    for audit in derived.audits:
        print_note(f"  audit {audit['id']}: {audit['name']}")
    if (more := derived.audit_count - len(derived.audits)) > 0:
        print_note(f"  and {_count(more, 'other audit')}")
    stages = ", ".join(f"{n:,} {stage}" for stage, n in derived.jobs_by_stage.items())
    print_note(f"  {_count(derived.job_count, 'job')}{f': {stages}' if stages else ''}")
    artifacts = _count(derived.artifact_count, "artifact")
    print_note(f"  {artifacts}, the upload included: {format_size(derived.bytes)}")
    if derived.live_job_count:
        print_note(f"  not ended: {_count(derived.live_job_count, 'job')}; cancel first, or wait")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


SUBCOMMANDS: Sequence[Callable[..., None]] = (list_, show, delete)
