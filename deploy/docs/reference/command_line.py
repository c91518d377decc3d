"""`palimpsest`: every command with its options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import typer

from deploy.docs.markdown import end_sentence, escape_text, write_code, write_table
from services.cli.main import COMMANDS, GROUPS, app

_TEXT = """# Command line

`pip install .` installs the command line. It finds the gateway in `PALIMPSEST_URL` and the key in
`PALIMPSEST_TOKEN`; without them it uses what `make serve` has started in this folder. A command that
fails says why on standard error, and [its exit status](exit-statuses.md) says so to programs.
`palimpsest COMMAND --help` shows what is on this page.

"""


def iter_commands() -> Iterator[tuple[str, Any]]:
    """The words of each command, and the command, as typer has it."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            for action, one in command.commands.items():
                yield f"{name} {action}", one
        else:
            yield name, command


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    commands = dict(iter_commands())
    panels = {panel: [one.name for one in _list_registered(panel, commands)] for panel in COMMANDS}
    parts = [_TEXT]
    for panel, names in panels.items():
        parts.append(f"## {panel}\n")
        parts += [_write_command(name, commands.pop(name)) for name in names]
        for group, (of_panel, summary, _) in GROUPS.items():
            if of_panel == panel:
                actions = [name for name in commands if name.startswith(f"{group} ")]
                parts.append(f"{summary}\n")
                parts += [_write_command(name, commands.pop(name)) for name in actions]
    if commands:
        raise ValueError(f"no panel has {sorted(commands)}")
    return {"command-line.md": "\n".join(parts)}


def _list_registered(panel: str, commands: dict[str, Any]) -> list[Any]:
    return [
        one for name, one in commands.items() if one.rich_help_panel == panel and " " not in name
    ]


def _write_command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join(["palimpsest", name, *map(_write_argument, arguments)])
    rows = [(_write_names(one), *_write_meaning(one)) for one in (*arguments, *options)]
    help_text = " ".join((command.help or "").split())
    return "\n".join([
        f"### palimpsest {name}\n",
        f"{end_sentence(escape_text(help_text))}\n",
        f"`{usage}{' [OPTIONS]' if options else ''}`\n",
        write_table(("argument or option", "default", "meaning"), rows),
    ])  # fmt: skip


def _write_argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[].")
    repeated = "..." if argument.nargs == -1 else ""
    return f"{name}{repeated}" if argument.required else f"[{name}{repeated}]"


def _write_names(param: Any) -> str:
    if param.param_type_name == "argument":
        return write_code(_write_argument(param))
    names = ", ".join(map(write_code, _order([*param.opts, *param.secondary_opts])))
    if param.is_flag or not param.metavar:
        return names
    return f"{names} {write_code(param.metavar)}"


def _order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name.startswith("--"), len(name)))


def _write_meaning(param: Any) -> tuple[str, str]:
    default = param.default
    shown = (
        default not in (None, False, "", (), []) and not callable(default) and param.show_default
    )
    return (
        write_code(str(getattr(default, "value", default))) if shown else "",
        end_sentence(escape_text(param.help or "")),
    )
