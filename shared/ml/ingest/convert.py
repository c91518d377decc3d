"""`python -m shared.ml.ingest.convert CHECKPOINT OUTPUT`: a PyTorch checkpoint as safetensors.

The process of `palimpsest convert`, on the user's own machine. It unpickles bytes that may be
hostile, so it does nothing else, limits its own memory and processor time first, and prints one
JSON object: what was converted (exit status 0), or {"error": a sentence} (1).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.ingest._checkpoint import load_checkpoint
from shared.ml.ingest._safetensors_file import check_tensors, name_dtype, write_safetensors
from shared.ml.ingest._state_dicts import MAX_NAMED, choose_state_dict, list_siblings
from shared.processes import die_with_parent

MIN_CPU_S, BYTES_PER_CPU_S = 120, 5_000_000  # a slow disk's worth
# beside the file itself, mapped: two copies of its tensors, and what torch needs to work
MEMORY_PER_BYTE, WORKING_MEMORY_BYTES = 3, 1 << 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m shared.ml.ingest.convert")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--key", help="path of the state dict in the checkpoint")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    options = parser.parse_args()
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a half-written file is removed
    try:
        # torch, which takes gigabytes of addresses, is loaded, and the file is not yet
        limit_resources(options.checkpoint.stat().st_size)
        result = convert(options.checkpoint, options.output, options.key, options.force)
    except InvalidRequest as error:
        result = {"error": f"{options.checkpoint.name} {error}"}
    except MemoryError:
        result = {
            "error": f"{options.checkpoint.name} needs more memory than a checkpoint of its size "
            "should, or than this machine has"
        }
    except OSError as error:
        is_source = error.filename == str(options.checkpoint)
        path = options.checkpoint if is_source else options.output
        result = {"error": f"{path}: {error.strerror or error}"}
    print(json.dumps(result))  # noqa: T201 - the answer to the process that asked
    return 1 if "error" in result else 0


def convert(
    checkpoint: Path, output: Path, key: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Write `output`, completely or not at all; returns what was written and what was left out.

    Raises:
        InvalidRequest: not a checkpoint, or not one of tensors alone; the message continues the
            file's name.
        OSError: a file cannot be read or written.
    """
    source_bytes = checkpoint.stat().st_size
    if not force and output.exists():
        raise InvalidRequest(
            f"was not converted: {output.name} exists; replace it with --force, or choose another "
            "--output"
        )
    content = load_checkpoint(checkpoint)
    selected, others = choose_state_dict(content, key)
    check_tensors(selected.tensors, source_bytes)
    _write(output, selected.tensors, force)
    dropped = [*list_siblings(content, selected, others), *selected.dropped]
    return {
        "output": str(output),
        "size": output.stat().st_size,
        "tensors": len(selected.tensors),
        "dtypes": dict(sorted(Counter(map(name_dtype, selected.tensors.values())).items())),
        "key": selected.key,
        "others": {each.key[:200]: len(each.tensors) for each in others[:MAX_NAMED]},
        "dropped": dropped[:MAX_NAMED],
        "dropped_count": len(dropped),
    }


def limit_resources(source_bytes: int) -> None:
    """Limit this process to what the conversion of a file of this size can need. For good."""
    cpu_s = MIN_CPU_S + source_bytes // BYTES_PER_CPU_S
    # the hard limit is later, so that the signal says which limit it was
    _lower(resource.RLIMIT_CPU, cpu_s + int(sum(os.times()[:2])), more=10)
    _lower(resource.RLIMIT_CORE, 0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not Linux: there, addresses cannot be limited to any effect
        return
    _lower(
        resource.RLIMIT_AS,
        pages * resource.getpagesize() + MEMORY_PER_BYTE * source_bytes + WORKING_MEMORY_BYTES,
    )


def _lower(kind: int, value: int, more: int = 0) -> None:
    """Set the soft limit, and a hard one that is higher by `more`."""
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or hard > value + more:
        hard = value + more
    resource.setrlimit(kind, (min(value, hard), hard))


def _write(output: Path, tensors: dict[str, Tensor], force: bool) -> None:
    # by process, so that the one that waits can remove it if this one is killed
    temporary = output.parent / f".palimpsest-{os.getpid()}.part"
    try:
        with temporary.open("xb") as file:
            write_safetensors(tensors, file)
            file.flush()
            os.fsync(file.fileno())
        if not force and output.exists():
            raise InvalidRequest(f"was not converted: {output.name} has appeared meanwhile")
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
