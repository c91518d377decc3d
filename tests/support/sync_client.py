"""services/client/sync_client.py, generated from async_client.py: `python -m
tests.support.sync_client [--check]`."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

from tests.support.source_tree import ROOT

CLIENT = ROOT / "services/client"
ASYNC_CLIENT, SYNC_CLIENT = CLIENT / "async_client.py", CLIENT / "sync_client.py"
HEADER = (
    '"""The synchronous client. Generated from async_client.py: edit that file, then run\n'
    '`make sync-client`."""'
)
REPLACEMENTS = {
    "AsyncClient": "Client",
    "AsyncRetrying": "Retrying",
    "AsyncByteStream": "SyncByteStream",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aiter_sse": "iter_sse",
    "aread": "read",
    "asyncio": "time",
}


def generate_sync_client(source: str) -> str:
    """The module without asyncio, as ruff formats it."""
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    with tempfile.TemporaryDirectory() as folder:
        written, generated = Path(folder, "written/client.py"), Path(folder, "generated/client.py")
        written.parent.mkdir()
        written.write_text(source.replace(f'"""{docstring}"""', HEADER, 1))
        rule = unasync.Rule("/written/", "/generated/", additional_replacements=REPLACEMENTS)
        unasync.unasync_files([str(written)], [rule])
        text = generated.read_text()
    for action in (["check", "--select", "I", "--fix"], ["format"]):
        text = run_ruff([*action, "--stdin-filename", str(SYNC_CLIENT), "-"], text)
    return text


def run_ruff(arguments: list[str], text: str) -> str:
    """The output of ruff for a text."""
    command = [str(Path(sys.executable).parent / "ruff"), *arguments]
    return subprocess.run(
        command, input=text, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def main(arguments: list[str]) -> int:
    text = generate_sync_client(ASYNC_CLIENT.read_text())
    if arguments == ["--check"]:
        if SYNC_CLIENT.exists() and SYNC_CLIENT.read_text() == text:
            return 0
        print(f"{SYNC_CLIENT.relative_to(ROOT)} is stale: make sync-client", file=sys.stderr)  # noqa: T201 - a command
        return 1
    SYNC_CLIENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
