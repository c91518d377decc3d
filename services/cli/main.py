"""`palimpsest`: the commands, and how errors become one clear sentence and an exit status.

0 done, 1 failed, 2 wrong use, 3 a gate was crossed (`--fail-on`), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from services.cli import acting, auditing, logs, reporting, showing, submitting
from services.cli.environment import check_environment
from services.cli.output import FAILED, OK, USAGE, WrongUse, errors, to_markup
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
    help="Measure what machine unlearning leaks. The gateway is found by PALIMPSEST_URL and PALIMPSEST_TOKEN, "
    "or by what `make serve` has left in this folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Audits": (auditing.audit, reporting.report, showing.audits),
    "One stage by hand": (*(submitting.verb(stage) for stage in submitting.STAGES), submitting.submit),
    "Work": (
        acting.watch,
        logs.logs,
        showing.jobs,
        showing.show,
        acting.fetch,
        acting.cancel,
        acting.retry,
        acting.hold,
        acting.unhold,
    ),
    "What there is": (showing.catalog, showing.queues, showing.workers),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(cls=_Command, rich_help_panel=panel)(command)


def main() -> NoReturn:
    """Run the command line."""
    try:
        status = _run()
    except (ClientError, WrongUse) as error:
        message, status = _told(error)
        errors().print(to_markup(f"palimpsest: {message}", keep="\n"))
    except UnicodeEncodeError as error:  # what came in by the command line was no text
        wrong = error.object[error.start : error.end]
        errors().print(to_markup(f"palimpsest: {wrong!r} cannot be sent: write it in UTF-8"))
        status = USAGE
    except OSError as error:  # typer has dealt with a reader that left
        errors().print(to_markup(f"palimpsest: standard output cannot be written: {error.strerror}"))
        status = FAILED
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be flushed has nowhere to go
    sys.exit(status)


def _run() -> int:
    check_environment(os.environ)
    try:
        app()
    except SystemExit as ended:
        sys.stdout.flush()  # a full disk may be noticed only here
        return int(ended.code or OK)
    return OK


def _told(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit status."""
    if isinstance(error, Unauthorized):
        return f"the gateway does not take this token: {error}; set PALIMPSEST_TOKEN", USAGE
    if isinstance(error, Invalid):
        return "\n  ".join(
            _wrong(e.get("field", ""), e.get("message", "")) for e in error.errors
        ) or error.detail, USAGE
    if isinstance(error, WrongUse | NotFound | NotConfigured):
        return str(error), USAGE
    if isinstance(error, ApiError):
        return error.detail, FAILED
    return str(error), FAILED


def _wrong(field: str, message: str) -> str:
    return message if not field or message.startswith(field) else f"{field}: {message}"
