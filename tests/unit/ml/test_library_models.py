"""Models of torchvision and timm by name: what is built, what is refused, and that nothing is
downloaded."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from shared.catalog import Catalog, CatalogEntry
from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.models import _library, registry, timm, torchvision
from shared.ml.models._library import NAMES_FOLDER
from shared.ml.networks import Architecture, build_network, read_networks, write_network
from shared.plugin_ref import PluginRef
from tests.support.library_names import build_lists
from tests.support.plugins import PLUGINS
from tests.support.source_tree import ROOT

Shape = tuple[int, int, int]


def describe(library: str, name: str, shape: Shape) -> Architecture:
    return Architecture(
        model=PluginRef(name=library, params={"name": name}),
        input_shape=shape,
        num_classes=5,
        mean=(0.5,) * shape[0],
        std=(0.5,) * shape[0],
    )


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(
    ("library", "name", "shape"),
    [
        ("timm", "resnet18", (1, 28, 28)),
        ("timm", "vit_tiny_patch16_224", (4, 32, 48)),
        ("torchvision", "shufflenet_v2_x0_5", (3, 32, 32)),
        ("torchvision", "googlenet", (3, 64, 64)),
    ],
)
def test_a_model_of_a_library_fits_the_data_and_is_read_back(
    library: str, name: str, shape: Shape
) -> None:
    architecture = describe(library, name, shape)
    network = build_network(architecture, make_generator(0, "weights"))
    images = torch.rand(2, *shape, generator=make_generator(0, "images"))
    for training in (False, True):
        assert network.train(training)(images).shape == (2, 5)
    again = read_networks(write_network(architecture, network), "ORIGINAL").load_network()
    with torch.no_grad():
        assert torch.equal(again(images), network.eval()(images))


@pytest.mark.parametrize(
    ("library", "name", "shape"),
    [
        ("torchvision", "regnet_y_400mf", (3, 32, 32)),  # computes its widths with tensors
        ("torchvision", "inception_v3", (3, 96, 96)),
        ("torchvision", "vit_b_32", (3, 64, 64)),
        ("torchvision", "maxvit_t", (3, 224, 224)),
        ("timm", "swin_tiny_patch4_window7_224", (3, 64, 64)),
    ],
)
def test_shapes_alone_take_no_memory(library: str, name: str, shape: Shape) -> None:
    with torch.device("meta"):
        network = build_network(describe(library, name, shape))
    assert all(t.is_meta for t in network.state_dict().values())


@pytest.mark.parametrize(
    ("library", "name", "shape", "why"),
    [
        ("timm", "vit_giant_patch14_224", (3, 224, 224), "million weights, above the limit of 200"),
        (
            "torchvision",
            "regnet_y_128gf",
            (3, 224, 224),
            "has 638 million weights, above the limit",
        ),
        ("torchvision", "alexnet", (3, 32, 32), "does not take images of 3 x 32 x 32"),
        ("torchvision", "vit_b_16", (3, 32, 48), "does not take images of 3 x 32 x 48"),
        ("torchvision", "resnet18", (1, 32, 32), "needs images of 3 channels, not 1"),
        ("timm", "resnet18", (7, 1, 1), "not a table"),
        ("timm", "gemma4_vit_167m_enc", (3, 96, 96), "one score per class"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_built(
    library: str, name: str, shape: Shape, why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        build_network(describe(library, name, shape))
    assert refused.value.field == "params.model"


NO_NAMES = {
    "resnet81": "did you mean 'resnet18'",
    "resnet18.a1_in1k": "leave out '.a1_in1k' and write 'resnet18'",
    "hf-hub:timm/resnet18.a1_in1k": "is none of the",
    "hf_hub:timm/resnet18": "is none of the",
    "local-dir:/tmp/model": "is none of the",
    "timm/resnet18": "is none of the",
    "": "is none of the",
}


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_the_library_does_not_list_is_refused_by_gateway_and_worker(
    library: str, name: str
) -> None:
    why = re.escape(NO_NAMES[name])
    catalog = Catalog.from_json(
        [
            CatalogEntry.from_plugin(plugin).model_dump()
            for plugin in (*PLUGINS, registry.get("timm"), registry.get("torchvision"))
        ]
    )
    model = {"name": library, "params": {"name": name}}
    with pytest.raises(InvalidRequest, match=why) as refused:
        catalog.describe("pretrain", None, {"dataset": "digits", "model": model})
    assert refused.value.field == "params.model.params.name"
    assert len(refused.value.message) < 300
    with pytest.raises(InvalidRequest, match=why) as refused:
        build_network(describe(library, name, (3, 32, 32)))
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize(
    "option", ["pretrained", "weights", "checkpoint_path", "pretrained_cfg", "num_classes"]
)
def test_a_library_takes_a_name_and_nothing_else(library: str, option: str) -> None:
    model = PluginRef(name=library, params={"name": "resnet18", option: True})
    with pytest.raises(InvalidRequest, match=option):
        build_network(
            describe(library, "resnet18", (3, 32, 32)).model_copy(update={"model": model})
        )


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_the_published_names_are_the_librarys(library: str) -> None:
    """To write them anew: python -m tests.support.library_names"""
    assert (NAMES_FOLDER / f"{library}.txt").read_text() == build_lists()[library]


@pytest.mark.slow
def test_no_worker_imports_a_library_of_models_to_publish_its_names() -> None:
    code = "from workers.catalog import load_catalog; load_catalog(); import sys; print('timm' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_every_name_is_looked_up_in_the_librarys_own_list() -> None:
    assert {"resnet18", "vit_tiny_patch16_224"} <= set(timm.list_names())
    assert {"resnet18", "efficientnet_b0"} <= set(torchvision.list_names())
    # torchvision lists detectors and quantised models under names with a module
    for name in (*timm.list_names(), *torchvision.list_names()):
        assert re.fullmatch(r"[a-z0-9_]+", name), name


def test_a_size_is_checked_once_and_moves_no_random_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[bool] = []

    def build(_name: str, _shape: Shape, num_classes: int) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))
        built.append(next(network.parameters()).is_meta)
        return network

    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        network = _library.build_by_name("own", build, "x", (1, 2, 2), 3)
        draws.append(next(network.parameters()))
    assert built == [True, False, False]
    assert torch.equal(*draws)
    monkeypatch.setattr(_library, "MAX_TENSOR_ELEMENTS", 14)
    with pytest.raises(InvalidRequest, match="above the limit"):
        _library.build_by_name("own", build, "y", (1, 2, 2), 3)
    assert built[-1]
