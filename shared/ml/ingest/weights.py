"""Weights from anywhere: a safetensors file whose names and shapes must be an architecture's.

Nothing about the file is believed: its header is checked, then names and shapes are compared with
the architecture's (which takes no memory), and only then are tensors read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.ingest._expected import TensorMap, map_tensors
from shared.ml.ingest._mismatch import (
    OWN_PREFIX,
    describe_names,
    describe_shapes,
    find_common_prefix,
    shorten,
)
from shared.ml.networks import Architecture, Networks
from shared.ml.tensors import DTYPES, Header, parse_header, parse_metadata
from shared.plugin_ref import validate_model

# of data parallelism, torch.compile and Opacus; and of files of our own
PREFIXES = ("module.", "_orig_mod.", "_module.", OWN_PREFIX)
CONVERT = "`palimpsest convert` makes a safetensors file of it"
# Largest relative error of rounding to a type. F64 is rounded to F32 here.
RESOLUTIONS = {"F16": 2.0**-11, "BF16": 2.0**-8, "F32": 2.0**-24, "F64": 2.0**-24}
# Normalisation constants are often written with three digits.
NORMALISATION_TOLERANCE = 0.01


@dataclass(frozen=True)
class ReadWeights:
    """The weights of one network, and what was noticed while reading them."""

    networks: Networks  # of count 1; names begin with `network.`
    tensor_dtypes: dict[str, str]  # type in the file by our name, such as BF16; none where filled
    prefixes: tuple[str, ...]  # of all names, removed; outermost first
    tied: tuple[tuple[str, ...], ...]  # groups of our names that are one tensor
    filled: tuple[str, ...]  # batch counters that the file lacks; they are 0 here

    @property
    def dtypes(self) -> dict[str, int]:
        """Number of tensors of each type of the file; a tied one counts under each of its names."""
        return dict(sorted(Counter(self.tensor_dtypes.values()).items()))

    @property
    def resolution(self) -> float:
        """Largest relative rounding error of the coarsest floating-point type: 2^-8 for BF16,
        2^-11 for F16, 2^-24 otherwise."""
        return max(
            (RESOLUTIONS[dtype] for dtype in self.dtypes if dtype in RESOLUTIONS), default=2.0**-24
        )


def read_weights(data: bytes, role: str, architecture: Architecture) -> ReadWeights:
    """One network from an untrusted safetensors file, as float32 and integer buffers.

    Args:
        role: what the file is, for messages.
        architecture: of one network; the file must have exactly its tensors, but for prefixes that
            all names share, second names of tied tensors, and batch counters.

    Raises:
        InvalidRequest: not such a file; other tensors than the architecture's, or of other shapes;
            values that are not finite.
    """
    field = f"inputs.{role}"
    if architecture.members != 1:
        raise InvalidRequest(
            f"{role}: an ensemble cannot be read from a file of weights: declare one network", field
        )
    header, stacked = _read_header(data, role, architecture)
    expected = map_tensors(architecture)
    try:
        sources, prefixes = _match_names(header, architecture, expected)
        shapes = {
            name: _drop_stack(header.tensors[source].shape, stacked)
            for name, source in sources.items()
        }
        _check_specs(header, architecture, expected, sources, shapes)
        state = _load_state(data, expected, sources, shapes)
    except (ValueError, SafetensorError) as error:
        raise InvalidRequest(f"{role} {error}", field) from error
    return ReadWeights(
        Networks(architecture, state, 1),
        {name: header.tensors[source].dtype for name, source in sources.items()},
        prefixes,
        _list_tied(expected, sources),
        tuple(name for name in state if name not in sources),
    )


def find_prefixes(names: Collection[str], expected: Collection[str]) -> tuple[str, ...]:
    """The prefixes that all names share, outermost first: as many as leave most expected names."""
    shared = find_common_prefix(names)
    tokens: list[str] = []
    length = 0
    while token := next((p for p in PREFIXES if shared.startswith(p, length)), None):
        tokens.append(token)
        length += len(token)
    present = set(names)

    def count_matches(depth: int) -> int:
        prefix = "".join(tokens[:depth])
        return sum(prefix + name in present for name in expected)

    # of equal ones the longest, so that a message names what is left
    depth = max(range(len(tokens) + 1), key=lambda depth: (count_matches(depth), depth))
    return tuple(tokens[:depth])


def _read_header(data: bytes, role: str, architecture: Architecture) -> tuple[Header, bool]:
    """The checked header, and whether the tensors have a leading dimension of 1, as in our own
    files of several networks."""
    field = f"inputs.{role}"
    try:
        header = parse_header(data)
        own = parse_metadata(header.metadata)
    except (ValueError, RecursionError) as error:
        reason = describe_other_format(data) or (
            f"is not a valid safetensors file: {str(error)[:200]}"
        )
        raise InvalidRequest(f"{role} {reason}", field) from error
    if not header.tensors:
        raise InvalidRequest(f"{role} holds no tensors", field)
    if "architecture" in own:
        stated = validate_model(Architecture, own["architecture"], f"{role}: architecture", field)
        if name := _find_difference(stated, architecture):
            values = [str(getattr(each, name))[:100] for each in (stated, architecture)]
            raise InvalidRequest(
                f"{role} was written by Palimpsest for {name} {values[0]}, but {values[1]} is "
                "declared: declare the former, or bring other weights",
                field,
            )
    count = own.get("count")
    if count is not None and (type(count) is not int or count != 1):
        raise InvalidRequest(
            f"{role} holds {str(count)[:20]} networks: bring a file for each of them", field
        )
    return header, count == 1


def _drop_stack(shape: tuple[int, ...], stacked: bool) -> tuple[int, ...]:
    """The shape of the one network in a stack; one that is no stack of 1 stays, and will not fit."""
    return shape[1:] if stacked and shape[:1] == (1,) else shape


def _find_difference(stated: Architecture, declared: Architecture) -> str:
    """The first field in which two architectures differ, or "" if they agree. The model is not
    compared, as the tensors show it."""
    for field in ("input_shape", "num_classes", "members"):
        if getattr(stated, field) != getattr(declared, field):
            return field
    for field in ("mean", "std"):
        pairs = zip(getattr(stated, field), getattr(declared, field), strict=True)
        if any(abs(a - b) > NORMALISATION_TOLERANCE for a, b in pairs):
            return field
    return ""


def describe_other_format(data: bytes) -> str:
    """What a file is that is not safetensors, and what to do; empty if that is not known."""
    start = data[:1024]
    if start.startswith(b"PK\x03\x04"):
        if b"data.pkl" in start:
            return f"is a PyTorch checkpoint (a zip archive), not safetensors: {CONVERT}"
        return f"is a zip archive, not safetensors: if PyTorch wrote it, {CONVERT}"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return f"is a pickle, as old PyTorch checkpoints are, not safetensors: {CONVERT}"
    return ""


def _match_names(
    header: Header, architecture: Architecture, expected: TensorMap
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The name in the file of each expected tensor, by ours, and the prefixes that were removed.

    Raises:
        ValueError: other names; what is wrong.
    """
    # `safetensors.torch.save_model` leaves a shared tensor out and names the one that it equals
    present = {name: name for name in header.tensors} | {
        name: kept
        for name, kept in header.metadata.items()
        if kept in header.tensors and name not in header.tensors
    }
    bare = [name.removeprefix(OWN_PREFIX) for name in expected.shapes]
    prefixes = find_prefixes(present, bare)
    prefix = "".join(prefixes)
    files = {name.removeprefix(prefix): source for name, source in present.items()}
    sources = {
        name: files[short]
        for name, short in zip(expected.shapes, bare, strict=True)
        if short in files
    }
    for group in expected.tied:
        partner = next((sources[name] for name in group if name in sources), None)
        if partner is not None:
            sources |= {name: partner for name in group if name not in sources}
    missing = [n for n in expected.shapes if n not in sources and n not in expected.counters]
    unknown = sorted(files.keys() - set(bare))
    if missing or unknown:
        shapes = {name: header.tensors[source].shape for name, source in files.items()}
        raise ValueError(describe_names(architecture, expected, shapes, missing, unknown))
    return sources, prefixes


