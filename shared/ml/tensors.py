"""Tensors as bytes, and back: safetensors only, never pickle.

Bytes may come from anyone. Whatever is wrong with them is an InvalidRequest that names the role.
safetensors writes its metadata in no fixed order, so all of ours is canonical JSON under one key: equal
tensors and equal metadata give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from shared.errors import InvalidRequest

KEY = "palimpsest"
DTYPES = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool,
}  # fmt: skip


def write_tensors(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """Tensors (any device, copied) and JSON about them, as one safetensors file."""
    held = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    return save(held, metadata={KEY: json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False)})


def read_tensors(data: bytes, role: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, all finite and of ordinary types, and the JSON about them ({} without any).

    Raises:
        InvalidRequest: not a safetensors file, metadata not JSON, or a value that is not finite.
    """
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        about = json.loads(header.get("__metadata__", {}).get(KEY, "{}"))
    except (SafetensorError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"{role} is not a safetensors file of ours: {error}", f"inputs.{role}") from error
    if not isinstance(about, dict):
        raise InvalidRequest(f"{role}: its metadata {KEY!r} must be a JSON object", f"inputs.{role}")
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise InvalidRequest(f"{role}: tensor {name!r} is {tensor.dtype}, which is not read here", f"inputs.{role}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InvalidRequest(f"{role}: tensor {name!r} holds values that are not finite", f"inputs.{role}")
    return tensors, about
