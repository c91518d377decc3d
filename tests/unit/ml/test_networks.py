"""Model artifacts: the same bytes again, and hostile bytes refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.networks import (
    Architecture,
    build_network,
    read_networks,
    write_network,
    write_networks,
)
from shared.ml.tensors import METADATA_KEY, read_tensors, write_tensors
from shared.plugin_ref import PluginRef

MLP = Architecture(
    model=PluginRef(name="mlp", params={"hidden": 4}),
    input_shape=(1, 5, 5),
    num_classes=3,
    mean=(0.5,),
    std=(0.25,),
)


def networks(count: int) -> list[torch.nn.Module]:
    return [build_network(MLP, make_generator(seed, "weights")) for seed in range(count)]


def test_one_network_comes_back_with_equal_bytes() -> None:
    data = write_network(MLP, networks(1)[0])
    read = read_networks(data, "BASE")
    assert read.count == 1
    assert write_network(read.architecture, read.load_network()) == data


def test_many_networks_come_back_in_order_with_equal_bytes() -> None:
    made = networks(3)
    data = write_networks(MLP, made)
    read = read_networks(data, "UNLEARNED")
    assert write_networks(MLP, [read.load_network(i) for i in range(3)]) == data
    image = torch.rand(2, 1, 5, 5, generator=make_generator(0, "x"))
    for index, network in enumerate(made):
        assert torch.equal(read.load_network(index)(image), network(image))


def test_a_stack_of_one_keeps_its_leading_dimension() -> None:
    data = write_networks(MLP, networks(1))
    assert read_tensors(data, "x")[0]["network.1.weight"].shape == (1, 4, 25)
    assert read_networks(data, "UNLEARNED").load_network().get_parameter(
        "network.1.weight"
    ).shape == (4, 25)


def test_initial_weights_come_from_the_generator_and_leave_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (
        build_network(MLP, make_generator(seed, "w")).state_dict() for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_normalisation_is_inside_the_network_and_no_weight() -> None:
    network = build_network(MLP, make_generator(0, "w"))
    image = torch.rand(1, 1, 5, 5, generator=make_generator(0, "x"))
    inner = network.get_submodule("network")
    assert torch.equal(network(image), inner((image - 0.5) / 0.25))
    assert not {"mean", "std"} & set(network.state_dict())


def spoilt(change: Callable[[dict[str, Tensor], dict], None]) -> bytes:
    tensors, about = read_tensors(write_network(MLP, networks(1)[0]), "x")
    change(tensors, about)
    return write_tensors(tensors, about)


def set_about(**changes: object) -> Callable[[dict[str, Tensor], dict], None]:
    return lambda _, about: about["architecture"].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, about: tensors.pop("network.1.bias"),
        lambda tensors, about: tensors.update(extra=torch.zeros(1)),
        lambda tensors, about: tensors.update({"network.1.bias": torch.zeros(5)}),
        lambda tensors, about: tensors.update(
            {"network.1.bias": torch.zeros(4, dtype=torch.float64)}
        ),
        lambda tensors, about: tensors.update({"network.1.bias": torch.full((4,), torch.nan)}),
        lambda tensors, about: about.pop("architecture"),
        lambda tensors, about: about.update(count=2),
        lambda tensors, about: about.update(count="1"),
        lambda tensors, about: about.update(count=-1),
        set_about(model={"name": "no such", "params": {}}),
        set_about(model={"name": "mlp", "params": {"hidden": 10**9}}),
        set_about(input_shape=[1, 10**6, 10**6]),
        set_about(num_classes=10**9),
        set_about(mean=[0.5, 0.5]),
        set_about(std=[0.0]),
        set_about(unknown=1),
    ],
)
def test_spoilt_artifacts_are_refused_by_role(
    change: Callable[[dict[str, Tensor], dict], None],
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_networks(spoilt(change), "ORIGINAL")
    assert caught.value.field in ("inputs.ORIGINAL", "params", "method")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04pickle",
        b"\xff" * 64,
        (10).to_bytes(8, "little") + b"{}",
        save({"a": torch.zeros(1)}, metadata={METADATA_KEY: "not json"}),
        save({"a": torch.zeros(1)}, metadata={METADATA_KEY: "[]"}),
        save({"a": torch.zeros(1)}),
        save(
            {"a": torch.zeros(1)}, metadata={METADATA_KEY: json.dumps({"architecture": "[" * 1000})}
        ),
    ],
)
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_networks(data, "ORIGINAL")


def test_another_architecture_is_refused_where_one_is_asked_for() -> None:
    other = MLP.model_copy(update={"model": PluginRef(name="mlp", params={"hidden": 5})})
    with pytest.raises(InvalidRequest, match="the same architecture"):
        read_networks(write_network(MLP, networks(1)[0]), "BASE", like=other)


def test_metadata_is_canonical() -> None:
    tensors = {"b": torch.ones(2), "a": torch.zeros(2, 2)}
    turned = {"a": torch.zeros(2, 2).t(), "b": torch.ones(2)}
    assert write_tensors(tensors, {"x": 1, "y": 2}) == write_tensors(turned, {"y": 2, "x": 1})


def test_a_type_that_is_not_read_is_refused_and_not_a_defect() -> None:
    data = write_tensors({"x": torch.zeros(2).to(torch.float8_e4m3fn)}, {})
    with pytest.raises(InvalidRequest, match=r"'x' is F8_E4M3, but only"):
        read_tensors(data, "ORIGINAL")
