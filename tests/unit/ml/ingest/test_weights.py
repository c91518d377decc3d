"""Weights from anywhere: what is read, and one clear sentence for everything else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.ingest.weights import PREFIXES, ReadWeights, find_prefixes, read_weights
from shared.ml.models import registry
from shared.ml.networks import Architecture, build_network, write_network, write_networks
from shared.ml.tensors import METADATA_KEY
from shared.plugin_ref import PluginRef
from shared.plugins import Params
from tests.support.memory import measure_peak_memory

State = dict[str, Tensor]


def declare(
    model: str, classes: int = 10, channels: int = 3, side: int = 16, **params: object
) -> Architecture:
    return Architecture(
        model=PluginRef(name=model, params=params),
        input_shape=(channels, side, side),
        num_classes=classes,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


RESNET = declare("resnet18", width=2)
MLP = declare("mlp", hidden=4)


def draw_state(architecture: Architecture, seed: int = 0) -> State:
    """What `model.state_dict()` is for the user, whose model knows nothing of ours."""
    network = build_network(architecture, make_generator(seed, "weights"))
    return {
        name.removeprefix("network."): tensor.clone()
        for name, tensor in network.state_dict().items()
    }


def add_prefix(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def read(state: State, architecture: Architecture = RESNET, **metadata: str) -> ReadWeights:
    return read_weights(save(state, metadata=metadata or None), "ORIGINAL", architecture)


def refuse(data: bytes | State, architecture: Architecture = RESNET) -> str:
    """The sentence."""
    data = data if isinstance(data, bytes) else save(data)
    with pytest.raises(InvalidRequest) as caught:
        read_weights(data, "ORIGINAL", architecture)
    message = caught.value.message
    assert caught.value.field == "inputs.ORIGINAL"
    assert message.startswith("ORIGINAL")
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    "architecture",
    [
        RESNET,
        MLP,
        declare("convnet", width=2),
        declare("lenet", width=2),
        declare("resnet20", side=8),
    ],
    ids=lambda each: each.model.name,
)
def test_a_state_dict_is_read_as_it_was(architecture: Architecture) -> None:
    state = draw_state(architecture)
    weights = read(state, architecture)
    network = weights.networks.load_network()
    images = torch.rand(2, *architecture.input_shape, generator=make_generator(0, "x"))
    original = build_network(architecture)
    original.get_submodule("network").load_state_dict(state)
    assert torch.equal(network(images), original(images))
    assert weights.networks.count == 1
    assert (weights.prefixes, weights.tied, weights.filled) == ((), (), ())
    assert weights.resolution == 2.0**-24
    assert weights.dtypes["F32"] == sum(each.is_floating_point() for each in state.values())


@given(
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=6),
    names=st.sets(st.text("abm._0", min_size=1, max_size=12), min_size=1, max_size=8),
)
def test_prefixes_that_all_names_share_are_removed_and_named(
    prefixes: list[str], names: set[str]
) -> None:
    full = {"".join(prefixes) + name for name in names}
    removed = find_prefixes(full, names)
    assert removed == tuple(prefixes)
    assert {name.removeprefix("".join(removed)) for name in full} == names


@pytest.mark.parametrize(
    "prefixes", [("module.", "_orig_mod."), ("_orig_mod.", "module.", "module."), ("_module.",)]
)
def test_a_wrapped_model_is_read(prefixes: tuple[str, ...]) -> None:
    state = draw_state(RESNET)
    weights = read(add_prefix("".join(prefixes), state))
    assert weights.prefixes == prefixes
    assert all(
        torch.equal(weights.networks.state[f"network.{name}"][0], tensor)
        for name, tensor in state.items()
    )


def test_a_prefix_of_some_names_is_no_prefix() -> None:
    state = draw_state(MLP)
    state["module.1.bias"] = state.pop("1.bias")
    message = refuse(state, MLP)
    assert "1 tensor is missing, the first '1.bias'" in message
    assert "1 tensor is unknown, the first 'module.1.bias'" in message


@pytest.mark.parametrize(
    ("dtype", "resolution"),
    [
        (torch.bfloat16, 2.0**-8),
        (torch.float16, 2.0**-11),
        (torch.float32, 2.0**-24),
        (torch.float64, 2.0**-24),
    ],
)
def test_other_precisions_are_read_and_named(dtype: torch.dtype, resolution: float) -> None:
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in draw_state(RESNET).items()}
    weights = read(state)
    assert weights.resolution == resolution
    assert set(weights.dtypes.values()) == {102, 20}
    for name, tensor in state.items():
        value = weights.networks.state[f"network.{name}"][0]
        assert torch.equal(value.double(), tensor.double().float().double())
        assert value.dtype == (torch.float32 if tensor.is_floating_point() else torch.int64)


def test_one_coarse_tensor_sets_the_resolution() -> None:
    state = draw_state(MLP)
    state["1.bias"] = state["1.bias"].bfloat16()
    weights = read(state, MLP)
    assert (weights.resolution, weights.dtypes) == (2.0**-8, {"BF16": 1, "F32": 3})
    assert weights.tensor_dtypes["network.1.bias"] == "BF16"


def test_layout_in_memory_makes_no_difference() -> None:
    state = draw_state(RESNET)
    turned = {
        name: tensor.to(memory_format=torch.channels_last).contiguous()
        if tensor.dim() == 4
        else tensor
        for name, tensor in state.items()
    }
    first, second = read(state), read(turned)
    assert all(torch.equal(t, second.networks.state[n]) for n, t in first.networks.state.items())


def test_batch_counters_may_be_missing_and_are_named() -> None:
    state = {n: t for n, t in draw_state(RESNET).items() if not n.endswith("num_batches_tracked")}
    weights = read(state)
    assert len(weights.filled) == 20
    assert all(not weights.networks.state[name].any() for name in weights.filled)
    assert "I64" not in weights.dtypes
    weights.networks.load_network()


def test_other_buffers_may_not_be_missing() -> None:
    state = {n: t for n, t in draw_state(RESNET).items() if not n.endswith("running_var")}
    assert "20 tensors are missing, the first '1.running_var'" in refuse(state)


def test_a_counter_of_another_type_is_read_if_it_is_an_integer() -> None:
    state = draw_state(RESNET)
    state["1.num_batches_tracked"] = torch.tensor(7.0)
    assert read(state).networks.state["network.1.num_batches_tracked"].tolist() == [7]
    state["1.num_batches_tracked"] = torch.tensor(7.5)
    assert "no torch.int64 numbers" in refuse(state)


class Tied(nn.Module):
    """Decodes with the matrix that it encodes with."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.encode = nn.Linear(size, classes, bias=False)
        self.decode = nn.Linear(size, classes)
        self.decode.weight = self.encode.weight

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.decode(images.flatten(1)) + self.encode(images.flatten(1))
        return logits


