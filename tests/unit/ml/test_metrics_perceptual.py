"""HaarPSI, feature distance and LPIPS against slow references, and that they order images as they
should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared.errors import InvalidRequest
from shared.ml import models
from shared.ml.context import LocalContext, make_generator
from shared.ml.metrics._features import join_features
from shared.ml.metrics.feature_distance import feature_distance
from shared.ml.metrics.haarpsi import haarpsi
from shared.ml.metrics.lpips import HEADS, lpips, read_weights
from shared.ml.networks import Architecture, Normalised, build_network
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugins import ModelPlugin
from tests.support import reference_metrics
from tests.support.lpips import FILE, make_random_weights, write_weights
from tests.support.plugins import give_examples


def draw(*shape: int, purpose: str = "x") -> Tensor:
    return torch.rand(*shape, generator=make_generator(0, purpose))


def noisy(images: Tensor, by: float) -> Tensor:
    return (images + by * torch.randn(images.shape, generator=make_generator(0, "noise"))).clamp(
        0, 1
    )


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(1)


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 28, 28), (3, 32, 32), (1, 17, 20), (3, 19, 31)])
def test_haarpsi_is_the_slow_reference(shape: tuple[int, int, int]) -> None:
    truth = draw(3, *shape)
    found = torch.stack(
        [draw(*shape, purpose="y"), *(noisy(truth, by)[i] for i, by in ((1, 0.05), (2, 0.3)))]
    )
    wanted = [
        reference_metrics.compute_haarpsi(a.numpy(), b.numpy())
        for a, b in zip(found, truth, strict=True)
    ]
    assert haarpsi(found, truth).tolist() == pytest.approx(wanted, abs=1e-5)
    alone = torch.cat([haarpsi(a[None], b[None]) for a, b in zip(found, truth, strict=True)])
    torch.testing.assert_close(alone, haarpsi(found, truth), atol=1e-6, rtol=0)


def test_haarpsi_is_one_for_equal_images_black_ones_too_and_falls_with_noise() -> None:
    truth = draw(2, 3, 32, 32)
    black = torch.zeros(1, 1, 28, 28)
    assert haarpsi(truth, truth).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert haarpsi(black, black).tolist() == pytest.approx([1], abs=1e-5)
    assert 0 < haarpsi(black, black + 1).item() < 0.3
    falling = [haarpsi(noisy(truth, by), truth).mean().item() for by in (0.02, 0.05, 0.1, 0.3)]
    assert falling == sorted(falling, reverse=True)
    assert haarpsi(truth, truth).dtype == torch.float32


def network(model: str, shape: tuple[int, int, int] = (3, 32, 32), **params: object) -> nn.Module:
    channels = shape[0]
    like = Architecture(
        model={"name": model, "params": params},
        input_shape=shape,
        num_classes=4,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )
    return build_network(like, make_generator(0, "weights"))


@pytest.mark.parametrize(
    "plugin", [pytest.param(plugin, id=plugin.name) for plugin in models.registry]
)
def test_feature_distance_works_in_every_model_and_grows_with_noise(plugin: ModelPlugin) -> None:
    width = {"width": 8} if "width" in plugin.params.model_fields else {}
    params = give_examples(plugin) | width
    judge, truth = network(plugin.name, **params), draw(4, 3, 32, 32)
    seen = feature_distance(truth, judge)
    assert distance(seen, feature_distance(truth.clone(), judge)).tolist() == [0] * 4
    far = [distance(feature_distance(noisy(truth, by), judge), seen) for by in (0.01, 0.05, 0.2)]
    assert bool((far[0] > 0).all())
    means = [each.mean().item() for each in far]
    assert means == sorted(means)
    assert bool((torch.stack(far) <= 4).all())
    assert not any(layer._forward_pre_hooks for layer in judge.modules())


def test_feature_distance_is_the_slow_reference() -> None:
    """Of a network with a shortcut that shares its block's input, which counts once."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.main, self.shortcut = (
                nn.Conv2d(1, 3, 3),
                nn.Conv2d(3, 5, 3),
                nn.Conv2d(3, 5, 3),
            )
            self.head = nn.Linear(5, 2)

        def hidden(self, images: Tensor) -> tuple[Tensor, Tensor]:
            x = self.stem(images).relu()
            return x, (self.main(x) + self.shortcut(x)).relu().mean((2, 3))

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(self.hidden(images)[1])
            return logits

    torch.manual_seed(0)
    net, a, b = Net().eval(), draw(2, 1, 9, 9), draw(2, 1, 9, 9, purpose="b")
    got = distance(feature_distance(a, net), feature_distance(b, net))
    with torch.no_grad():
        layers = list(zip(net.hidden(a), net.hidden(b), strict=True))
    for i, score in enumerate(got.tolist()):
        parts = [
            reference_metrics.compute_layer_distance(x[i].numpy(), y[i].numpy()) for x, y in layers
        ]
        assert score == pytest.approx(sum(parts) / 2, rel=1e-4)


