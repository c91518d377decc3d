"""What a stage sees of its job."""

from __future__ import annotations

import pytest
import torch

from shared.errors import InvalidRequest
from workers.context import JobContext, NoHooks, StageOutput


class Kept(NoHooks):
    data: bytes | None = None

    def save(self, data: bytes) -> None:
        self.data = data

    def load(self) -> bytes | None:
        return self.data


def test_a_checkpoint_comes_back_bit_for_bit() -> None:
    context = JobContext(hooks=Kept())
    assert context.load_checkpoint() is None
    tensors = {
        "x": torch.randn(3, 4),
        "n": torch.tensor(7),
        "half": torch.randn(2).to(torch.float64),
    }
    context.save_checkpoint(41, tensors)
    step, found = context.load_checkpoint() or (0, {})
    assert step == 41
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors
    )


def test_randomness_depends_on_seed_and_purpose_only() -> None:
    def draw(seed: int, purpose: str) -> list[float]:
        return torch.rand(3, generator=JobContext(seed=seed).make_generator(purpose)).tolist()

    assert draw(0, "a") == draw(0, "a")
    assert draw(0, "a") != draw(0, "b")
    assert draw(0, "a") != draw(1, "a")


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InvalidRequest, match="BASE"):
        JobContext().read_input("BASE")


def test_json_outputs_are_canonical_and_finite() -> None:
    assert StageOutput.of_json({"b": 1, "a": [1.5]}).data == b'{"a":[1.5],"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        StageOutput.of_json({"x": float("nan")})
