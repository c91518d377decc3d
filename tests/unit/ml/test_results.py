"""Results of any kind are put together from groups and kept in checkpoints: by what their fields are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.ml.attacks._apart import attack_apart
from shared.ml.context import Context, LocalContext
from shared.ml.networks import Architecture
from shared.ml.observations import Observation, Result
from tests.support.observed import observe

DELETIONS = 3


@dataclass(frozen=True)
class Sizes(Result):
    """A kind that only this test knows."""

    role = "SIZES"

    sizes: Tensor
    why: list[str]
    controls: dict[str, Tensor]

    def write(self, threat_model: dict[str, Any]) -> bytes:
        raise NotImplementedError


def successive() -> Observation:
    """Deletions that start from a model each, so that each is a group."""
    made = Architecture(
        model={"name": "mlp", "params": {"hidden": 4}}, input_shape=(1, 4, 4), num_classes=3, mean=(0.5,), std=(0.5,)
    )
    seen, _ = observe(made, "gradient_ascent", DELETIONS)
    return replace(seen, original=seen.original.pick([0] * DELETIONS))


def measure(seen: Observation, _ctx: Context) -> Sizes:
    size = torch.stack([t.flatten(1).double().norm(dim=1) for t in seen.unlearned.state.values()]).sum(0)
    return Sizes(size, [f"{value:.6f}" for value in size.tolist()], {"twice": 2 * size}, compares=len(size) + 1)


def test_a_result_of_any_kind_is_joined_and_survives_an_interruption() -> None:
    seen, ctx, calls = successive(), LocalContext(save_every=1), list[int]()

    def interrupted(part: Observation, group: Context) -> Sizes:
        calls.append(1)
        if len(calls) == DELETIONS:
            raise RuntimeError("stopped")
        return measure(part, group)

    with pytest.raises(RuntimeError, match="stopped"):
        attack_apart(interrupted, seen, ctx)
    found = attack_apart(interrupted, seen, ctx)
    assert len(calls) == DELETIONS + 1  # no finished group is attacked again
    alone = measure(replace(seen, original=seen.original.pick([0])), ctx)
    assert isinstance(found, Sizes)
    assert torch.equal(found.sizes, alone.sizes)
    assert torch.equal(found.controls["twice"], alone.controls["twice"])
    assert found.why == alone.why
    assert found.compares == 2
