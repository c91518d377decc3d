"""Attacks on models of torchvision and timm, and what their records say of the way there."""

from __future__ import annotations

import pytest
import torch

from shared.ml import attacks
from shared.ml.attack_io import LabelGuesses, Reconstruction, WhiteBoxView
from shared.ml.attacks import _memory
from shared.ml.context import LocalContext
from shared.ml.networks import Architecture
from shared.plugin_ref import PluginRef
from tests.support.ascended import LABEL, SMALL, ascend

pytestmark = pytest.mark.slow

Shape = tuple[int, int, int]


def describe(library: str, name: str, shape: Shape) -> Architecture:
    return Architecture(
        model=PluginRef(name=library, params={"name": name}),
        input_shape=shape,
        num_classes=5,
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
    )


def recover(view: WhiteBoxView, iterations: int = 3) -> Reconstruction:
    attack = attacks.registry.get("feature_recovery")
    result = attack.target(view, attack.params(iterations=iterations), LocalContext())
    assert isinstance(result, Reconstruction)
    assert result.images.shape == (view.unlearned.count, 1, *view.original.architecture.input_shape)
    assert bool(torch.isfinite(result.images).all())
    assert bool((result.matching_loss < 1).all())  # nearer than what is unrelated
    return result


@pytest.mark.parametrize(
    ("library", "name", "shape", "batch_size"),
    [
        ("timm", "resnet18", (3, 32, 32), 32),
        ("torchvision", "mobilenet_v3_small", (3, 32, 32), 32),
        ("torchvision", "shufflenet_v2_x0_5", (3, 64, 64), 32),
        ("timm", "convnext_atto", (1, 32, 32), 32),
        ("timm", "vit_tiny_patch16_224", (3, 32, 32), 1),
    ],
)
def test_images_and_labels_are_attacked(
    library: str, name: str, shape: Shape, batch_size: int
) -> None:
    view = ascend(describe(library, name, shape), deletions=2)
    attack = attacks.registry.get("label_inference")
    guesses = attack.target(view, attack.params(), LocalContext())
    assert isinstance(guesses, LabelGuesses)
    assert guesses.labels.tolist() == [[LABEL], [LABEL]]
    result = recover(view)
    assert result.batch_size == batch_size
    assert result.fallbacks is not None
    assert all(bool(reason) == (batch_size == 1) for reason in result.fallbacks)


@pytest.mark.parametrize(
    ("library", "name"), [("torchvision", "resnet18"), ("timm", "vit_tiny_patch16_224")]
)
def test_images_of_224_pixels_are_attacked(library: str, name: str) -> None:
    recover(ascend(describe(library, name, (3, 224, 224))), iterations=2)


def test_fewer_trials_share_a_pass_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    view, need = ascend(SMALL, deletions=3), _memory.estimate_trial_bytes(SMALL, 1)
    assert recover(view).batch_size == 32
    monkeypatch.setenv("PALIMPSEST_MEMORY_LIMIT_BYTES", str(round(2.5 * need / 0.5)))
    assert recover(view).batch_size == 2
    monkeypatch.setenv("PALIMPSEST_MEMORY_LIMIT_BYTES", "1")
    assert recover(view).batch_size == 1
    # for a class of 100 images a trial is as much larger
    assert 50 * need < _memory.estimate_trial_bytes(SMALL, 100) < 100 * need


def test_the_estimate_counts_weights_once_and_what_a_pass_keeps() -> None:
    architecture = Architecture(
        model=PluginRef(name="mlp", params={"depth": 0}),
        input_shape=(1, 10, 10),
        num_classes=5,
        mean=(0.5,),
        std=(0.25,),
    )
    weights, constants, image = 4 * (500 + 5), 4, 4 * 100
    need = _memory.estimate_trial_bytes(architecture, 1) / _memory.PEAK_FACTOR
    assert weights + image <= need <= weights + 2 * image + 2 * constants
