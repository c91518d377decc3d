"""Results of any kind are put together from groups and kept in checkpoints: by what their fields
are."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.ml.attack_io import Result, WhiteBoxView
from shared.ml.attacks._grouping import run_per_start_model
from shared.ml.context import Context, LocalContext
from shared.ml.networks import Architecture
from tests.support.observations import make_observation

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


@dataclass(frozen=True)
class Shapes(Sizes):
    """One of another kind's results that holds more, of the same role, in fields of every sort."""

    spans: tuple[tuple[int, str], ...]
    pairs: list[tuple[int, int]]
    note: str | None = None
    unit: str = "weights"
    extra: Tensor | None = None


def successive() -> WhiteBoxView:
    """Deletions that start from a model each, so that each is a group."""
    made = Architecture(
        model={"name": "mlp", "params": {"hidden": 4}},
        input_shape=(1, 4, 4),
        num_classes=3,
        mean=(0.5,),
        std=(0.5,),
    )
    seen, _ = make_observation(made, "gradient_ascent", DELETIONS)
    return replace(seen, original=seen.original.pick([0] * DELETIONS))


def measure(seen: WhiteBoxView, _ctx: Context) -> Sizes:
    size = torch.stack(
        [t.flatten(1).double().norm(dim=1) for t in seen.unlearned.state.values()]
    ).sum(0)
    return Sizes(
        size,
        [f"{value:.6f}" for value in size.tolist()],
        {"twice": 2 * size},
        releases_compared=len(size) + 1,
    )


def shape(seen: WhiteBoxView, ctx: Context) -> Shapes:
    found = measure(seen, ctx)
    spans = tuple((round(1000 * value), "thousandths") for value in found.sizes.tolist())
    return Shapes(found.sizes, found.why, found.controls, spans, [(a, -a) for a, _ in spans])


@pytest.mark.parametrize("stop", [1, 2, 3, None])
def test_a_result_of_a_result_keeps_all_its_fields(stop: int | None) -> None:
    seen, ctx, calls = successive(), LocalContext(checkpoint_every=1), list[int]()

    def interrupted(part: WhiteBoxView, group: Context) -> Shapes:
        calls.append(1)
        if len(calls) == stop:
            raise RuntimeError("stopped")
        return shape(part, group)

    if stop is not None:
        with pytest.raises(RuntimeError, match="stopped"):
            run_per_start_model(interrupted, seen, ctx)
    found = run_per_start_model(interrupted, seen, ctx)
    alone = shape(replace(seen, original=seen.original.pick([0])), ctx)
    assert type(found) is Shapes
    assert (found.spans, found.pairs, found.why) == (alone.spans, alone.pairs, alone.why)
    assert (found.note, found.unit, found.extra) == (None, "weights", None)


@pytest.mark.parametrize(
    ("field", "values", "words"),
    [
        ("note", ["a", None, "a"], "note: it is missing in some groups"),
        (
            "unit",
            ["a", "b", "a"],
            "unit: groups differ, and values that are not numbers cannot be joined",
        ),
        ("why", [["a"], ["a", "b"], ["a"]], "why: 2 entries for 1 deletions"),
        ("spans", [(), ((1, "a"),), ((1, "a"),)], "spans: 0 entries for 1 deletions"),
        (
            "sizes",
            [torch.ones(1), torch.ones(2), torch.ones(1)],
            "sizes: 2 entries for 1 deletions",
        ),
    ],
)
def test_fields_that_cannot_be_joined_are_named(field: str, values: list[Any], words: str) -> None:
    calls = iter(values)
    with pytest.raises(TypeError, match=f"Shapes.{words}"):
        run_per_start_model(
            lambda part, ctx: replace(shape(part, ctx), **{field: next(calls)}),
            successive(),
            LocalContext(),
        )


def test_a_checkpoint_of_results_that_are_not_known_is_not_gone_on_from() -> None:
    ctx, calls = LocalContext(checkpoint_every=1), list[int]()
    whole = run_per_start_model(measure, successive(), ctx)
    assert ctx.checkpoint is not None
    step, tensors = ctx.checkpoint
    told = json.dumps(
        {"role": "SIZES", "why": ["x"], "releases_compared": 1, "controls": {}}
    ).encode()
    older = tensors | {"0.json": torch.tensor(list(told), dtype=torch.uint8)}
    ctx.checkpoint = step, older

    def counted(part: WhiteBoxView, group: Context) -> Sizes:
        calls.append(1)
        return measure(part, group)

    found = run_per_start_model(counted, successive(), ctx)
    assert len(calls) == DELETIONS
    assert isinstance(found, Sizes)
    assert isinstance(whole, Sizes)
    assert found.why == whole.why


def test_controls_of_the_first_groups_only_are_kept() -> None:
    calls = iter([True, True, False])

    def attack(part: WhiteBoxView, ctx: Context) -> Sizes:
        found = measure(part, ctx)
        return found if next(calls) else replace(found, controls={})

    found = run_per_start_model(attack, successive(), LocalContext())
    assert isinstance(found, Sizes)
    assert torch.equal(found.controls["twice"], 2 * found.sizes[:2])


def test_a_result_of_any_kind_is_joined_and_survives_an_interruption() -> None:
    seen, ctx, calls = successive(), LocalContext(checkpoint_every=1), list[int]()

    def interrupted(part: WhiteBoxView, group: Context) -> Sizes:
        calls.append(1)
        if len(calls) == DELETIONS:
            raise RuntimeError("stopped")
        return measure(part, group)

    with pytest.raises(RuntimeError, match="stopped"):
        run_per_start_model(interrupted, seen, ctx)
    found = run_per_start_model(interrupted, seen, ctx)
    assert len(calls) == DELETIONS + 1  # no finished group is attacked again
    alone = measure(replace(seen, original=seen.original.pick([0])), ctx)
    assert isinstance(found, Sizes)
    assert torch.equal(found.sizes, alone.sizes)
    assert torch.equal(found.controls["twice"], alone.controls["twice"])
    assert found.why == alone.why
    assert found.releases_compared == 2
