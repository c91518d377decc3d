"""The preset `paper` gives the pixels of a slow loop that was written from the paper and not from
our code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.ml.attack_io import Reconstruction, WhiteBoxView
from shared.ml.attacks import feature_recovery
from shared.ml.attacks._estimate import GradientEstimate
from shared.ml.attacks._schedules import SCHEDULES
from shared.ml.attacks._search import MatchingObjective, search_images
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, Networks, list_parameter_names
from shared.plugin_ref import PluginRef
from tests.support.observations import make_observation
from tests.support.reference_recovery import (
    RecoveredImage,
    approximate_target,
    exact_target,
    recover,
)

pytestmark = pytest.mark.slow

STEPS, DELETIONS, RESTARTS = 50, 2, 2


def architecture(model: str, side: int, **params: Any) -> Architecture:
    choice = PluginRef(name=model, params=params)
    return Architecture(
        model=choice, input_shape=(1, side, side), num_classes=4, mean=(0.5,), std=(0.5,)
    )


MODELS = {
    # here shared passes end 0.2 away from these pixels
    "convnet": architecture("convnet", 12, width=2),
    "lenet": architecture("lenet", 12),
    "mlp": architecture("mlp", 9, hidden=32),
}
SETTINGS = [
    ("convnet", "pair", 2), ("convnet", "base", 1), ("lenet", "pair", 1), ("lenet", "base", 2), ("mlp", "pair", 2),
    ("mlp", "base", 1),
]  # fmt: skip


def seen_by_server(model: str, gradient_from: str, k: int, double: bool = False) -> WhiteBoxView:
    method = {"pair": "gradient_ascent", "base": "retrain"}[gradient_from]
    return make_observation(MODELS[model], method, DELETIONS, k, double)[0]


def at(seen: WhiteBoxView, gradient_from: str) -> Networks:
    return seen.original if gradient_from == "pair" else seen.require_base()[0]


def aim(seen: WhiteBoxView, gradient_from: str, deletion: int) -> list[Tensor]:
    def state(networks: Networks) -> dict[str, Tensor]:
        return {
            name: stacked[deletion if networks.count > 1 else 0]
            for name, stacked in networks.state.items()
        }

    names, before, after = (
        list_parameter_names(seen.original),
        state(seen.original),
        state(seen.unlearned),
    )
    if gradient_from == "pair":
        return approximate_target(before, after, names)
    base, counts = seen.require_base()
    return exact_target(state(base), before, after, counts.N, counts.k, names)


def slowly(seen: WhiteBoxView, gradient_from: str, deletion: int) -> RecoveredImage:
    """The same starts, as they are drawn by deletion and start."""
    assert seen.labels is not None
    shape = (seen.deletion_size, *seen.original.architecture.input_shape)
    starts = [
        torch.randn(shape, generator=make_generator(0, f"start {deletion} {r}"))
        for r in range(RESTARTS)
    ]
    network = at(seen, gradient_from).load_network()
    return recover(
        network, aim(seen, gradient_from, deletion), seen.labels[deletion], starts, STEPS
    )


def run(seen: WhiteBoxView, gradient_from: str) -> Reconstruction:
    params = feature_recovery.FeatureRecoveryParams(
        preset="paper", iterations=STEPS, restarts=RESTARTS, gradient_from=gradient_from
    )
    return feature_recovery.run(seen, params, LocalContext())


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("model", "gradient_from", "k"), SETTINGS)
def test_the_pixels_are_the_references(model: str, gradient_from: str, k: int) -> None:
    seen = seen_by_server(model, gradient_from, k)
    found = run(seen, gradient_from)
    for deletion in range(DELETIONS):
        expected = slowly(seen, gradient_from, deletion)
        assert torch.equal(found.images[deletion], expected.image)
        assert found.matching_loss[deletion].item() == expected.matching_loss


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "double")
@pytest.mark.parametrize("arithmetic", ["plain", "batched"])
@pytest.mark.parametrize(("model", "gradient_from", "k"), SETTINGS)
def test_in_float64_shared_passes_are_the_reference_too(
    model: str, gradient_from: str, k: int, arithmetic: Any
) -> None:
    seen = seen_by_server(model, gradient_from, k, double=True)
    assert seen.labels is not None
    aims = [aim(seen, gradient_from, deletion) for deletion in range(DELETIONS)]
    names = list_parameter_names(seen.original)
    direction = {name: torch.stack([one[i] for one in aims]) for i, name in enumerate(names)}
    ctx = LocalContext()
    matching = MatchingObjective(
        [GradientEstimate(at(seen, gradient_from), direction)], seen.labels, arithmetic, ctx
    )
    shape = (k, *MODELS[model].input_shape)
    images, _, loss, *_ = search_images(
        matching, DELETIONS, SCHEDULES["paper"], STEPS, RESTARTS, shape, ctx
    )
    for deletion in range(DELETIONS):
        expected = slowly(seen, gradient_from, deletion)
        assert expected.image.dtype == torch.float64
        torch.testing.assert_close(images[deletion], expected.image, atol=1e-14, rtol=0)
        assert loss[deletion].item() == pytest.approx(expected.matching_loss, abs=1e-14)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.041},
        {"weight_decay": 0.0},
        {"tv": (2e-2, 2e-2)},
        {"clamp_last": True},
        {"decay": "cosine"},
        {"init": "dark"},
    ],
)
def test_every_number_of_the_preset_shows_in_the_pixels(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    seen = seen_by_server("mlp", "pair", 1)
    monkeypatch.setitem(SCHEDULES, "paper", replace(SCHEDULES["paper"], **change))
    assert not torch.equal(run(seen, "pair").images[0], slowly(seen, "pair", 0).image)


def test_the_preset_computes_each_image_by_itself_and_ours_all_at_once() -> None:
    assert {name: schedule.arithmetic for name, schedule in SCHEDULES.items()} == {
        "paper": "plain", "fast": "batched", "default": "batched", "accurate": "batched",
    }  # fmt: skip
    with pytest.raises(ValueError, match="arithmetic"):
        feature_recovery.FeatureRecoveryParams(arithmetic="quick")
