"""The relative test: a release like the original is flagged, a retrained one of another seed never."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shared.ml.context import make_generator
from shared.ml.forgetting.three_sample import compare_three_samples

DELETIONS, SEEDS, CLASSES = 8, 3, 10


def draw_models(seed: int, memorised: float, k: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the original [D, k, K] and of 1 + S retrained models [1 + S, D, k, K]; labels.

    Each sample has its own difficulty, each model its own noise; the original has learned the
    samples by `memorised` nats.
    """
    generator = make_generator(seed, "models")

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    labels = torch.randint(CLASSES, (DELETIONS, k), generator=generator)
    true = torch.nn.functional.one_hot(labels, CLASSES)
    common = 2 * draw(DELETIONS, k, CLASSES) + (2 + draw(DELETIONS, k, 1)) * true
    models = common + 0.5 * draw(2 + SEEDS, DELETIONS, k, CLASSES)
    return models[0] + memorised * true, models[1:], labels


def compare(
    seed: int, memorised: float, share: float, k: int = 1
) -> tuple[bool | None, float | None]:
    """The finding on a release that lies at `share` of the way from the original to retraining."""
    original, retrained, labels = draw_models(seed, memorised, k)
    release = (1 - share) * original + share * retrained[0]
    test = compare_three_samples(
        original, release, retrained[1:].transpose(0, 1), labels, make_generator(seed, "test")
    )
    assert (test.not_forgotten is None) == (test.reason is not None)
    return test.not_forgotten, test.statistic


@pytest.mark.parametrize("memorised", [0.0, 0.5, 2.0, 6.0])
def test_retrained_models_of_another_seed_are_never_flagged(memorised: float) -> None:
    """The control that must pass, whether the original is far from retraining or like it."""
    found = [compare(seed, memorised, share=1) for seed in range(60)]
    assert not any(flagged for flagged, _ in found)
    if memorised >= 2:  # and that is a finding, not silence
        assert sum(flagged is False for flagged, _ in found) >= 58
        assert all(statistic is None or statistic < 0 for _, statistic in found)


def test_a_release_that_changes_nothing_is_flagged() -> None:
    found = [compare(seed, 4.0, share=0)[0] for seed in range(50)]
    assert sum(flagged is True for flagged in found) >= 48


def test_a_release_that_went_most_of_the_way_is_not_flagged() -> None:
    found = [compare(seed, 4.0, share=0.8)[0] for seed in range(50)]
    assert sum(flagged is True for flagged in found) == 0


def test_without_memorisation_it_says_that_it_cannot_decide() -> None:
    found = [compare(seed, 0.0, share=0)[0] for seed in range(50)]
    assert sum(flagged is None for flagged in found) >= 42


def test_several_samples_per_deletion_are_swapped_together() -> None:
    assert [compare(seed, 2.0, 0, k=4)[0] for seed in range(10)] == [True] * 10
    assert not any(compare(seed, 2.0, 1, k=4)[0] for seed in range(10))


def test_two_deletions_are_too_few() -> None:
    original, retrained, labels = draw_models(0, 4.0)
    test = compare_three_samples(
        original[:2],
        original[:2],
        retrained[1:].transpose(0, 1)[:2],
        labels[:2],
        make_generator(0, ""),
    )
    assert test.not_forgotten is None
    assert test.reason == "the test needs at least 3 deletions"


def test_equal_inputs_give_equal_results() -> None:
    assert compare(3, 1.0, 0.5) == compare(3, 1.0, 0.5)
