"""An audit's grid as flags: one table says which there are, which field each fills, and how it is read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from services.cli import completing, reading
from services.cli.commands import parameter

Read = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Flag:
    """One flag. `merges`: of what the file says there, only what the flag names is replaced."""

    name: str
    help: str
    read: Read = lambda given, _: given
    kind: type = str
    many: bool = False
    field: str = ""
    metavar: str | None = None
    complete: completing.Completer | None = None
    merges: bool = False

    @property
    def fills(self) -> str:
        return self.field or self.name

    def parameter(self) -> inspect.Parameter:
        """As typer sees it."""
        said = f"{self.help}; may be repeated." if self.many else f"{self.help}."
        word = f"--{self.name.replace('_', '-')}"
        option = typer.Option(word, help=said, metavar=self.metavar, autocompletion=self.complete)
        annotation: Any = list[self.kind] | None if self.many else self.kind | None  # type: ignore[name-defined]  # a type at run time
        return parameter(self.name, Annotated[annotation, option], None)


def _choice(name: str, about: str) -> Flag:
    return Flag(name, about, reading.choice, metavar="NAME[:PARAM=VALUE]", complete=completing.plugins(name))


def _choices(name: str, field: str, about: str) -> Flag:
    def read(words: list[str], option: str) -> list[Any]:
        return [reading.choice(word, option) for word in words]

    metavar, complete = "NAME[:PARAM=VALUE]", completing.plugins(name)
    return Flag(name, about, read, many=True, field=field, metavar=metavar, complete=complete)


def _stage(name: str, about: str) -> Flag:
    return Flag(name, about, reading.params, many=True, metavar="NAME=VALUE", merges=True)


FLAGS = (
    _choice("dataset", "Where all data come from"),
    _choice("model", "The architecture"),
    _choices("unlearning", "unlearning", "A way to unlearn"),
    _choices("defense", "defenses", "A defense"),
    _choices("attack", "attacks", "An attack"),
    _stage("pretrain", "A parameter of the stage pretrain"),
    _stage("train", "Of the stage train, such as size=32 (N)"),
    _stage("forget", "Of what is forgotten, such as deletions=8, or rows=[4711]"),
    _stage("defend", "Of the stage defend, such as max_accuracy_cost=0.02"),
    _stage("probe", "Of the stage probe"),
    _stage("candidates", "Of the stage candidates, such as never=500"),
    Flag("p_values", "Give label attacks p-values, from deletions that are made again", kind=bool),
    _stage("shadow", "Of the stage shadow, such as shadows=199 (B)"),
    _stage("evaluate", "Of the stage evaluate, such as decoys=100"),
    Flag("sweep", "Every setting of each defense's grid, not the one that is chosen", kind=bool),
    Flag("seed", "One training set and forget set", kind=int, many=True, field="seeds", metavar="<int>"),
    Flag("pretrain_seed", "Seed of the base model, which all seeds share", kind=int),
    Flag("name", "What you call it"),
    Flag("fresh", "Run it even if it was done before", kind=bool),
    Flag("priority", "Higher goes first", kind=int),
    Flag("time_limit", "Seconds that one attempt of a job may run", kind=float),
)
FIELDS = tuple(flag.fills for flag in FLAGS)


def from_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an audit that flags fill.

    Raises:
        WrongUse: a flag cannot be read.
    """
    said = {flag: given.get(flag.name) for flag in FLAGS}
    return {flag.fills: flag.read(v, f"--{flag.name}") for flag, v in said.items() if v not in (None, [])}


def merged(file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags go before the file."""
    made = {**file, **flags}
    for flag in FLAGS:
        if flag.merges and flag.fills in flags and isinstance(file.get(flag.fills), dict):
            made[flag.fills] = {**file[flag.fills], **flags[flag.fills]}
    return made


def is_of_a_flag(path: str, flags: Mapping[str, Any]) -> bool:
    """Whether what stands at a path of the audit came from a flag."""
    first, _, rest = path.partition(".")
    if any(flag.merges and flag.fills == first for flag in FLAGS) and rest:
        return rest.partition(".")[0] in flags.get(first, {})
    return first in flags


def taught(path: str, message: str) -> str:
    """What the gateway says of a field, in words that help whoever wrote the audit."""
    # a message about a job of the audit begins with the field's path within that job
    message = re.sub(r"^params[\w.]*: ", f"{path}: ", message)
    key = path.rpartition(".")[2]
    if message == "Field required":
        return f"{path} is missing"
    if message != "Extra inputs are not permitted":
        return message
    known = FIELDS if key == path else ("name", "params")
    near = get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown key {key!r}{hint} Known: {', '.join(known)}"
