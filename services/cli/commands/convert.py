"""convert: a PyTorch checkpoint as safetensors, on the user's own machine."""

from __future__ import annotations

import json as jsonlib
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.output.console import (
    INTERRUPTED,
    Json,
    UsageError,
    print_json,
    print_note,
    print_path,
)
from services.client import ClientError

CONVERTER = "shared.ml.ingest.convert"  # run, never imported: it needs torch
ROOT = Path(__file__).resolve().parents[3]  # where `shared` lies beside `services`
SUFFIX = ".safetensors"
# It also limits its own processor time and memory.
MIN_TIMEOUT_S, BYTES_PER_S = 300, 2_000_000
STOP_GRACE_S = 5


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="A file written by torch.save."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE",
            help="Default: the checkpoint's name with .safetensors.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="PATH",
            help="Which state dict of the checkpoint, such as 'ema' or 'ema.state_dict'.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Convert a PyTorch checkpoint to a safetensors file. Needs PyTorch, but no gateway; nothing in
    the checkpoint is executed."""
    if not checkpoint.is_file():
        raise UsageError(f"there is no file {checkpoint}")
    if output is None and checkpoint.suffix == SUFFIX:
        raise UsageError(f"{checkpoint} ends in {SUFFIX} already: give --output")
    result = _run_converter(checkpoint, output or checkpoint.with_suffix(SUFFIX), key, force)
    if json:
        print_json(result)
        return
    for note in _describe(result):
        print_note(note)
    print_path(Path(result["output"]))


def _run_converter(checkpoint: Path, output: Path, key: str | None, force: bool) -> dict[str, Any]:
    """What the converter says it has written.

    Raises:
        ClientError: it refused the checkpoint, or did not end well; nothing was written.
    """
    command = [sys.executable, "-P", "-m", CONVERTER]  # -P: never a module of the current folder
    command += ["--force"] * force + ([] if key is None else [f"--key={key}"])
    process = subprocess.Popen(  # noqa: S603 - this interpreter
        [*command, "--", str(checkpoint), str(output)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_list_import_folders())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process, which stops the other
    )
    timeout_s = MIN_TIMEOUT_S + checkpoint.stat().st_size // BYTES_PER_S
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ClientError(
            f"{checkpoint} was not converted within {timeout_s} s: it is hostile, or the disk is "
            "too slow"
        ) from None
    except KeyboardInterrupt:
        print_note(f"{checkpoint} was not converted")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        _stop(process)
        with suppress(OSError):  # it removes the file itself, unless it was killed
            (output.parent / f".palimpsest-{process.pid}.part").unlink()
    try:
        result = jsonlib.loads(out)
    except ValueError:
        raise ClientError(
            _explain_death(checkpoint, process.returncode, err.decode(errors="replace"))
        ) from None
    if "error" in result:
        raise ClientError(result["error"])
    return dict(result)


def _list_import_folders() -> list[str]:
    given = os.environ.get("PYTHONPATH")
    return [str(ROOT), *([given] if given else [])]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it, if it has not ended: politely first, so that it can remove what it has begun."""
    if process.poll() is None:
        process.terminate()
        try:
            process.communicate(timeout=STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _explain_death(checkpoint: Path, status: int, err: str) -> str:
    if missing := re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", err):
        return (
            f"convert needs {missing[1]}, which is not installed beside palimpsest: "
            "pip install 'palimpsest[worker]'"
        )
    if status == -signal.SIGXCPU:
        reason = "took more processor time than a checkpoint of its size needs"
    elif status < 0:
        reason = f"ended the converter by signal {-status}: it is damaged, or hostile"
    else:
        last = (err.strip().splitlines() or ["no message"])[-1]
        reason = f"was not converted: {last[:300]}"
    return f"{checkpoint} {reason}"


def _describe(result: dict[str, Any]) -> list[str]:
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in result["dtypes"].items())
    notes = [f"took {_name(result['key'])}: {_count(result['tensors'])} ({dtypes})"]
    if result["others"]:
        others = ", ".join(f"{_name(key)} ({_count(n)})" for key, n in result["others"].items())
        notes.append(f"not taken: {others}; choose with --key")
    if result["dropped"]:
        more = result["dropped_count"] - len(result["dropped"])
        names = ", ".join(result["dropped"]) + (f" and {more} more" if more else "")
        notes.append(f"left out: {names}")
    return notes


def _name(key: str) -> str:
    return f"'{key}'" if key else "the top level"


def _count(number: int) -> str:
    return "1 tensor" if number == 1 else f"{number} tensors"
