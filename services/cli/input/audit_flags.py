"""An audit's grid as command-line options: a table of options with their fields and parsers."""

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
from services.cli.output.console import UsageError
from services.cli.signatures import make_parameter

Parser = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Flag:
    """One option.

    merges: it replaces only the parameters that it names, not the file's whole field.
    negatable: `--no-NAME` sets it to false.
    """

    name: str
    help: str
    parse: Parser = lambda given, _: given
    kind: type = str
    repeatable: bool = False
    field: str = ""
    metavar: str | None = None
    completer: completion.Completer | None = None
    merges: bool = False
    negatable: bool = False

    @property
    def target_field(self) -> str:
        return self.field or self.name

    def to_parameter(self) -> inspect.Parameter:
        """The option as a parameter for typer."""
        help_text = f"{self.help}; may be repeated." if self.repeatable else f"{self.help}."
        words = self.name.replace("_", "-")
        option_name = f"--{words}/--no-{words}" if self.negatable else f"--{words}"
        option = typer.Option(
            option_name, help=help_text, metavar=self.metavar, autocompletion=self.completer
        )
        # a type that is known only at run time
        one: Any = self.kind
        annotation: Any = list[one] | None if self.repeatable else one | None
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


def _parse_releases(words: list[str], option: str) -> list[Any]:
    releases = []
    for word in words:
        name, sign, digests = word.partition("=")
        if not sign:
            raise UsageError(f"{option}: {word!r} is not of the form NAME=SHA256[,SHA256]")
        releases.append({"name": name, "weights": digests.split(",")})
    return releases


def _split_digests(words: list[str], _option: str) -> list[Any]:
    return [word.split(",") for word in words]


FLAGS = (
    _make_choice_flag("dataset", "Data set"),
    _make_choice_flag("model", "Model architecture"),
    _make_choices_flag("unlearning", "unlearning", "Unlearning method"),
    _make_choices_flag("defense", "defenses", "Defense"),
    _make_choices_flag("attack", "attacks", "Attack"),
    Flag("original", "Bring a model: sha256 of the weights from before the deletions"),
    Flag(
        "release",
        "Bring a model: the weights from after the deletions, one sha256 per deletion",
        _parse_releases,
        repeatable=True,
        field="releases",
        metavar="NAME=SHA256[,SHA256]",
    ),
    Flag(
        "retrained",
        "Bring models trained without the deleted samples: once per deletion, one sha256 per seed",
        _split_digests,
        repeatable=True,
        metavar="SHA256[,SHA256]",
    ),
    Flag("base", "Bring a model: sha256 of the weights that training started from"),
    _make_stage_flag("ingest", "Parameter of the ingest stage, such as num_classes=10"),
    _make_stage_flag("pretrain", "Parameter of the pretrain stage"),
    _make_stage_flag("train", "Parameter of the train stage, such as size=32 (N)"),
    _make_stage_flag("forget", "Parameter of the forget sets, such as deletions=8 or rows=[4711]"),
    _make_stage_flag("defend", "Parameter of the defend stage, such as max_accuracy_cost=0.02"),
    _make_stage_flag("probe", "Parameter of the probe stage"),
    _make_stage_flag("candidates", "Parameter of the candidates stage, such as non_members=500"),
    Flag("p_values", "Compute p-values of label attacks, from shadow deletions", kind=bool),
    _make_stage_flag("shadow", "Parameter of the shadow stage, such as shadows=199"),
    Flag(
        "check_forgetting",
        "Compare each release with retrained models, which is the default",
        kind=bool,
        negatable=True,
    ),
    _make_stage_flag("retraining", "Parameter of the retraining stage, such as seeds=3"),
    _make_stage_flag("forgetting", "Parameter of the forgetting stage, such as samples=128"),
    _make_stage_flag("evaluate", "Parameter of the evaluate stage, such as decoys=100"),
    Flag(
        "sweep",
        "Release and attack every strength of each defense, not only the one chosen by accuracy",
        kind=bool,
    ),
    Flag(
        "seed",
        "Seed of a training set and its forget sets",
        kind=int,
        repeatable=True,
        field="seeds",
        metavar="<int>",
    ),
    Flag("pool", "Number of samples that training sets are drawn from", kind=int),
    Flag("pretrain_seed", "Seed of the base model, the same for every --seed", kind=int),
    Flag("name", "Name of the audit"),
    Flag(
        "label",
        "Label of the audit",
        params.parse_labels,
        repeatable=True,
        field="labels",
        metavar="KEY=VALUE",
        merges=True,
    ),
    Flag(
        "metadata",
        "Values of your own about the audit",
        params.parse_params,
        repeatable=True,
        metavar="KEY=VALUE",
        merges=True,
    ),
    Flag("no_cache", "Run all jobs, even if identical ones have finished", kind=bool),
    Flag("priority", "Jobs with a higher priority run first", kind=int),
    Flag("time_limit", "Time limit of each attempt of a job, in seconds", kind=float),
)
FIELDS = tuple(flag.target_field for flag in FLAGS)


def parse_flags(flag_values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an audit that options set.

    Raises:
        UsageError: an option cannot be parsed.
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
