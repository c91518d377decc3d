"""Checkpoints to safetensors: which state dict is taken, and what is refused. `convert` is called
here; as a process it is in tests/integration/test_cli_convert.py."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.ingest._checkpoint import check_torch
from shared.ml.ingest.convert import convert
from shared.ml.tensors import DTYPES, read_header
from tests.support.checkpoints import Touch, claim_values, make_bomb, save_bytes

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def write(tmp_path: Path, content: Any, zipped: bool = True) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(content if isinstance(content, bytes) else save_bytes(content, zipped))
    return path


def run(tmp_path: Path, content: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `convert` says, and what it wrote."""
    output = tmp_path / "model.safetensors"
    result = convert(write(tmp_path, content), output, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", output.name]
    return result, load_file(output)


def refuse(tmp_path: Path, content: Any, **options: Any) -> str:
    """The sentence; nothing is written."""
    path = write(tmp_path, content)
    with pytest.raises(InvalidRequest) as caught:
        convert(path, tmp_path / "model.safetensors", **options)
    assert list(tmp_path.iterdir()) == [path]
    assert "weights_only" not in caught.value.message  # torch's advice to load without care
    assert "\n" not in caught.value.message
    return caught.value.message


@st.composite
def draw_tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(DTYPES.values(), key=str)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    tensor = torch.randint(0, 100, shape, generator=generator).to(dtype)
    return tensor.transpose(0, -1) if tensor.dim() > 1 and draw(st.booleans()) else tensor


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    state=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
                          draw_tensors(), min_size=1, max_size=6),
    zipped=st.booleans(),
)  # fmt: skip
def test_any_state_dict_comes_back(state: dict[str, Tensor], zipped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out")
        result = convert(write(Path(folder), state, zipped), output)
        found = load_file(output)
        header = output.read_bytes()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in state.items())
    assert (result["tensors"], result["size"]) == (len(state), len(header))
    assert read_header(header) == {"format": "pt"}


def test_views_and_shared_values_are_written_in_full(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    matrix = whole.view(3, 4)
    state = {
        "whole": whole,
        "matrix": matrix,
        "turned": matrix.t(),
        "every other": whole[::2],
        "repeated": torch.ones(1).expand(5),
        "images": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.ones(2)),
        "none": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
    }
    _, found = run(tmp_path, state)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_an_old_checkpoint_is_read(tmp_path: Path) -> None:
    result, found = run(tmp_path, save_bytes({"model": WEIGHTS}, zipped=False))
    assert result["key"] == "model"
    assert found.keys() == WEIGHTS.keys()


def test_a_checkpoint_under_another_name_is_read(tmp_path: Path) -> None:
    """Also one that calls itself safetensors: the content counts."""
    path = tmp_path / "renamed.safetensors"
    path.write_bytes(save_bytes(WEIGHTS))
    convert(path, tmp_path / "out")
    assert load_file(tmp_path / "out").keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (WEIGHTS, ""),
        ({"state_dict": WEIGHTS, "epoch": 3}, "state_dict"),
        ({"model": WEIGHTS, "ema": WEIGHTS}, "model"),
        ({"net": WEIGHTS, "acc": 0.9}, "net"),
        ({"module": WEIGHTS}, "module"),
        ({"ema": WEIGHTS}, "ema"),
        ({"ema": {"module": WEIGHTS}, "model": {"state_dict": WEIGHTS}}, "model.state_dict"),
        ({"rng": torch.zeros(3), "state_dict": WEIGHTS}, "state_dict"),
        ({**WEIGHTS, "ema": WEIGHTS}, ""),
        ({"weights of mine": WEIGHTS}, "weights of mine"),
    ],
)
def test_the_likeliest_state_dict_is_taken_and_named(
    tmp_path: Path, content: dict, key: str
) -> None:
    result, found = run(tmp_path, content)
    assert result["key"] == key
    assert found.keys() == WEIGHTS.keys()
    assert result["tensors"] == 2


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    content = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "state_dict": {**WEIGHTS, "version": 2, 7: "seven"},
        "ema": {"state_dict": WEIGHTS, "decay": 0.99},
    }
    result, _ = run(tmp_path, content)
    assert result["others"] == {"ema.state_dict": 2}
    assert result["dropped"] == ["epoch", "optimizer", "version", "<int>"]
    assert result["dropped_count"] == 4


