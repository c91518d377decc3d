"""Open an untrusted PyTorch checkpoint: tensors and plain containers, never code.

Only the process of `convert` calls this, within its limits. torch.load with `weights_only` runs an
unpickler that calls nothing but torch's own functions for rebuilding tensors.
"""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from shared.errors import InvalidRequest
from shared.ml.tensors import MAX_HEADER_BYTES

# before, crafted files could execute code in spite of weights_only (CVE-2025-32434, CVE-2026-24747)
MIN_TORCH = (2, 10)
MAX_ENTRIES = 100_000  # of a zip archive
SAVE = "save the weights alone where it was made, with torch.save(model.state_dict(), FILE)"
_GLOBAL = re.compile(r"GLOBAL (\S{1,100})")


def load_checkpoint(path: Path) -> Any:
    """What `torch.save` has written. Large tensors stay in the file until they are used.

    Raises:
        InvalidRequest: not such a file, or one that holds more than tensors and plain values.
    """
    check_torch(torch.__version__)
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe could wait for ever
        raise InvalidRequest("is not a regular file")
    with path.open("rb") as file:
        _refuse_safetensors(file)
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        if is_zip:
            _check_zip(file)
            file.seek(0)
        try:
            # by descriptor, so that it is the file that was checked; by a path, which mapping
            # needs; and by one whose suffix says nothing to torch
            return torch.load(  # noqa: TID251 - with weights_only, in a process of its own
                f"/dev/fd/{file.fileno()}" if is_zip else file,
                map_location="cpu",
                weights_only=True,
                mmap=is_zip,
            )
        except MemoryError:
            raise
        except Exception as error:  # whatever hostile bytes raise inside
            raise InvalidRequest(_explain(str(error))) from error


def check_torch(version: str) -> None:
    """
    Raises:
        InvalidRequest: this PyTorch can be made to execute code in a checkpoint.
    """
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < MIN_TORCH:
        least = ".".join(map(str, MIN_TORCH))
        raise InvalidRequest(
            f"was not opened: PyTorch {version} can be made to execute code in a checkpoint; "
            f"install {least} or later"
        )


def _explain(message: str) -> str:
    """A sentence for what torch.load has raised. Its own words advise to load without care."""
    if "memory" in message:
        return "claims more memory than a file of its size needs: it is damaged, or hostile"
    if refused := _GLOBAL.search(message):
        return (
            f"was refused, and nothing in it was executed: unpickling it would call {refused[1]}, "
            f"and only tensors and plain values are read; {SAVE}"
        )
    if ".tar" in message:
        return f"is in a format from before PyTorch 0.4: load it there, and {SAVE}"
    return f"is damaged, or not a PyTorch checkpoint: if it is one, {SAVE}"


def _refuse_safetensors(file: IO[bytes]) -> None:
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise InvalidRequest("is empty")
    length = int.from_bytes(file.read(8), "little")
    if 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            header = None
        if isinstance(header, dict):
            raise InvalidRequest("already is a safetensors file: use it as it is")
    file.seek(0)


def _check_zip(file: IO[bytes]) -> None:
    """Refuse what torch.save never writes, before anything is unpacked."""
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except MemoryError:
        raise
    except Exception as error:  # BadZipFile, and others where fields are out of range
        raise InvalidRequest(
            "is truncated, or a damaged zip archive: copy it again, or save it again"
        ) from error
    names = {member.filename.rpartition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise InvalidRequest(
            "is a TorchScript program: save its weights with "
            "torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
        )
    if "data.pkl" not in names:
        raise InvalidRequest("is a zip archive, but not a PyTorch checkpoint")
    if len(members) > MAX_ENTRIES:
        raise InvalidRequest(f"holds {len(members)} entries, more than {MAX_ENTRIES}: {SAVE}")
    if (
        any(member.compress_type != zipfile.ZIP_STORED for member in members)
        or sum(member.file_size for member in members) > size
    ):
        raise InvalidRequest(
            "is compressed, and could unpack to far more than its size, which torch.save never "
            f"writes: {SAVE}"
        )
