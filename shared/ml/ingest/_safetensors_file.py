"""Write a safetensors file tensor by tensor: the memory needed is that of the largest one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.tensors import DTYPES, MAX_DIMENSIONS, MAX_NAME_LENGTH, MAX_TENSORS

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_RESERVED_NAME = "__metadata__"
# A tensor may be a view of few values (`expand`), and tensors may share values: each is written.
MAX_GROWTH = 4
_ALWAYS_ALLOWED_BYTES = 64 << 20


def check_tensors(tensors: Mapping[str, Tensor], source_bytes: int) -> int:
    """The bytes that their values will take.

    Raises:
        InvalidRequest: too many, too large for a file of this size, or of a kind that safetensors
            or Palimpsest has not.
    """
    if len(tensors) > MAX_TENSORS:
        raise InvalidRequest(f"holds {len(tensors)} tensors, more than {MAX_TENSORS}")
    for name, tensor in tensors.items():
        if len(name) > MAX_NAME_LENGTH or name == _RESERVED_NAME or not _is_unicode(name):
            raise InvalidRequest(
                f"has a tensor whose name no safetensors file can hold: {name[:100]!a}"
            )
        if reason := _find_obstacle(tensor):
            raise InvalidRequest(f"holds {name[:100]!r}, which is {reason}")
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > MAX_GROWTH * source_bytes + _ALWAYS_ALLOWED_BYTES:
        raise InvalidRequest(
            f"would unpack to {total} bytes, more than {MAX_GROWTH} times its size, as its tensors "
            "repeat values: save tensors that are their own, with tensor.clone()"
        )
    return total


def write_safetensors(tensors: Mapping[str, Tensor], file: IO[bytes]) -> None:
    """Checked tensors; views and shared values are written in full."""
    # wide types first, so that each begins at a multiple of its width
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {_RESERVED_NAME: {"format": "pt"}}
    begin = 0
    for name in names:
        tensor = tensors[name]
        end = begin + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        values = tensors[name].detach().contiguous().reshape(-1)
        if values.numel():
            file.write(values.view(torch.uint8).numpy().data)


def name_dtype(tensor: Tensor) -> str:
    """A type as safetensors calls it, such as BF16."""
    return _NAMES[tensor.dtype]


def _find_obstacle(tensor: Tensor) -> str:
    if tensor.is_nested or tensor.layout != torch.strided:
        return "sparse or nested: make it dense, with tensor.to_dense()"
    if tensor.device.type != "cpu":
        return "without values (on the meta device): save the model after its weights were loaded"
    if tensor.is_quantized:
        return "quantised: bring the weights from before they were quantised"
    if tensor.dtype not in _NAMES:
        return f"of {tensor.dtype}, but only {', '.join(DTYPES)} are supported"
    if tensor.dim() > MAX_DIMENSIONS:
        return f"of {tensor.dim()} dimensions, but only {MAX_DIMENSIONS} are supported"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a half of a pair of surrogates
        return False
    return True