def test_a_key_chooses(tmp_path: Path) -> None:
    content = {"first": WEIGHTS, "second": {"deep": {"x": torch.ones(1)}}}
    message = refuse(tmp_path, content)
    assert message == (
        "holds several state dicts: choose with --key one of 'first' (2 tensors), "
        "'second.deep' (1 tensors)"
    )
    assert "has no state dict at 'third'" in refuse(tmp_path, content, key="third")
    result, found = run(tmp_path, content, key="second.deep")
    assert (result["key"], list(found)) == ("second.deep", ["x"])
    assert result["others"] == {"first": 2}


def test_an_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    path, output = write(tmp_path, WEIGHTS), tmp_path / "out"
    output.write_bytes(b"mine")
    with pytest.raises(InvalidRequest, match="out exists; replace it with --force"):
        convert(path, output)
    assert output.read_bytes() == b"mine"
    convert(path, output, force=True)
    assert load_file(output).keys() == WEIGHTS.keys()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = write(tmp_path, WEIGHTS)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        convert(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def make_module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2))


def nest(depth: int) -> dict:
    """2^depth dictionaries in a few bytes."""
    inner: dict = {"w": torch.ones(1)}
    for _ in range(depth):
        inner = {f"{n}": inner for n in range(20)}
    return inner


def make_script() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/data.pkl", b"")
    return file.getvalue()


REFUSED = {
    "a module": (make_module(), "torch.nn.modules.container.Sequential"),
    "a bomb": (make_bomb(), "is compressed"),
    "repeated values": ({"w": torch.ones(1).expand(10**5, 10**5)}, "would unpack to 40000000000"),
    "one value under many names": (
        {f"{n}": torch.ones(1).expand(10**6) for n in range(1000)},
        "would unpack to 4000000000",
    ),
    "too many dictionaries": (nest(5), "holds more than 200000 entries"),
    "safetensors": (save(WEIGHTS), "already is a safetensors file"),
    "nothing": (b"", "is empty"),
    "noise": (bytes(range(256)) * 4, "not a PyTorch checkpoint"),
    "another zip": (
        b"PK\x03\x04" + bytes(100), "is truncated, or a damaged zip archive"
    ),
    "TorchScript": (make_script(), "is a TorchScript program"),
    "a tensor": (torch.ones(3), "holds no state dict"),
    "a list": ([WEIGHTS], "holds no state dict"),
    "complex": ({"w": torch.ones(1, dtype=torch.complex64)}, "'w', which is of torch.complex64"),
    "sparse": ({"w": torch.eye(2).to_sparse()}, "'w', which is sparse"),
    "meta": ({"w": torch.ones(2, device="meta")}, "without values"),
    "9 dimensions": ({"w": torch.ones([1] * 9)}, "of 9 dimensions"),
    "a long name": ({"w" * 501: torch.ones(1)}, "whose name no safetensors file can hold"),
    "half a character": ({"\ud800": torch.ones(1)}, "whose name no safetensors file can hold"),
    "a reserved name": ({"__metadata__": torch.ones(1)}, "whose name no safetensors file can hold"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_converted_is_one_sentence(tmp_path: Path, what: str) -> None:
    content, words = REFUSED[what]
    assert words in refuse(tmp_path, content)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, zipped: bool) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    canary = folder / "canary"
    data = save_bytes({"w": torch.ones(2), "x": Touch(canary)}, zipped)
    torch.load(io.BytesIO(data), weights_only=False)  # noqa: TID251 - that it would be, otherwise
    canary.unlink()
    folder.rmdir()
    message = refuse(tmp_path, data)
    assert "was refused, and nothing in it was executed" in message
    assert "posix.system" in message
    assert not canary.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, zipped: bool) -> None:
    data = save_bytes({"w": torch.ones(1000)}, zipped)
    for length in (1, 3, 8, 60, 200, len(data) // 2, len(data) - 1):
        assert any(word in refuse(tmp_path, data[:length]) for word in ("truncated", "damaged")), (
            length
        )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_storage_that_claims_more_values_than_are_there_is_refused(
    tmp_path: Path, zipped: bool
) -> None:
    """Beyond the file's end there are other bytes of this process."""
    assert refuse(tmp_path, claim_values(5000, zipped))


@pytest.mark.parametrize("version", ["2.5.1", "2.9.0+cu130", "1.13"])
def test_a_pytorch_that_can_be_made_to_execute_code_is_refused(version: str) -> None:
    check_torch(torch.__version__)
    with pytest.raises(InvalidRequest, match=r"install 2\.10 or later"):
        check_torch(version)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest, match="not a regular file"):
        convert(tmp_path / "pipe", tmp_path / "out")
