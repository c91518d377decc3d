"""Tensors as bytes, and back: safetensors only, never pickle.

Bytes are untrusted: every fault is an InvalidRequest that names the role. safetensors writes its
metadata in no fixed order, so ours is canonical JSON under one key: equal tensors and equal
metadata give equal bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from shared.errors import InvalidRequest

METADATA_KEY = "palimpsest"
DTYPES = {
    "F16": torch.float16, (
        "BF16"
    ): torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "U8": torch.uint8,
    "I8": torch.int8, (
        "I16"
    ): torch.int16, "I32": torch.int32, "I64": torch.int64, "BOOL": torch.bool,
}  # fmt: skip
# bytes; BATCH_DELTAS of 1000 epochs over 5000 samples names 25 MB of positions in its metadata
MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 32_768  # an ensemble of 100 members of the largest model here has 27,000
MAX_NAME_LENGTH, MAX_DIMENSIONS, MAX_VALUES = 500, 8, 1 << 40
MAX_LISTS = 1 << 20  # of the metadata: steps of a training
# an unterminated text counts as one too
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as the header of a file describes it."""

    dtype: str  # one of DTYPES
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """What the header of a safetensors file says."""

    tensors: dict[str, TensorSpec]
    metadata: dict[str, str]


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Tensors (any device, copied) and JSON about them, as one safetensors file."""
    copies = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    return save(
        copies,
        metadata={
            METADATA_KEY: json.dumps(
                metadata, sort_keys=True, separators=(",", ":"), allow_nan=False
            )
        },
    )


def read_tensors(data: bytes, role: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, all finite and of ordinary types, and the JSON about them
    ({} without any).

    Raises:
        InvalidRequest: not a safetensors file, metadata not JSON, or a value that is not finite.
    """
    try:
        metadata = parse_metadata(read_header(data))
        tensors = load(data)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{role} is not a valid safetensors file: {str(error)[:200]}", f"inputs.{role}"
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InvalidRequest(
                f"{role}: tensor {name!r} holds values that are not finite", f"inputs.{role}"
            )
    return tensors, metadata


def parse_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object under our key of a header's metadata; {} without any.

    Raises:
        ValueError: not JSON, not an object, or of too many parts.
        RecursionError: nested too deeply.
    """
    text = metadata.get(METADATA_KEY, "{}")
    if text.count("[") + text.count("{") > MAX_LISTS:
        raise ValueError(
            f"its metadata {METADATA_KEY!r} hold more than {MAX_LISTS} lists and objects"
        )
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"its metadata {METADATA_KEY!r} must be a JSON object")
    return value


def read_header(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, whose header is checked as by `parse_header`."""
    return parse_header(data).metadata


def parse_header(data: bytes) -> Header:
    """Check the header of a safetensors file before the library, which trusts parts of it.

    Raises:
        ValueError: not such a file; more than 32 MiB of header, 32,768 tensors or 8 dimensions; a
            dtype that is not supported; tensors that are not contiguous up to the end of the file.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(f"its header is truncated, or larger than {MAX_HEADER_BYTES >> 20} MiB")
    text = data[8 : 8 + length]
    # lists and objects cost far more than the bytes that they are written in
    structure = _TEXT.sub(b"", text)
    if (
        max(structure.count(b"[") / 2, structure.count(b"{") - 2, structure.count(b",") / 16)
        > MAX_TENSORS
    ):
        raise ValueError(f"its header is larger than {MAX_TENSORS} tensors need")
    header = json.loads(text, object_pairs_hook=_refuse_repeats)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise ValueError("its metadata must map names to strings")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it holds {len(header)} tensors, more than {MAX_TENSORS}")
    end = 0
    for begin, after in sorted(_find_offsets(name, about) for name, about in header.items()):
        if begin != end:
            raise ValueError("its tensors overlap or leave gaps")
        end = after
    if end != len(data) - 8 - length:
        raise ValueError("its tensors do not end where the file ends")
    specs = {
        name: TensorSpec(about["dtype"], tuple(about["shape"])) for name, about in header.items()
    }
    return Header(specs, metadata)


def _find_offsets(name: str, spec: Any) -> tuple[int, int]:
    """Where the bytes of a tensor begin and end."""
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"a tensor has a name of {len(name)} characters")
    if not isinstance(spec, dict) or spec.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(
            f"tensor {name!r} must have a dtype, a shape and data_offsets, nothing else"
        )
    dtype, shape, offsets = spec["dtype"], spec["shape"], spec["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(
            f"tensor {name!r} is {dtype!s:.20}, but only {', '.join(DTYPES)} are supported"
        )
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(
            f"tensor {name!r} must have a shape of at most {MAX_DIMENSIONS} dimensions"
        )
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r} must have two data_offsets")
    if math.prod(max(n, 1) for n in shape) > MAX_VALUES:
        raise ValueError(f"tensor {name!r} is too large")
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f"tensor {name!r} has more or fewer bytes than its shape needs")
    return offsets[0], offsets[1]


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("duplicate tensor name in its header")
    return names
