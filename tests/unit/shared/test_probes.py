"""What a search for probes may cost, quoted before it runs."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.plugins import DatasetTraits
from shared.probes import build_search, describe_query_cost

DIGITS = DatasetTraits(input_shape=(1, 28, 28), num_classes=10)


@pytest.mark.parametrize(("params", "data", "words"), [
    # 20 candidates of 10 classes, 10 tries of 20 rounds, 2 * 784 + 1 queries each
    ({"preset": "paper"}, DIGITS, "at most 62,760,000 queries of the original model"),
    ({"preset": "paper"}, DatasetTraits(input_shape=(3, 32, 32), num_classes=10), "at most 81,960,000 queries"),
    ({"preset": "paper", "candidates": 10, "rounds": 1, "directions": None}, DIGITS, "at most 1,569,000 queries"),
    ({"preset": "paper"}, DatasetTraits(), "at most 8,196,000 times the number of classes queries"),
    ({"preset": "coarse"}, DIGITS, "at most 50,000 queries"),
    ({"preset": "coarse", "max_queries": 7}, DatasetTraits(), "at most 7 queries"),
])  # fmt: skip
def test_the_quote_is_the_most_it_can_ask(
    params: dict[str, Any], data: DatasetTraits, words: str
) -> None:
    assert words in describe_query_cost(params, data)


def test_a_published_search_is_not_cut_short() -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"may need up to 62,760,000 queries .* more than max_queries \(62,759,999\)",
    ) as no:
        describe_query_cost({"preset": "paper", "max_queries": 62_759_999}, DIGITS)
    assert no.value.field == "params.max_queries"
    assert describe_query_cost({"preset": "paper", "max_queries": 62_760_000}, DIGITS)
    # ours stops where it must
    assert describe_query_cost({"preset": "coarse", "max_queries": 1}, DIGITS)


def test_parameters_left_open_are_the_presets() -> None:
    paper = build_search({"preset": "paper", "per_class": None})
    assert (paper.candidates, paper.per_class, paper.tries, paper.rounds) == (20, 10, 10, 20)
    assert (paper.directions, paper.confidence) == (1024, 0.9995)
    assert build_search({"preset": "coarse", "per_class": 3}).per_class == 3
