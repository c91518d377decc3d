"""Safetensors from anyone: the header is looked at before the library is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save

from shared.errors import InvalidRequest
from shared.ml import tensors
from shared.ml.tensors import read_header, read_tensors, write_tensors
from tests.support.memory import measure_peak_memory
from workers.context import JobContext, NoHooks

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def made(header: Any, body: bytes = b"\0" * 4) -> bytes:
    """A file of this header, which is JSON, or its text or bytes."""
    text = (
        header
        if isinstance(header, bytes)
        else (header if isinstance(header, str) else json.dumps(header)).encode()
    )
    return len(text).to_bytes(8, "little") + text + body


def one(**changes: Any) -> bytes:
    return made({"a": {**ONE, **changes}})


def many(n: int) -> bytes:
    return made(
        {f"{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(n)},
        bytes(n),
    )


# Written when they are asked for: they are large.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "seven bytes": lambda: b"\0" * 7,
    "a length beyond the file": lambda: made({"a": ONE})[:20],
    "a length of 2^63": lambda: (1 << 63).to_bytes(8, "little") + b"{}",
    "100,000 dimensions": lambda: one(shape=[1] * 100_000),
    "100,000 dimensions of two": lambda: one(shape=[2] * 100_000),
    "9 dimensions": lambda: one(shape=[1] * 9),
    "100,000 tensors": lambda: many(100_000),
    "a header of 50 MB": lambda: made(
        b'{"a":' + b" " * 50_000_000 + json.dumps(ONE).encode() + b"}"
    ),
    "deep": lambda: made("[" * 1_000_000),
    "lists": lambda: made('{"a":[' + "[]," * 1_000_000 + "[]]}"),
    "objects": lambda: made('{"a":[' + "{}," * 1_000_000 + "{}]}"),
    "numbers": lambda: made('{"a":[' + "9999999," * 500_000 + "1]}"),
    "texts": lambda: made('{"a":[' + '"\\\\",' * 500_000 + '""]}'),
    "a text without an end": lambda: made('{"a": "' + '\\"' * 1_500_000),
    "a text that ends in a backslash": lambda: made('{"a": "' + '\\"' * 1_000_000 + "\\"),
    "metadata of lists": lambda: made(
        {"__metadata__": {"palimpsest": "[" + "[]," * 2_000_000 + "[]]"}, "a": ONE}
    ),
    "a text of 20 MB": lambda: made('{"a": "' + '\\"' * 10_000_000 + '"}'),
    "no object": lambda: made("[]"),
    "no UTF-8": lambda: made(b'{"\xff": 1}'),
    "a tensor twice": lambda: made(f'{{"a": {json.dumps(ONE)}, "a": {json.dumps(ONE)}}}'),
    "an unknown type": lambda: one(dtype="F8_E5M2"),
    "a type that is a list": lambda: one(dtype=["F32"]),
    "a negative dimension": lambda: one(shape=[-1]),
    "a dimension of true": lambda: one(shape=[True]),
    "a dimension of 1.0": lambda: one(shape=[1.0]),
    "2^64 values": lambda: one(shape=[1 << 32, 1 << 32]),
    "none of 2^80": lambda: one(shape=[0, 1 << 40, 1 << 40], data_offsets=[0, 0]),
    "a hole": lambda: made({"a": ONE, "b": {**ONE, "data_offsets": [8, 12]}}, bytes(12)),
    "two in one place": lambda: made({"a": ONE, "b": ONE}),
    "backwards": lambda: one(data_offsets=[4, 0]),
    "three offsets": lambda: one(data_offsets=[0, 2, 4]),
    "more bytes than are there": lambda: one(shape=[2], data_offsets=[0, 8]),
    "bytes of nobody": lambda: made({"a": ONE}, bytes(8)),
    "another size": lambda: one(shape=[2]),
    "no shape": lambda: made({"a": {"dtype": "F32", "data_offsets": [0, 4]}}),
    "more than is known": lambda: one(more=1),
    "metadata of numbers": lambda: made({"__metadata__": {"step": 1}, "a": ONE}),
    "metadata that is none": lambda: made({"__metadata__": [], "a": ONE}),
    "a name of 1,000": lambda: made({"a" * 1_000: ONE}),
    "a number of 5,000 digits": lambda: made(
        '{"a": {"dtype": "F32", "shape": [' + "9" * 5_000 + '], "data_offsets": [0, 4]}}'
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_refused_at_once(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = HOSTILE[what]()
    seen: list[int] = []
    # the library does not see it
    monkeypatch.setattr(tensors, "load", lambda data: seen.append(len(data)))
    begun = time.process_time()
    with (
        measure_peak_memory() as peak,
        pytest.raises(InvalidRequest, match="BASE is not a valid safetensors file") as caught,
    ):
        read_tensors(data, "BASE")
    assert time.process_time() - begun < 1
    assert peak.mib < 150
    assert not seen
    assert caught.value.field == "inputs.BASE"
    assert len(caught.value.message) < 300


def test_a_hostile_checkpoint_is_refused_as_well() -> None:
    class Hooks(NoHooks):
        def load(self) -> bytes:
            return one(shape=[1] * 100_000)

    with pytest.raises(ValueError, match="dimensions"):
        JobContext(hooks=Hooks()).load_checkpoint()


def test_what_the_library_writes_is_read() -> None:
    kinds = sorted(tensors.DTYPES.values(), key=str)
    written = {str(kind): torch.ones(2, 3).to(kind) for kind in kinds}
    written |= {
        "none": torch.zeros(0, 3),
        "one": torch.tensor(4.0),
        "deep": torch.zeros([1] * 8),
        "é\u202e": torch.ones(1),
    }
    for data in (
        save(written),
        save(written, metadata={"by": "another"}),
        write_tensors(written, {"a": [1]}),
    ):
        found, _ = read_tensors(data, "BASE")
        assert found.keys() == written.keys()
        assert all(torch.equal(found[name], written[name]) for name in written)
    assert read_tensors(write_tensors(written, {"a": [1]}), "BASE")[1] == {"a": [1]}
    assert read_header(save({})) == {}


def test_a_long_training_can_say_what_each_step_saw() -> None:
    """5000 samples, 1000 epochs, 128 a step."""
    batches = [[(step * 128 + i) % 5000 for i in range(128)] for step in range(39_063)]
    assert (
        read_tensors(write_tensors({"w": torch.zeros(1)}, {"batches": batches}), "BATCH_DELTAS")[1][
            "batches"
        ]
        == batches
    )


def test_as_many_tensors_as_a_hundred_members_have_are_read() -> None:
    """SISA with 100 members of ResNet-44."""
    names = [
        f"members.{m}.network.layers.{i}.weight.running_mean"
        for m in range(100)
        for i in range(270)
    ]
    about = {name: {**ONE, "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)}
    assert read_header(made(about, bytes(4 * len(names)))) == {}