@pytest.fixture
def tied() -> Iterator[Architecture]:
    @registry.register("tied_for_a_test", params=Params)
    def build(input_shape: tuple[int, int, int], num_classes: int, params: Params) -> nn.Module:
        """Two layers, one matrix."""
        return Tied(input_shape[0] * input_shape[1] * input_shape[2], num_classes)

    yield declare("tied_for_a_test", channels=1, side=3)
    registry._plugins.pop("tied_for_a_test")


@pytest.mark.parametrize("absent", ["", "encode.weight", "decode.weight"])
def test_a_tied_tensor_may_be_in_the_file_under_one_name(tied: Architecture, absent: str) -> None:
    state = draw_state(tied)
    expected = state["encode.weight"]
    state = {name: tensor.clone() for name, tensor in state.items() if name != absent}
    weights = read(add_prefix("module.", state), tied)
    assert weights.tied == (("network.encode.weight", "network.decode.weight"),)
    assert weights.filled == ()
    network = weights.networks.load_network()
    assert torch.equal(network.get_parameter("network.decode.weight"), expected)


def test_a_tensor_that_save_model_has_left_out_is_found_by_its_partner() -> None:
    """safetensors.torch.save_model; here for a model of ours that does not tie its weights."""
    architecture = declare("mlp", classes=4, hidden=4, depth=2)
    state = draw_state(architecture)
    left_out = state.pop("5.bias")
    state["3.bias"] = left_out
    weights = read(add_prefix("module.", state), architecture, **{"module.5.bias": "module.3.bias"})
    assert torch.equal(weights.networks.state["network.5.bias"][0], left_out)
    assert weights.tied == (("network.3.bias", "network.5.bias"),)


def test_tied_tensors_that_differ_are_refused(tied: Architecture) -> None:
    state = draw_state(tied)
    state["decode.weight"] = state["encode.weight"] + 1
    assert "different values of 'encode.weight' and 'decode.weight'" in refuse(state, tied)


