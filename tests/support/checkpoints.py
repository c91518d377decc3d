"""Checkpoints as torch.save writes them, and hostile ones."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch


def save_bytes(content: Any, zipped: bool = True) -> bytes:
    """What torch.save writes; not zipped: as before PyTorch 1.6."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


class Touch:
    """Unpickled without care, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def make_bomb() -> bytes:
    """A checkpoint of 50 kB that unpacks to 50 MB."""
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(save_bytes({"w": torch.ones(4)}))) as sound,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in sound.namelist():
            content = bytes(50_000_000) if name.endswith("data/0") else sound.read(name)
            archive.writestr(name, content)
    return bomb.getvalue()


def claim_values(count: int, zipped: bool = False) -> bytes:
    """A checkpoint of a few hundred bytes that claims so many float32 values."""
    size = (count.bit_length() + 8) // 8
    small, large = b"K\x4d", b"\x8a" + bytes([size]) + count.to_bytes(size, "little")
    data = save_bytes({"w": torch.ones(77)}, zipped)
    assert data.count(small) == 2  # of the storage, and of the tensor
    if not zipped:
        return data.replace(small, large)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as sound, zipfile.ZipFile(file, "w") as archive:
        for name in sound.namelist():
            archive.writestr(name, sound.read(name).replace(small, large))
    return file.getvalue()
