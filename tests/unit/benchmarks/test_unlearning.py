"""Methods with their default settings, beside retraining: the small form of the benchmark."""

from __future__ import annotations

from statistics import fmean

import pytest

from benchmarks.unlearning import (
    METHODS,
    Deletion,
    World,
    build_world,
    compute_way,
    draw_deletions,
    measure_accuracy,
    measure_loss,
    unlearn,
)

# of no seed that a setting was chosen on
SEED, N, K, DELETIONS = 0, 500, 20, 8
COST = 0.03  # of test accuracy, beside retraining
# Published methods that do not get there: see docs/measurements.md. Noise on all weights hurts what
# stays as much as what goes; nearly every batch of 32 saw one of 20 forgotten samples of 500, and
# undoing them all takes back the training.
LESS, MORE = ("fisher",), ("amnesiac",)


@pytest.fixture(scope="module")
def setting() -> tuple[World, list[Deletion]]:
    world = build_world("mnist_5k", "mlp", N, SEED)
    return world, list(draw_deletions(world, str(K), DELETIONS, 3))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_it_goes_a_good_part_of_the_way_to_retraining_and_not_far_beyond(
    setting: tuple[World, list[Deletion]], method: str
) -> None:
    world, deletions = setting
    original = [measure_loss(world.original, d.forget) for d in deletions]
    retrained = [[measure_loss(n, d.forget) for n in d.retrained] for d in deletions]
    reached = fmean(measure_accuracy(n, world.test) for d in deletions for n in d.retrained)
    releases = [unlearn(world, d, method, {})[0] for d in deletions]
    released = [measure_loss(n, d.forget) for n, d in zip(releases, deletions, strict=True)]
    way = compute_way(original, released, retrained)
    assert way is not None
    if method in MORE:
        assert way > 2
        return
    assert (-0.05 if method in LESS else 0.25) <= way <= 2
    assert fmean(measure_accuracy(n, world.test) for n in releases) >= reached - COST


def test_the_way_is_a_share_of_the_means_and_not_measurable_within_the_spread() -> None:
    retrained = [[1.0, 1.2, 0.8], [3.0, 3.1, 2.9]]
    assert compute_way([0.0, 0.0], [0.5, 1.5], retrained) == pytest.approx(0.5)
    assert compute_way([0.0, 0.0], [0.0, 0.0], retrained) == 0
    assert compute_way([1.0, 3.0], [0.5, 1.5], retrained) is None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradient_ascent", "first_order"])
def test_a_convolutional_network_forgets_and_still_classifies(method: str) -> None:
    """Its loss is steep around weights that know the samples by heart: a first-order step that
    nothing shortened once took it to chance."""
    world = build_world("mnist_5k", "convnet", N, SEED)
    known = measure_accuracy(world.original, world.test)
    for deletion in draw_deletions(world, str(K), 2, retrainings=0):
        release, _ = unlearn(world, deletion, method, {})
        assert measure_loss(release, deletion.forget) > 2 * measure_loss(
            world.original, deletion.forget
        )
        assert measure_accuracy(release, world.test) >= known - 0.1
