"""`palimpsest-admin`, and the programs that a system consists of."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import services.gateway.__main__ as gateway
from deploy.docs.markdown import end_sentence, write_block
from services import reconciler
from services.admin.command_line import make_parser
from services.pod_costs import __main__ as pod_costs
from workers import __main__ as worker
from workers import catalog

_TEXT = """# Programs of a system

## palimpsest-admin

For operators, on a machine with the [settings](settings.md) of the gateway. It is installed with the
extra `gateway`; `python -m services.admin` is the same.

"""
_COLUMNS = "88"
_PROGRAMS: dict[str, Callable[[], object]] = {
    "services.gateway": gateway.main,
    "services.reconciler": reconciler.main,
    "services.pod_costs": pod_costs.main,
    "workers": worker.main,
    "workers.catalog": catalog.main,
}


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    parts = [_TEXT]
    with mock.patch.dict(os.environ, {"COLUMNS": _COLUMNS, "NO_COLOR": "1"}):
        for parser, summary in _iter_parsers(make_parser()):
            parts += [f"### {parser.prog}\n", f"{end_sentence(summary)}\n"]
            parts.append(write_block(parser.format_help()))
        for name, main in _PROGRAMS.items():
            parts += [f"## python -m {name}\n", write_block(_print_help(main))]
    return {"programs.md": "\n".join(parts)}


def _iter_parsers(
    parser: argparse.ArgumentParser, summary: str = ""
) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Every command without commands of its own."""
    groups = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    if not groups:
        yield parser, summary
    for group in groups:
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, one in group.choices.items():
            yield from _iter_parsers(one, helps.get(name, ""))


def _print_help(main: Callable[[], object]) -> str:
    with (
        mock.patch.object(sys, "argv", ["", "--help"]),
        contextlib.redirect_stdout(io.StringIO()) as written,
        contextlib.suppress(SystemExit),
    ):
        main()
    return written.getvalue()