def _list_tied(expected: TensorMap, sources: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """What the architecture ties, and what the file holds once for several names."""
    groups: dict[str, list[str]] = {}
    for name, source in sources.items():
        groups.setdefault(source, []).append(name)
    order = list(expected.shapes)
    once = [tuple(sorted(group, key=order.index)) for group in groups.values() if len(group) > 1]
    return tuple(dict.fromkeys([*expected.tied, *once]))


def _check_specs(
    header: Header,
    architecture: Architecture,
    expected: TensorMap,
    sources: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """
    Raises:
        ValueError: other shapes, or integers where weights should be; what is wrong.
    """
    differing = [name for name, shape in shapes.items() if shape != expected.shapes[name]]
    if differing:
        differing.sort(key=list(expected.shapes).index)
        complete = {name: shapes.get(name, shape) for name, shape in expected.shapes.items()}
        raise ValueError(describe_shapes(architecture, expected, complete, differing))
    for name, source in sources.items():
        dtype = header.tensors[source].dtype
        if expected.dtypes[name].is_floating_point and not DTYPES[dtype].is_floating_point:
            raise ValueError(
                f"holds {shorten(name)} as {dtype}: weights must be floating-point numbers, so "
                "bring the weights from before they were quantised"
            )


def _load_state(
    data: bytes,
    expected: TensorMap,
    sources: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Tensor]:
    """The tensors [1, *shape] in the architecture's types and order.

    Raises:
        ValueError: a value that the type cannot hold, or tied tensors that differ.
    """
    tensors = load(data)
    state: dict[str, Tensor] = {}
    for name in expected.shapes:
        if name in sources:
            tensor = tensors[sources[name]].reshape(1, *shapes[name])
            state[name] = _convert(name, tensor, expected.dtypes[name])
        else:
            state[name] = torch.zeros((1, *expected.shapes[name]), dtype=expected.dtypes[name])
    for group in expected.tied:
        for name in group[1:]:
            if not torch.equal(state[group[0]], state[name]):
                raise ValueError(
                    f"holds different values of {shorten(group[0])} and {shorten(name)}, which "
                    "are one tensor in this model: choose another model, or bring other weights"
                )
    return state


def _convert(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise ValueError(
            f"holds values that are not finite in {shorten(name)}: the model has diverged, or the "
            "file is damaged"
        )
    converted = tensor.to(dtype)
    if dtype.is_floating_point:
        if not torch.isfinite(converted).all():
            raise ValueError(f"holds values in {shorten(name)} that are too large for float32")
    elif not torch.equal(converted.to(tensor.dtype), tensor):
        raise ValueError(f"holds values in {shorten(name)} that are no {dtype} numbers")
    return converted