@pytest.mark.parametrize("form", ["one", "a stack of one"])
def test_a_file_of_ours_is_read(form: str) -> None:
    network = build_network(RESNET)
    data = write_network(RESNET, network) if form == "one" else write_networks(RESNET, [network])
    weights = read_weights(data, "ORIGINAL", RESNET)
    assert weights.prefixes == ("network.",)
    weights.networks.load_network()


def test_a_stack_of_several_is_refused() -> None:
    data = write_networks(MLP, [build_network(MLP), build_network(MLP)])
    assert refuse(data, MLP) == "ORIGINAL holds 2 networks: bring a file for each of them"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": (0.0, 0.0, 0.0)}, "mean (0.0, 0.0, 0.0), but (0.5, 0.5, 0.5) is declared"),
        ({"num_classes": 7}, "num_classes 7, but 10 is declared"),
        ({"members": 2}, "members 2, but 1 is declared"),
    ],
)
def test_a_file_of_ours_that_says_otherwise_is_refused(change: dict, words: str) -> None:
    stated = MLP.model_copy(update=change)
    assert words in refuse(write_network(stated, build_network(stated)), MLP)


def test_rounded_normalisation_is_no_contradiction() -> None:
    stated = MLP.model_copy(update={"mean": (0.4914, 0.5, 0.5)})
    declared = MLP.model_copy(update={"mean": (0.49, 0.5, 0.5)})
    read_weights(write_network(stated, build_network(stated)), "ORIGINAL", declared)


def test_an_ensemble_is_refused() -> None:
    assert "ensemble" in refuse(draw_state(MLP), MLP.model_copy(update={"members": 2}))


def test_another_number_of_classes_is_said() -> None:
    message = refuse(draw_state(declare("resnet18", classes=100, width=2)))
    assert message == (
        "ORIGINAL does not fit resnet18 with 10 classes and inputs of 3 x 16 x 16: 2 tensors are "
        "of another shape, the first '13.weight', which is [100, 16] and should be [10, 16]. It "
        "fits with 100 classes instead of 10: declare the model so, or bring other weights"
    )


@pytest.mark.parametrize("model", ["resnet18", "mlp", "lenet"])
def test_another_number_of_channels_is_said(model: str) -> None:
    message = refuse(draw_state(declare(model, channels=1)), declare(model))
    assert "It fits with 1 input channel instead of 3" in message


def test_both_are_said() -> None:
    message = refuse(draw_state(declare("resnet18", classes=7, channels=1, width=2)))
    assert "It fits with 7 classes instead of 10 and 1 input channel instead of 3" in message


def test_another_width_is_said() -> None:
    message = refuse(draw_state(declare("resnet18", width=4)))
    assert "101 tensors are of another shape, the first '0.weight'" in message
    assert "Check the model's parameters (such as its width)" in message


def test_another_model_is_said_with_its_head() -> None:
    message = refuse(draw_state(MLP))
    assert "100 tensors are missing, the first '0.weight'" in message
    assert "2 tensors are unknown, the first '3.bias'" in message
    assert "its last layer must be '13.weight' of shape [10, 16]" in message
    assert "in the file, '3.weight' of [10, 4] may be it" in message


def test_the_name_of_a_model_inside_is_said() -> None:
    message = refuse(add_prefix("model.", draw_state(RESNET)))
    assert "The names fit without 'model.', with which all of them begin" in message


@pytest.mark.parametrize("extra", ["total_ops", "network.mean"])
def test_a_tensor_too_many_is_never_dropped(extra: str) -> None:
    state = {**draw_state(MLP), extra: torch.zeros(1)}
    assert "1 tensor is unknown" in refuse(state, MLP)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite_are_refused(value: float, dtype: torch.dtype) -> None:
    state = draw_state(MLP)
    state["1.bias"] = state["1.bias"].to(dtype)
    state["1.bias"][1] = value
    assert "values that are not finite in '1.bias'" in refuse(state, MLP)


def test_values_beyond_float32_are_refused() -> None:
    state = draw_state(MLP)
    state["1.bias"] = state["1.bias"].double()
    state["1.bias"][1] = 1e300
    assert "too large for float32" in refuse(state, MLP)


def test_quantised_weights_are_refused() -> None:
    state = draw_state(MLP)
    state["1.weight"] = state["1.weight"].to(torch.int8)
    assert "'1.weight' as I8" in refuse(state, MLP)


