"""services.gateway.console.audit_texts: what is written reads back as the same audit."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from services.audit_text import parse_audit_text
from services.cli.commands.audit import audit
from services.cli.input import audit_flags
from services.gateway.console.audit_texts import write_command, write_curl, write_texts
from shared.reporting.as_yaml import shorten_choices
from tests.support.source_tree import ROOT

DIGEST = "ab" * 32
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
AUDITS: list[dict[str, Any]] = [
    {"dataset": {"declared": "mine@2"}, "model": "mlp", "unlearning": ["a"], "attacks": ["b"]},
    {"name": "it's -- \"quoted\" $(no) `no`", "priority": -5, "time_limit": 0.5, "seeds": [0, 7],
     "labels": {"team": "a=b, c", "k/x": ""}, "metadata": {"n": 1, "deep": {"a.b": [1, "x=y"]}}},
    {"p_values": True, "sweep": True, "no_cache": True, "check_forgetting": False, "pool": 100,
     "pretrain_seed": 3, "train": {"size": 32, "schedule": "one_cycle", "balanced": True},
     "forget": {"rows": [[1, 2], 3], "ids": ["1", "true", "null", "a,b"]}},
    {"defenses": [{"name": "obfuscation", "params": {"noise": 1e-3, "grid": [0.1, 0.2]}}],
     "attacks": [{"name": "a", "params": {"text": "12", "none": None, "empty": "", "list": ["a"]}}]},
    {"original": DIGEST, "base": "model:mine@2", "retrained": [[DIGEST, "model:x"], ["1" * 64] * 2],
     "releases": [{"name": "r", "weights": [DIGEST, "model:y"]}],
     "ingest": {"input_shape": [1, 9, 9], "recipe": {"epochs": 2, "lr": 0.1}}},
]  # fmt: skip


def parse_command(line: str) -> dict[str, Any]:
    """The audit that the command line makes of a line that a shell has split."""
    program, name, *words = shlex.split(line.replace("\\\n", " "), comments=True)
    assert (program, name) == ("palimpsest", "audit")
    app = typer.Typer()
    app.command()(audit)
    given = typer.main.get_command(app).make_context("audit", words).params
    assert given["file"] is None
    lists = {name: [*value] for name, value in given.items() if isinstance(value, tuple)}
    return audit_flags.parse_flags({**given, **lists})


@pytest.mark.parametrize("body", AUDITS, ids=range(len(AUDITS)))
def test_options_read_back_as_the_audit(body: dict[str, Any]) -> None:
    assert parse_command(write_command(body)) == body


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_read_back(path: Path) -> None:
    body = shorten_choices(parse_audit_text(path.read_bytes(), path.name).spec)
    texts = {text.id: text.text for text in write_texts(body, "http://here/")}
    assert parse_command(texts["cli"]) == body
    assert parse_audit_text(texts["yaml"].encode(), "y").spec == body


@pytest.mark.parametrize(
    "body",
    [
        {"releases": [{"name": "r", "weights": [DIGEST], "method": "scrub"}]},
        {"metadata": {"a.b": 1}},
        {"attacks": [{"name": "a", "params": {"text": "x,lr=2"}}]},
        {"attacks": ["a:b=1"]},
        {"p_values": False},
    ],
)
def test_what_options_cannot_say_is_a_file(body: dict[str, Any]) -> None:
    assert write_command(body).endswith("palimpsest audit audit.yaml\n")


@pytest.mark.parametrize("body", AUDITS, ids=range(len(AUDITS)))
def test_curl_sends_the_audit(body: dict[str, Any]) -> None:
    command, _, rest = write_curl(body, "http://here:1/").partition("<<'JSON'\n")
    sent, end, after = rest.rpartition("\nJSON\n")
    assert json.loads(sent) == body
    assert end
    assert not after
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["curl", "-sS", "http://here:1/v1/audits"]