def test_a_network_without_hidden_layers_compares_the_image_and_tables_work_too() -> None:
    images = draw(3, 1, 6, 6)
    flat = feature_distance(images, network("mlp", (1, 6, 6), depth=0))
    torch.testing.assert_close(flat, join_features([((images - 0.5) / 0.25).flatten(1)], [1.0]))
    table = draw(3, 20, 1, 1)
    mlp = models.registry.get("mlp")
    judge = Normalised(
        mlp.target((20, 1, 1), 4, mlp.params(depth=2)), (0.5,) * 20, (0.25,) * 20
    ).eval()
    near, far = (
        distance(feature_distance(noisy(table, by), judge), feature_distance(table, judge))
        for by in (0, 0.2)
    )
    assert near.tolist() == [0] * 3
    assert bool((far > 0).all())


def test_a_trained_network_finds_noise_nearer_than_the_class_and_the_class_nearer_than_others() -> (
    None
):
    labels = torch.arange(200) % 4
    images = (
        0.7 * draw(4, 1, 12, 12)[labels] + 0.3 * draw(200, 1, 12, 12, purpose="of each")
    ).clamp(0, 1)
    judge = network("convnet", (1, 12, 12), width=4)
    recipe = Recipe(lr=0.05, epochs=4, batch_size=16, batch_norm="trained")
    assert train(judge, Samples(images[:160], labels[:160]), recipe, LocalContext()) < 0.5
    truth, kinds = images[160:], labels[160:]
    seen = feature_distance(truth, judge)
    apart = (seen[:, None] - seen[None]).square().sum(2)
    same = kinds[:, None] == kinds[None]
    near = distance(feature_distance(noisy(truth, 0.01), judge), seen).mean()
    own, other = apart[same & ~torch.eye(40, dtype=torch.bool)].mean(), apart[~same].mean()
    random = distance(feature_distance(draw(*truth.shape, purpose="random"), judge), seen).mean()
    assert near < own / 2 < own < other / 2
    assert own < random / 2


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("shape", [(3, 64, 66), (1, 28, 28)])
def test_lpips_is_the_slow_reference(data_root: Path, shape: tuple[int, int, int]) -> None:
    weights = {name: t.numpy() for name, t in write_weights(data_root).items()}
    judge, digest = read_weights(FILE)
    assert len(digest) == 64
    truth = draw(2, *shape)
    found = torch.stack([noisy(truth, 0.1)[0], draw(*shape, purpose="y")])
    got = distance(lpips(found, judge), lpips(truth, judge))

    def reference(images: Tensor) -> list[np.ndarray]:
        enlarged = interpolate(images, (64, 64), mode="bilinear") if shape[1] < 64 else images
        shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
        coloured = enlarged.expand(-1, 3, -1, -1)[0].double().numpy()
        return reference_metrics.run_alexnet(
            (2 * coloured - 1 - shift[:, None, None]) / scale[:, None, None], weights
        )

    for i, score in enumerate(got.tolist()):
        layers = zip(reference(found[i : i + 1]), reference(truth[i : i + 1]), HEADS, strict=True)
        assert score == pytest.approx(
            sum(
                reference_metrics.compute_layer_distance(a, b, weights[head].ravel())
                for a, b, head in layers
            ),
            rel=1e-4,
        )
    assert got[0] < got[1]
    assert distance(lpips(truth, judge), lpips(truth, judge)).tolist() == [0, 0]


def gone(tensors: dict[str, Tensor]) -> None:
    del tensors["features.3.bias"]


def more(tensors: dict[str, Tensor]) -> None:
    tensors["classifier.1.weight"] = torch.zeros(1)


def narrow(tensors: dict[str, Tensor]) -> None:
    tensors["features.0.weight"] = tensors["features.0.weight"][:32].contiguous()


def halves(tensors: dict[str, Tensor]) -> None:
    tensors["features.0.weight"] = tensors["features.0.weight"].half()


def infinite(tensors: dict[str, Tensor]) -> None:
    tensors["features.0.bias"][3] = torch.inf


def below_zero(tensors: dict[str, Tensor]) -> None:
    tensors[HEADS[4]][0, 7] = -0.1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (gone, r"'features.3.bias' is missing"),
        (more, r"'classifier.1.weight' is unknown"),
        (
            narrow,
            r"'features.0.weight' is \[32, 3, 11, 11\] torch.float32, expected \[64, 3, 11, 11\]",
        ),
        (halves, r"torch.float16, expected"),
        (infinite, r"'features.0.bias' holds values that are not finite"),
        (below_zero, r"'lin4.model.1.weight' holds negative weights"),
    ],
)
def test_weights_that_are_no_lpips_are_refused(
    data_root: Path, spoil: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    tensors = make_random_weights()
    spoil(tensors)
    save_file(tensors, data_root / FILE)
    with pytest.raises(InvalidRequest, match=message) as refused:
        read_weights(FILE)
    assert refused.value.field == "params.lpips_weights"


def test_a_file_that_is_none_is_refused(data_root: Path) -> None:
    (data_root / "notes.txt").write_text("not tensors")
    (data_root / "folder").mkdir()
    for path, message in (
        ("notes.txt", "not a valid safetensors file"),
        ("folder", "not a regular file"),
        ("none.safetensors", "there is no"),
        ("../outside", "stay inside"),
    ):
        with pytest.raises(InvalidRequest, match=message) as refused:
            read_weights(path)
        assert refused.value.field == "params.lpips_weights"
