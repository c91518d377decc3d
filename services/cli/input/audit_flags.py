"""An audit's grid as command-line options: a table of the options, the field each sets, and its
parser."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from services.cli import completion
from services.cli.input import params
from services.cli.signatures import make_parameter

Parser = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Flag:
    """One option. `merges`: it replaces only the parameters that it names, not the file's whole
    field."""

    name: str
    help: str
    parse: Parser = lambda given, _: given
    kind: type = str
    repeatable: bool = False
    field: str = ""
    metavar: str | None = None
    completer: completion.Completer | None = None
    merges: bool = False

    @property
    def target_field(self) -> str:
        return self.field or self.name

    def to_parameter(self) -> inspect.Parameter:
        """The option as a parameter for typer."""
        help_text = f"{self.help}; may be repeated." if self.repeatable else f"{self.help}."
        option_name = f"--{self.name.replace('_', '-')}"
        option = typer.Option(
            option_name, help=help_text, metavar=self.metavar, autocompletion=self.completer
        )
        annotation: Any = list[self.kind] | None if self.repeatable else self.kind | None  # type: ignore[name-defined]  # a type at run time
        return make_parameter(self.name, Annotated[annotation, option], None)


def _make_choice_flag(name: str, help_text: str) -> Flag:
    return Flag(
        name,
        help_text,
        params.parse_choice,
        metavar="NAME[:PARAM=VALUE]",
        completer=completion.complete_plugins(name),
    )


def _make_choices_flag(name: str, field: str, help_text: str) -> Flag:
    def parse(words: list[str], option: str) -> list[Any]:
        return [params.parse_choice(word, option) for word in words]

    metavar, complete = "NAME[:PARAM=VALUE]", completion.complete_plugins(name)
    return Flag(
        name, help_text, parse, repeatable=True, field=field, metavar=metavar, completer=complete
    )


def _make_stage_flag(name: str, help_text: str) -> Flag:
    return Flag(
        name, help_text, params.parse_params, repeatable=True, metavar="NAME=VALUE", merges=True
    )


FLAGS = (
    _make_choice_flag("dataset", "Where all data come from"),
    _make_choice_flag("model", "The architecture"),
    _make_choices_flag("unlearning", "unlearning", "A way to unlearn"),
    _make_choices_flag("defense", "defenses", "A defense"),
    _make_choices_flag("attack", "attacks", "An attack"),
    _make_stage_flag("pretrain", "A parameter of the stage pretrain"),
    _make_stage_flag("train", "Of the stage train, such as size=32 (N)"),
    _make_stage_flag("forget", "Of what is forgotten, such as deletions=8, or rows=[4711]"),
    _make_stage_flag("defend", "Of the stage defend, such as max_accuracy_cost=0.02"),
    _make_stage_flag("probe", "Of the stage probe"),
    _make_stage_flag("candidates", "Of the stage candidates, such as non_members=500"),
    Flag("p_values", "Give label attacks p-values, from deletions that are made again", kind=bool),
    _make_stage_flag("shadow", "Of the stage shadow, such as shadows=199 (B)"),
    _make_stage_flag("evaluate", "Of the stage evaluate, such as decoys=100"),
    Flag("sweep", "Every setting of each defense's grid, not the one that is chosen", kind=bool),
    Flag(
        "seed",
        "One training set and forget set",
        kind=int,
        repeatable=True,
        field="seeds",
        metavar="<int>",
    ),
    Flag("pretrain_seed", "Seed of the base model, which all seeds share", kind=int),
    Flag("name", "What you call it"),
    Flag("no_cache", "Run it even if it was done before", kind=bool),
    Flag("priority", "Higher goes first", kind=int),
    Flag("time_limit", "Seconds that one attempt of a job may run", kind=float),
)
FIELDS = tuple(flag.target_field for flag in FLAGS)


def parse_flags(flag_values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an audit that options set.

    Raises:
        WrongUse: an option cannot be parsed.
    """
    values_by_flag = {flag: flag_values.get(flag.name) for flag in FLAGS}
    return {
        flag.target_field: flag.parse(v, f"--{flag.name}")
        for flag, v in values_by_flag.items()
        if v not in (None, [])
    }


def merge_flags(spec: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The file's fields, overridden by the options."""
    combined = {**spec, **flags}
    for flag in FLAGS:
        if (
            flag.merges
            and flag.target_field in flags
            and isinstance(spec.get(flag.target_field), dict)
        ):
            combined[flag.target_field] = {**spec[flag.target_field], **flags[flag.target_field]}
    return combined


def is_from_flag(path: str, flags: Mapping[str, Any]) -> bool:
    """Whether the value at a path of the audit came from an option."""
    first, _, rest = path.partition(".")
    if any(flag.merges and flag.target_field == first for flag in FLAGS) and rest:
        return rest.partition(".")[0] in flags.get(first, {})
    return first in flags


def explain_error(path: str, message: str) -> str:
    """The gateway's message about a field, in terms of the audit that the user wrote."""
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