def save_checkpoint(**options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(draw_state(MLP), file, **options)
    return file.getvalue()


NOT_SAFETENSORS = {
    "a checkpoint": (save_checkpoint(), "a PyTorch checkpoint (a zip archive)"),
    "an old checkpoint": (save_checkpoint(_use_new_zipfile_serialization=False), "is a pickle"),
    "another zip": (b"PK\x03\x04" + bytes(60), "is a zip archive, not safetensors"),
    "a header of 1 GB": ((1 << 30).to_bytes(8, "little") + b"{}" * 100, "larger than 32 MiB"),
    "a name twice": (
        (lambda text: len(text).to_bytes(8, "little") + text)(
            b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
            b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
        ),
        "duplicate tensor name",
    ),
    "two in one place": (
        (lambda text: len(text).to_bytes(8, "little") + text + bytes(4))(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        ),
        "overlap or leave gaps",
    ),
    "nothing": (b"", "not a valid safetensors file"),
    "no tensors": (save({}), "holds no tensors"),
    "deep metadata": (
        save({"a": torch.zeros(1)}, metadata={METADATA_KEY: "[" * 100_000}),
        "not a valid safetensors file",
    ),
    "a strange count": (
        save({"a": torch.zeros(1)}, metadata={METADATA_KEY: '{"count": "1"}'}),
        "holds 1 networks",
    ),
}


@pytest.mark.parametrize("what", NOT_SAFETENSORS)
def test_what_is_no_such_file_is_one_sentence(what: str) -> None:
    data, words = NOT_SAFETENSORS[what]
    message = refuse(data, MLP)
    assert words in message
    assert ("palimpsest convert" in message) == ("zip" in words or "pickle" in words)


def test_a_stack_whose_tensors_are_none_is_refused() -> None:
    state = {name: tensor[None] for name, tensor in draw_state(RESNET).items()}
    state["1.num_batches_tracked"] = torch.zeros(5, dtype=torch.int64)
    data = save(state, metadata={METADATA_KEY: json.dumps({"count": 1})})
    assert "'1.num_batches_tracked', which is [5] and should be []" in refuse(data)


def test_nothing_is_allocated_for_weights_that_do_not_fit() -> None:
    wide = declare("mlp", hidden=4096, depth=8, side=512)
    data = save(draw_state(MLP))
    with measure_peak_memory() as peak:
        message = refuse(data, wide)  # 13 GB, if it were built
    assert "does not fit mlp" in message
    assert peak.mib < 100


SOUND = save(draw_state(MLP), metadata={METADATA_KEY: json.dumps({"count": None})})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    """Bytes changed, removed and added, most of them in the header."""
    damaged = bytearray(SOUND)
    header_end = 8 + int.from_bytes(SOUND[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        end = data.draw(st.sampled_from([8, header_end, len(damaged)]))
        place = data.draw(st.integers(0, max(min(end, len(damaged)) - 1, 0)))
        length = data.draw(st.integers(0, 8))
        damaged[place : place + length] = data.draw(st.binary(max_size=8))
    message = "ORIGINAL"
    try:
        read_weights(bytes(damaged), "ORIGINAL", MLP).networks.load_network()
    except InvalidRequest as error:
        message = error.message
    assert message.startswith("ORIGINAL")
    assert len(message) < 700


JSON = st.sampled_from([None, True, 0, -1, 1e400, 1 << 70, "", "F32", [], [[]], {}, {"a": {}}])
SPEC = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I64", "U8", "F8_E4M3", "X"]) | JSON,
        "shape": st.lists(st.integers(-1, 200), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-1, 1000), min_size=2, max_size=2) | JSON,
    }
)
NAMES = st.sampled_from(["1.weight", "1.bias", "3.weight", "3.bias", "module.1.bias", "\ud800"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tensors=st.dictionaries(NAMES | st.text(max_size=8), SPEC | JSON, max_size=5),
    metadata=st.dictionaries(st.sampled_from([METADATA_KEY, "1.bias"]), st.text(max_size=9)) | JSON,
    body=st.binary(max_size=64),
)
def test_a_header_of_anything_is_refused(tensors: dict, metadata: object, body: bytes) -> None:
    text = json.dumps({"__metadata__": metadata, **tensors}).encode()
    with pytest.raises(InvalidRequest):
        read_weights(len(text).to_bytes(8, "little") + text + body, "ORIGINAL", MLP)
