"""`palimpsest`: registers the commands, and turns errors into one sentence and an exit status.

0 success, 1 failure, 2 usage error, 3 threshold exceeded (`--fail-on`), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from services.cli.commands import (
    archive,
    audit,
    clone,
    convert,
    datasets,
    delete,
    job,
    listing,
    logs,
    models,
    pair,
    repeat,
    report,
    submit,
    uploads,
    verify,
    webhooks,
    whoami,
    worker,
)
from services.cli.environment import check_environment
from services.cli.output.console import (
    FAILED,
    OK,
    USAGE_ERROR,
    UsageError,
    escape_markup,
    stderr_console,
)
from services.client import (
    ApiError,
    ClientError,
    Invalid,
    NotConfigured,
    NotFound,
    Unauthorized,
)


class _Group(TyperGroup):
    """`palimpsest` itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _hide_types_of_flags(super().get_params(ctx))


class _Command(TyperCommand):
    """One of its commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _hide_types_of_flags(super().get_params(ctx))


def _hide_types_of_flags(params: list[Any]) -> list[Any]:
    """A flag takes no value, so its help names no type."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


app = typer.Typer(
    name="palimpsest",
    cls=_Group,
    help="Measure what machine unlearning leaks. Connects to PALIMPSEST_URL with PALIMPSEST_TOKEN, "
    "or to the gateway that `make serve` has started in this folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"palimpsest {metadata.version('palimpsest')}")
        raise typer.Exit


@app.callback()
def _take_options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    pass


COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Audits": (
        audit.audit,
        clone.clone,
        report.report,
        archive.download,
        verify.verify,
        repeat.repeat,
        clone.label,
        listing.audits,
        delete.delete,
    ),
    "Single stages": (
        *(submit.make_stage_command(stage) for stage in submit.STAGE_COMMANDS),
        submit.submit,
    ),
    "Jobs": (
        job.watch,
        logs.logs,
        listing.jobs,
        listing.show,
        job.fetch,
        job.cancel,
        job.retry,
        job.pause,
        job.resume,
        job.priority,
    ),
    "Your models and data": (pair.pair, convert.convert, uploads.push),
    "Inspect": (listing.catalog, listing.queues, listing.workers, whoami.whoami),
    "Operate": (worker.drain, worker.undrain),
}
# commands with commands of their own: panel, summary, and those
GROUPS: dict[str, tuple[str, str, Sequence[Callable[..., None]]]] = {
    "models": (
        "Your models and data",
        "Declare, list, show and delete your own models.",
        models.SUBCOMMANDS,
    ),
    "datasets": (
        "Your models and data",
        "Declare, list, show and delete your own data sets.",
        datasets.SUBCOMMANDS,
    ),
    "artifacts": (
        "Your models and data",
        "List, show and delete your uploads.",
        uploads.SUBCOMMANDS,
    ),
    "webhooks": (
        "Jobs",
        "Notify your URLs when audits and jobs end.",
        webhooks.SUBCOMMANDS,
    ),
}
for panel, panel_commands in COMMANDS.items():
    for command in panel_commands:
        app.command(cls=_Command, rich_help_panel=panel)(command)
for name, (panel, summary, commands) in GROUPS.items():
    group = typer.Typer(cls=_Group, help=summary, no_args_is_help=True)
    for command in commands:
        group.command(command.__name__.removesuffix("_"), cls=_Command)(command)
    app.add_typer(group, name=name, rich_help_panel=panel)


def main() -> NoReturn:
    """Run the command line."""
    try:
        status = _invoke()
    except (ClientError, UsageError) as error:
        message, status = _explain_error(error)
        stderr_console().print(escape_markup(f"palimpsest: {message}", keep="\n"))
    except UnicodeEncodeError as error:  # an argument was not valid text
        wrong = error.object[error.start : error.end]
        stderr_console().print(escape_markup(f"palimpsest: {wrong!r} is not valid UTF-8"))
        status = USAGE_ERROR
    except OSError as error:  # typer has handled a closed pipe
        stderr_console().print(
            escape_markup(f"palimpsest: cannot write to standard output: {error.strerror}")
        )
        status = FAILED
        # so that flushing the rest at exit cannot fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


def _invoke() -> int:
    check_environment(os.environ)
    try:
        app()
    except SystemExit as ended:
        sys.stdout.flush()  # a full disk may be noticed only here
        return int(ended.code or OK)
    return OK


def _explain_error(error: Exception) -> tuple[str, int]:
    """The message for an error, and the exit status."""
    if isinstance(error, Unauthorized):
        return f"the gateway rejected this token: {error}; set PALIMPSEST_TOKEN", USAGE_ERROR
    if isinstance(error, Invalid):
        return "\n  ".join(
            _format_field_error(e.get("field", ""), e.get("message", "")) for e in error.errors
        ) or error.detail, USAGE_ERROR
    if isinstance(error, UsageError | NotFound | NotConfigured):
        return str(error), USAGE_ERROR
    if isinstance(error, ApiError):
        return error.detail, FAILED
    return str(error), FAILED


def _format_field_error(field: str, message: str) -> str:
    return message if not field or message.startswith(field) else f"{field}: {message}"
