"""Every command line in the documentation is one that the programs understand."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.support.doc_blocks import Block, list_blocks, list_inline_code, split_commands
from tests.support.doc_commands import WrongCommand, check_command

OURS = ("palimpsest", "palimpsest-admin", "make", "python", "docker", "kubectl")
PLACEHOLDERS = {"N": "1"}  # where a command takes a number
SCRIPTS = list_blocks("sh")
INLINE = [code for code in list_inline_code() if code.text.split()[0] in OURS and " " in code.text]


def find_wrong(script: str) -> list[str]:
    """What is wrong with the commands of a script; functions that it defines are known."""
    defined = {line.split("()")[0] for line in script.splitlines() if "() {" in line}
    wrong = []
    for words in split_commands(script):
        try:
            if words[0] not in defined:
                check_command(words)
        except WrongCommand as error:
            wrong.append(f"{shlex.join(words)}: {error}")
    return wrong


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_every_line_of_a_script_would_be_understood(block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert find_wrong(block.text) == []


@pytest.mark.parametrize("code", INLINE, ids=str)
def test_every_command_in_a_text_would_be_understood(code: Block) -> None:
    words = [word.removesuffix("...") for word in shlex.split(code.text)]
    check_command([PLACEHOLDERS.get(word, word) for word in words], shortened=True)


@pytest.mark.parametrize(
    "script",
    [
        "palimpsest adit examples/quick.yaml",
        "palimpsest audit examples/quick.yaml --dryrun",
        "palimpsest jobs --limit many",
        "palimpsest",
        "x=$(palimpsest trane -p size=3)",
        "true && palimpsest-admin tenants create",
        "python -m services.admin keys create --scope read",
        "python -m services.gatway",
        "python -m services.gateway --hots 0.0.0.0",
        "python -m workers --sages attack",
        "python examples/own/make_pairs.py own",
        "make server",
        "make worker STAGE=attack",
        "docker compose up --scale worker-attacks=4",
        "docker compose --profile cpu up",
        "docker compose run --rm gateway python -m services.admin tenants make acme",
        "docker build -f deploy/gatway.Dockerfile .",
        "kubectl aply -k deploy/k8s/overlays/dev",
        "kubectl apply -k deploy/k8s/overlays/prod",
        "kubectl scale deployment/worker-atack --replicas=2",
        "kubectl scale deployment/worker-attack --replica=2",
        "kubectl exec deployment/gateway -- python -m services.admin doktor",
        "pallimpsest jobs | head",
    ],
)
def test_a_wrong_one_is_found(script: str) -> None:
    assert len(find_wrong(script)) == 1
