"""How far brought weights moved: sums over layers, and drawings that no name breaks."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from shared.comparison import (
    MAX_DELETIONS,
    MAX_TENSORS,
    Comparison,
    ModelDifference,
    TensorDifference,
)
from shared.ml.ingest.pair import TensorChange, WeightComparison
from shared.reporting.bars import MAX_NAME_LENGTH, Bar, draw_bars, shorten_path
from shared.reporting.comparisons import read_comparison
from shared.reporting.moved_weights import (
    MAX_LAYERS,
    draw_moved_weights,
    format_change,
    format_cosine,
    summarise_weights,
)
from shared.reporting.not_brought import list_not_brought
from workers.stages._brought_differences import describe_difference

LONG = ".".join(["a_rather_long_part_of_a_name"] * 12)


def tensor(name: str, length: float, change: float, size: int = 10) -> TensorDifference:
    return TensorDifference(name=name, size=size, length=length, change=change, unchanged_share=0.5)


def compare(*deletions: list[TensorDifference], **parts: bool) -> Comparison:
    return Comparison(
        release="r",
        with_deleted=parts.get("deleted", False),
        with_public=parts.get("public", False),
        with_base=parts.get("base", False),
        dtypes=["F32"],
        prefixes=[],
        original_test_accuracy=None,
        deletions=[
            ModelDifference(
                relative_change=0.1,
                unchanged_share=0.5,
                cosine=0.9,
                resolution=2**-24,
                tensors=tensors,
            )
            for tensors in deletions
        ],
        findings=[],
    )


def test_a_layer_is_the_root_of_the_sum_of_squares_of_its_tensors() -> None:
    moved = summarise_weights(
        compare(
            [tensor("a.weight", 4, 3), tensor("a.bias", 3, 4), tensor("b.weight", 10, 1)],
            [tensor("a.weight", 4, 0), tensor("a.bias", 3, 0), tensor("b.weight", 10, 3)],
        )
    )
    a, b = moved.layers
    assert (a.name, a.size, a.least, a.most, a.relative_change) == ("a", 20, 0, 1, 0.5)
    assert b.relative_change == pytest.approx(0.2)
    assert moved.other_layers is None


def test_layers_beyond_the_largest_movers_are_summed_up() -> None:
    tensors = [tensor(f"layer{n}.weight", 1, 0.001 * n) for n in range(MAX_LAYERS + 2)]
    moved = summarise_weights(compare(tensors))
    assert [one.name for one in moved.layers] == [f"layer{n}" for n in range(2, MAX_LAYERS + 2)]
    assert moved.other_layers is not None
    assert moved.other_layers.count == 2
    assert moved.other_layers.relative_change == pytest.approx(0.001 / math.sqrt(2))


def test_what_was_zero_before_has_no_relative_change_and_is_named() -> None:
    moved = summarise_weights(compare([tensor("head.bias", 0, 1), tensor("body.weight", 1, 0)]))
    head, body = moved.layers
    assert head.relative_change is None
    assert body.relative_change == 0
    assert "from zero" in draw_moved_weights(moved).drawing


def test_a_comparison_keeps_the_tensors_that_moved_most_and_the_sum_of_the_rest() -> None:
    changes = [
        TensorChange(
            name=f"network.{n}.weight",
            buffer=False,
            size=2,
            length=1.0,
            change=float(n >= 2),
            relative_change=float(n >= 2),
            unchanged_share=0.0,
        )
        for n in range(MAX_TENSORS + 2)
    ]
    difference = describe_difference(
        WeightComparison(
            tensors=changes,
            relative_change=1.0,
            unchanged_share=0.0,
            cosine=None,
            resolution=2**-24,
            before_dtypes={},
            after_dtypes={},
            moved_buffers=["network.n.running_mean"] * (MAX_TENSORS + 5),
            moved_statistics=[],
            base_relative_change=None,
            findings=[],
        ),
        deletions=1,
    )
    assert len(difference.tensors) == MAX_TENSORS
    assert difference.tensors[0].name == "2.weight"
    assert difference.others is not None
    assert (difference.others.count, difference.others.size, difference.others.change) == (2, 4, 0)
    assert difference.moved_buffer_count == MAX_TENSORS + 5
    moved = summarise_weights(compare([]).model_copy(update={"deletions": [difference]}))
    assert moved.other_layers is not None
    assert moved.other_layers.count == MAX_TENSORS - MAX_LAYERS + 2
    assert moved.moved_buffers == ["n.running_mean"]


def test_the_largest_comparison_can_be_read() -> None:
    """A hundred deletions of a network of very long names."""
    change = TensorChange(
        name="x" * 600, buffer=False, size=2, length=1.23456789012345e-5, change=1.23456789012345e-5,
        relative_change=1.0, unchanged_share=0.123456789012345,
    )  # fmt: skip
    whole = WeightComparison(
        tensors=[change] * (MAX_TENSORS + 1), relative_change=1.0, unchanged_share=0.0, cosine=None,
        resolution=2**-24, before_dtypes={}, after_dtypes={}, moved_buffers=["y" * 600] * 1000,
        moved_statistics=[], base_relative_change=None, findings=[],
    )  # fmt: skip
    one = describe_difference(whole, MAX_DELETIONS)
    large = compare([]).model_copy(update={"deletions": [one] * MAX_DELETIONS})
    data = large.model_dump_json().encode()
    assert len(read_comparison(data, "COMPARISON_1").deletions) == MAX_DELETIONS


def test_long_names_fit_and_are_escaped() -> None:
    name = f"<b>{LONG}"
    drawing = draw_bars(
        [Bar(name, 1.0, 0.5, 1.5, "100 %"), Bar("b", 0.0, None, None, "0 %")], "x", "y"
    )
    assert "<b>" not in drawing
    assert len(shorten_path(LONG, MAX_NAME_LENGTH)) <= MAX_NAME_LENGTH
    assert shorten_path("stage_1.block_2.convolution_of_depth", 24) == "stage_1.block_2.con…epth"
    assert shorten_path("x" * 900, 20).count("x") == 19


def test_small_changes_are_not_rounded_to_nothing() -> None:
    assert format_change(0.0123) == "1.2 %"
    assert format_change(3e-9) == "3e-07 %"
    assert format_change(0) == "0 %"
    assert format_cosine(1 - 3e-8) == "1 − 3e-08"
    assert format_cosine(0.98765) == "0.9877"
    assert format_cosine(-0.5) == "−0.5000"


def test_what_was_not_brought_is_named_in_the_order_in_which_it_matters() -> None:
    assert [one.what for one in list_not_brought([compare([], base=True)])] == [
        "the deleted samples",
        "public samples of the same kind",
    ]
    assert not list_not_brought([compare([], deleted=True, public=True, base=True)])
    assert not list_not_brought([])


@pytest.mark.parametrize(
    "change", [{"length": -1.0}, {"change": math.inf}, {"unchanged_share": 2}, {"name": "x" * 501}]
)
def test_a_comparison_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TensorDifference.model_validate({**tensor("a", 1, 1).model_dump(), **change})
