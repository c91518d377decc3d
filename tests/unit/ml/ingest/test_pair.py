"""A brought pair: what moved, and what its owner has to know before any attack."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.ingest.pair import (
    WeightComparison,
    check_behaviour,
    check_unrelated,
    compare_weights,
    is_unrelated,
)
from shared.ml.ingest.weights import ReadWeights, read_weights
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef

State = dict[str, Tensor]
RESNET = Architecture(
    model=PluginRef(name="resnet18", params={"width": 2}),
    input_shape=(1, 8, 8),
    num_classes=3,
    mean=(0.5,),
    std=(0.25,),
)


def draw_state(seed: int = 0) -> State:
    """No weight is 0, as after training."""
    generator = make_generator(seed, "weights")
    state = build_network(RESNET, generator).state_dict()
    return {
        name.removeprefix("network."): tensor.clone()
        if tensor.any() or not name.endswith("bias")
        else torch.randn(tensor.shape, generator=generator) / 10
        for name, tensor in state.items()
    }


def list_weights(state: State) -> list[str]:
    return [name for name in state if name.endswith(("weight", "bias"))]


def move(state: State, length: float, seed: int = 5) -> State:
    """Every weight tensor by `length` of its own length, in a random direction."""
    generator = make_generator(seed, "move")
    moved = {name: tensor.clone() for name, tensor in state.items()}
    for name in list_weights(state):
        direction = torch.randn(state[name].shape, generator=generator)
        moved[name] += direction * (length * state[name].norm() / direction.norm())
    return moved


def cast(state: State, dtype: torch.dtype) -> State:
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}


def read(state: State) -> ReadWeights:
    return read_weights(save(state), "x", RESNET)


def compare(before: State, after: State, base: State | None = None) -> WeightComparison:
    return compare_weights(read(before), read(after), None if base is None else read(base))


def find(comparison: WeightComparison) -> dict[str, str]:
    return {finding.code: finding.severity for finding in comparison.findings}


def test_each_tensor_has_its_relative_change() -> None:
    before = draw_state()
    after = {name: tensor.clone() for name, tensor in before.items()}
    after["0.weight"] *= 1.5
    after["13.bias"][0] += 1
    comparison = compare(before, after)
    changes = {change.name: change for change in comparison.tensors}
    assert list(changes) == [f"network.{name}" for name in before]
    assert changes["network.0.weight"].relative_change == pytest.approx(0.5)
    assert changes["network.0.weight"].unchanged_share == 0
    assert changes["network.13.bias"].unchanged_share == pytest.approx(2 / 3)
    assert changes["network.13.weight"].relative_change == 0
    assert [c.buffer for c in comparison.tensors] == [
        f"network.{name}" not in {f"network.{w}" for w in list_weights(before)} for name in before
    ]
    flat = [torch.cat([each[n].flatten() for n in list_weights(each)]) for each in (before, after)]
    assert comparison.relative_change == pytest.approx(
        float((flat[1] - flat[0]).norm() / flat[0].norm()), rel=1e-5
    )
    assert comparison.unchanged_share == pytest.approx(float((flat[1] == flat[0]).double().mean()))


def test_a_tensor_of_zeros_that_moved_has_no_relative_change() -> None:
    before, after = draw_state(), draw_state()
    before["13.bias"].zero_()
    (change,) = [c for c in compare(before, after).tensors if c.name == "network.13.bias"]
    assert change.relative_change is None


def test_an_ordinary_update_has_no_findings_but_what_moved() -> None:
    before = draw_state()
    comparison = compare(before, move(before, 0.01))
    assert find(comparison) == {}
    assert comparison.relative_change == pytest.approx(0.01, rel=1e-3)
    assert comparison.cosine == pytest.approx(1, abs=1e-3)


def test_a_comparison_is_json() -> None:
    before = draw_state()
    comparison = compare(before, move(before, 0.01), draw_state(3))
    text = json.dumps(comparison.to_dict(), allow_nan=False)
    assert WeightComparison.read(text.encode(), "x") == comparison


def test_the_largest_values_do_not_overflow() -> None:
    before, after = draw_state(), draw_state()
    before["13.weight"].fill_(3e38)
    after["13.weight"].fill_(-3e38)
    comparison = compare(before, after)
    assert comparison.relative_change == pytest.approx(2)
    assert comparison.cosine == pytest.approx(-1)


def test_an_identical_pair_is_refused() -> None:
    comparison = compare(draw_state(), draw_state())
    assert find(comparison) == {"identical": "refused"}
    assert comparison.findings[0].message.startswith("no difference: nothing to invert")
    assert comparison.unchanged_share == 1


def test_a_pair_that_differs_in_buffers_alone_is_refused_too() -> None:
    after = draw_state()
    after["1.running_mean"] += 1
    comparison = compare(draw_state(), after)
    assert find(comparison) == {"identical": "refused"}
    assert "Only 1 buffer differs" in comparison.findings[0].message


def test_a_pair_that_differs_by_rounding_alone_is_refused() -> None:
    comparison = compare(draw_state(), cast(draw_state(), torch.bfloat16))
    assert find(comparison) == {"rounding_only": "refused", "precision_differs": "warning"}
    assert comparison.relative_change > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_files_of_two_precisions_are_named(dtype: torch.dtype) -> None:
    before = draw_state()
    comparison = compare(cast(before, dtype), move(before, 0.01))
    assert find(comparison)["precision_differs"] == "warning"
    (message,) = [f.message for f in comparison.findings if f.code == "precision_differs"]
    name = "BF16" if dtype is torch.bfloat16 else "F16"
    assert f"such as '0.weight': {name}, then F32" in message
    assert (comparison.before_dtypes[name], comparison.after_dtypes["F32"]) == (102, 102)


def test_what_the_precision_hides_is_counted() -> None:
    """A step of a thousandth of a weight is below half a step of bfloat16, mostly."""
    before = draw_state()
    comparison = compare(cast(before, torch.bfloat16), cast(move(before, 2e-4), torch.bfloat16))
    assert comparison.resolution == 2.0**-8
    assert comparison.unchanged_share > 0.8
    assert find(comparison) == {"hidden_by_precision": "warning"}
    assert f"{comparison.unchanged_share:.0%} of the weights" in comparison.findings[0].message
    larger = compare(cast(before, torch.bfloat16), cast(move(before, 0.02), torch.bfloat16))
    assert 0.01 < larger.unchanged_share < 0.5
    assert find(larger) == {"hidden_by_precision": "note"}


def test_each_tensor_is_compared_at_its_own_precision() -> None:
    """Norms often stay float32 in a file of bfloat16."""
    before = draw_state()
    after = {n: t.clone() for n, t in before.items()}
    after["1.weight"] *= 1 + 2**-12
    comparison = compare(
        *({n: t.bfloat16() if t.dim() >= 2 else t for n, t in s.items()} for s in (before, after))
    )
    (change,) = [c for c in comparison.tensors if c.name == "network.1.weight"]
    assert change.unchanged_share == 0


def test_frozen_weights_are_noted() -> None:
    before = draw_state()
    after = {n: t.clone() for n, t in before.items()}
    after["13.weight"] += 0.01
    assert find(compare(before, after)) == {"unmoved": "note"}


def test_buffers_that_moved_are_named() -> None:
    before = draw_state()
    after = move(before, 0.01)
    after["1.running_mean"] += 0.1
    after["1.num_batches_tracked"] += 3
    comparison = compare(before, after)
    assert comparison.moved_buffers == [
        "network.1.running_mean", "network.1.num_batches_tracked",
    ]  # fmt: skip
    assert comparison.moved_statistics == ["network.1.running_mean"]
    assert find(comparison) == {"buffers_moved": "note"}


def test_a_counter_that_one_file_lacks_has_not_moved() -> None:
    before = draw_state()
    before["1.num_batches_tracked"] += 100
    after = {n: t for n, t in move(before, 0.01).items() if not n.endswith("tracked")}
    comparison = compare(before, after)
    assert comparison.moved_buffers == []
    assert all("tracked" not in change.name for change in comparison.tensors)


def test_models_of_different_seeds_are_unrelated() -> None:
    """Which a release may be that was trained again: it is a warning."""
    comparison = compare(draw_state(0), draw_state(1))
    assert comparison.cosine == pytest.approx(0, abs=0.1)
    assert find(comparison)["unrelated"] == "warning"
    assert is_unrelated(comparison)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(4, {"unrelated": "warning"}), (12, {"diverged": "refused"}), (1e5, {"diverged": "refused"})],
)
def test_a_release_that_diverged_is_refused(factor: float, expected: dict[str, str]) -> None:
    before = draw_state()
    after = {
        n: t * factor if t.is_floating_point() and "running" not in n else t
        for n, t in before.items()
    }
    comparison = compare(before, after)
    assert comparison.cosine == pytest.approx(1)
    assert find(comparison) == expected


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [(0.9, 0.12, True), (0.9, 0.3, False), (0.12, 0.1, False), (0.9, 0.9, False)],
)
def test_an_unrelated_release_that_guesses_is_refused(
    before: float, after: float, refused: bool
) -> None:
    finding = check_unrelated(before, after, 10, 0.1)
    assert (finding is not None and finding.severity == "refused") is refused


def test_a_large_but_related_update_is_not_refused() -> None:
    before = draw_state()
    assert "unrelated" not in find(compare(before, move(before, 0.8)))


def test_the_base_model_is_compared_with_the_original() -> None:
    base = draw_state()
    before = move(base, 0.1, seed=1)
    after = move(before, 0.01, seed=2)
    comparison = compare(before, after, base)
    assert comparison.base_relative_change == pytest.approx(0.1, rel=1e-3)
    assert find(comparison) == {}
    assert find(compare(before, after, before)) == {"identical_base": "warning"}
    assert find(compare(before, after, draw_state(7))) == {"unrelated_base": "warning"}
    assert compare(before, after).base_relative_change is None


def test_two_architectures_are_no_pair() -> None:
    other = RESNET.model_copy(update={"mean": (0.4,)})
    weights = read_weights(save(draw_state()), "x", other)
    with pytest.raises(InvalidRequest, match="one architecture"):
        compare_weights(read(draw_state()), weights)


def list_codes(*arguments: object, **named: object) -> dict[str, str]:
    return {f.code: f.severity for f in check_behaviour(*arguments, **named)}  # type: ignore[arg-type]


def test_a_loss_that_falls_says_that_the_pair_may_be_swapped() -> None:
    assert list_codes([0.5, 0.7], [0.9, 1.1], 0.9, 10) == {}
    (finding,) = check_behaviour([0.9, 1.1], [0.5, 0.7], 0.9, 10)
    assert (finding.code, finding.severity) == ("swapped", "warning")
    assert "before and after may be swapped" in finding.message
    assert "falls from 1 to 0.6 nats" in finding.message
    assert list_codes(torch.tensor([0.9, 1.1]), torch.tensor([0.5, 0.7]), None, 10) == {
        "swapped": "warning"
    }


def test_a_loss_that_falls_by_rounding_says_nothing() -> None:
    assert list_codes([0.5], [0.5 - 1e-7], 0.9, 10) == {}
    assert list_codes([0.5], [0.5 - 1e-3], 0.9, 10) == {"swapped": "warning"}
    assert list_codes([0.5], [0.5 - 1e-3], 0.9, 10, resolution=2.0**-8) == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_a_model_is_no_swap(dtype: torch.dtype) -> None:
    """Whichever way its loss moves."""
    generator = make_generator(0, "images")
    images, labels = torch.rand(64, 1, 8, 8, generator=generator), torch.arange(64) % 3
    losses = []
    for state in (draw_state(), cast(draw_state(), dtype)):
        network = read(state).networks.load_network()
        losses.append(cross_entropy(network(images), labels, reduction="none").detach())
    resolution = read(cast(draw_state(), dtype)).resolution
    for first, second in (losses, losses[::-1]):
        for k in (1, 8, 64):
            assert list_codes(first[:k], second[:k], None, 3, resolution) == {}


@pytest.mark.parametrize(
    ("accuracy", "classes", "majority", "expected"),
    [
        (0.11, 10, 0.0, True),
        (0.19, 10, 0.0, False),
        (0.53, 2, 0.0, True),
        (0.6, 2, 0.0, False),
        (0.75, 2, 0.74, True),
        (0.05, 100, 0.0, True),
        (None, 10, 0.0, False),
    ],
)
def test_an_original_that_guesses_is_named(
    accuracy: float | None, classes: int, majority: float, expected: bool
) -> None:
    found = check_behaviour(None, None, accuracy, classes, majority_share=majority)
    assert [f.code for f in found] == ["near_chance"] * expected
    if accuracy == 0.11:
        assert found[0].message.startswith(
            "the original has 0.11 test accuracy, where guessing reaches 0.10: check mean and std"
        )


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_refused(loss: float) -> None:
    assert list_codes([0.1], [loss], 0.9, 10) == {"loss_not_finite": "refused"}


def test_losses_of_other_samples_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="as many losses"):
        check_behaviour([0.1], [0.1, 0.2], 0.9, 10)
