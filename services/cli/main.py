"""`palimpsest`: the commands, and how errors become one clear sentence and an exit status.

0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.markup import escape

from services.cli import acting, showing, submitting
from services.cli.output import FAILED, OK, USAGE, WrongUse, errors
from services.client import (
    ApiError,
    ClientError,
    Invalid,
    NotConfigured,
    NotFound,
    Unauthorized,
)

app = typer.Typer(
    name="palimpsest",
    help="Measure what machine unlearning leaks. The gateway is found by PALIMPSEST_URL and PALIMPSEST_TOKEN, "
    "or by what `make serve` has left in this folder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    submitting.audit,
    submitting.submit,
    acting.watch,
    showing.jobs,
    showing.audits,
    showing.show,
    acting.fetch,
    acting.cancel,
    acting.retry,
    acting.hold,
    acting.unhold,
    showing.catalog,
    showing.queues,
    showing.workers,
):
    app.command()(command)


def main() -> NoReturn:
    """Run the command line."""
    try:
        app()
    except (ClientError, WrongUse) as error:
        message, status = _told(error)
        errors().print(escape(f"palimpsest: {message}"))
        sys.exit(status)
    sys.exit(OK)


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
