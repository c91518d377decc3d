"""Command lines checked against the real command line, without running anything."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from services.admin.command_line import make_parser
from services.cli.main import app
from tests.support.kustomize import render
from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml

# Programs that are not ours.
FOREIGN = {
    ".", "cat", "chmod", "cp", "curl", "echo", "export", "for", "grep", "head", "kind", "openssl",
    "pg_dump", "pg_restore", "pip", "psql", "python3", "rm", "sleep", "true", "umask",
}  # fmt: skip
_COMPOSE = {"up", "down", "exec", "run", "logs", "ps"}
# Their parsers are made in main, which nothing is left of but the parsing; the others need torch.
_PARSED = {
    "services.gateway": "services.gateway.__main__", "services.reconciler": "services.reconciler",
    "services.pod_costs": "services.pod_costs.__main__", "workers": "workers.__main__",
    "workers.catalog": "workers.catalog",
    "deploy.local.demo": "deploy.local.demo", "deploy.local.worker": "deploy.local.worker",
}  # fmt: skip


class WrongCommand(AssertionError):
    """A command line that the program would refuse, and why."""


def check_command(words: Sequence[str], *, shortened: bool = False) -> None:
    """Whether a command line would be understood.

    Args:
        shortened: names a command in a text, so arguments may be missing.

    Raises:
        WrongCommand: says what is wrong.
    """
    program, *arguments = words
    if program == "palimpsest":
        _check_palimpsest(arguments, shortened)
    elif program == "palimpsest-admin":
        _check_parser(make_parser(), arguments, shortened)
    elif program == "make":
        _check_make(arguments)
    elif program == "docker":
        _check_docker(arguments)
    elif program == "kubectl":
        _check_kubectl(arguments)
    elif program == "python":
        _check_python(arguments, shortened)
    elif program not in FOREIGN:
        raise WrongCommand(f"nobody knows the program {program}")


def _check_palimpsest(arguments: Sequence[str], shortened: bool) -> None:
    command = _get_root()
    names, rest = [], list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        names.append(rest.pop(0))
        command = command.commands.get(names[-1])
        if command is None:
            raise WrongCommand(f"there is no command {' '.join(names)}")
    if not names or hasattr(command, "commands"):
        if not shortened:
            raise WrongCommand("a command is missing")
        return
    try:
        command.make_context(" ".join(names), rest)
    except Exception as error:  # typer's own copy of click has the classes
        missing = type(error).__name__ == "MissingParameter"
        if not (shortened and missing):
            raise WrongCommand(getattr(error, "message", None) or str(error)) from error


@cache
def _get_root() -> Any:
    return typer.main.get_command(app)


def _check_parser(
    parser: argparse.ArgumentParser, arguments: Sequence[str], shortened: bool
) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as written:
        try:
            parser.parse_args(list(arguments))
        except SystemExit:
            if not (shortened and "are required" in written.getvalue()):
                raise WrongCommand(written.getvalue()) from None


def _check_make(arguments: Sequence[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z.-]+):", makefile, re.MULTILINE)
    for argument in arguments:
        name, is_variable, _ = argument.partition("=")
        if is_variable and not (f"$({name})" in makefile or name.startswith("PIP_")):
            raise WrongCommand(f"make reads no variable {name}")
        if not is_variable and name not in targets:
            raise WrongCommand(f"make has no target {name}")


def _check_docker(arguments: Sequence[str]) -> None:
    if arguments[:2] == ["build", "-f"]:
        if not (ROOT / arguments[2]).is_file():
            raise WrongCommand(f"there is no file {arguments[2]}")
    else:
        _check_compose(arguments)


def _check_kubectl(arguments: Sequence[str]) -> None:
    """Whether kubectl has the command and the options, and what they name is in deploy/k8s."""
    words, _, inner = " ".join(arguments).partition(" -- ")
    command = words.split()[0]
    options = {word.partition("=")[0] for word in words.split() if word.startswith("-")}
    if not options <= _list_kubectl_options(command):
        raise WrongCommand(f"kubectl {command} has no {options - _list_kubectl_options(command)}")
    if match := re.search(r"-k (\S+)", words):
        folder = match[1]
        if not folder.startswith("../") and not (ROOT / folder / "kustomization.yaml").is_file():
            raise WrongCommand(f"there is nothing to apply in {folder}")
    for kind, name in re.findall(r"\b(deployment|job|service)/(\S+)", words):
        if (kind.capitalize(), name) not in _list_manifests():
            raise WrongCommand(f"there is no {kind} {name}")
    if inner:
        check_command(inner.split())


@cache
def _list_kubectl_options(command: str) -> set[str]:
    """Raises WrongCommand if there is no such command."""
    kubectl = str(Path(sys.executable).parent / "kubectl")
    done = subprocess.run(
        [kubectl, *command.split(), "--help"], capture_output=True, text=True, check=False
    )
    if done.returncode or not re.fullmatch(r"[a-z-]+", command):
        raise WrongCommand(f"kubectl has no command {command}")
    several = {"create": "secret generic", "rollout": "status"}.get(command)
    if several:
        done = subprocess.run(
            [kubectl, command, *several.split(), "--help"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    found = re.findall(r"^ +(-\w), (--[\w-]+)=|^ +(--[\w-]+)=", done.stdout, re.MULTILINE)
    return {option for options in found for option in options if option} | {"--namespace", "-n"}


@cache
def _list_manifests() -> set[tuple[str, str]]:
    return {
        (manifest["kind"], manifest["metadata"]["name"])
        for folder in ("overlays/dev", "overlays/keda-gpu")
        for manifest in render(folder)
    }


def _check_compose(arguments: Sequence[str]) -> None:
    services = load_yaml((ROOT / "docker-compose.yml").read_text())["services"]
    words = list(arguments)
    if words[:1] != ["compose"]:
        raise WrongCommand("only docker compose is checked")
    del words[0]
    while words and words[0].startswith("-"):
        option, value = words.pop(0), words.pop(0)
        profiles = {name for service in services.values() for name in service.get("profiles", ())}
        if option != "--profile" or value not in profiles:
            raise WrongCommand(
                f"docker compose {option} {value}: there are the profiles {profiles}"
            )
    if not words or words[0] not in _COMPOSE:
        raise WrongCommand(f"docker compose {words[:1]} is none of {_COMPOSE}")
    for scaled in re.findall(r"--scale (\S+)=\d", " ".join(words)):
        if scaled not in services:
            raise WrongCommand(f"there is no service {scaled}")
    if words[0] in ("run", "exec"):
        service, *command = [word for word in words[1:] if word not in ("--rm", "--interactive")]
        if service not in services:
            raise WrongCommand(f"there is no service {service}")
        check_command(command)


def _check_python(arguments: Sequence[str], shortened: bool) -> None:
    if arguments[:1] != ["-m"]:
        if arguments and not (ROOT / arguments[0]).is_file():
            raise WrongCommand(f"there is no file {arguments[0]}")
        return
    module, *rest = arguments[1:]
    if importlib.util.find_spec(module) is None:
        raise WrongCommand(f"there is no module {module}")
    if module == "services.admin":
        _check_parser(make_parser(), rest, shortened)
    elif module in _PARSED:
        _check_parser(_get_parser(_PARSED[module]), rest, shortened)


class _Parsing(Exception):
    """The parser is complete."""


@cache
def _get_parser(module: str) -> argparse.ArgumentParser:
    """The parser that a module's main makes."""
    found: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        found.append(parser)
        raise _Parsing

    main: Callable[[], object] = importlib.import_module(module).main
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
        mock.patch.object(sys, "argv", [module]),
        contextlib.suppress(_Parsing),
    ):
        main()
    return found[0]
