"""SGD against torch's own, resuming bit-equal, and divergence told in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.errors import JobFailed
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, build_network
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugin_ref import PluginRef

CONVNET = Architecture(
    model=PluginRef(name="convnet", params={"width": 2}),
    input_shape=(1, 9, 9),
    num_classes=3,
    mean=(0.5,),
    std=(0.5,),
)


def samples(n: int = 20) -> Samples:
    source = make_generator(0, "samples")
    return Samples(
        torch.rand(n, 1, 9, 9, generator=source), torch.randint(0, 3, (n,), generator=source)
    )


def network() -> nn.Module:
    return build_network(CONVNET, make_generator(0, "weights"))


def test_steps_are_those_of_torch_sgd() -> None:
    recipe = Recipe(epochs=3, lr=0.1, batch_size=8, momentum=0.9, weight_decay=0.01)
    ours, theirs, data = network(), network(), samples()
    train(ours, data, recipe, LocalContext())
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for epoch in range(3):
        order = torch.randperm(20, generator=LocalContext().make_generator(f"epoch {epoch}"))
        for batch in order.split(8):
            optimiser.zero_grad()
            nn.functional.cross_entropy(theirs(data.images[batch]), data.labels[batch]).backward()
            optimiser.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("batch_norm", "moves"), [("frozen", False), ("trained", True)])
def test_batch_norm_statistics_move_only_when_trained(batch_norm: str, moves: bool) -> None:
    trained = network()
    before = {name: b.clone() for name, b in trained.named_buffers()}
    train(trained, samples(), Recipe(lr=0.1, batch_norm=batch_norm), LocalContext())
    assert moves == any(not torch.equal(b, before[name]) for name, b in trained.named_buffers())
    assert not trained.training


@pytest.mark.parametrize("stop", [1, 3, 4, 8])
def test_a_resumed_training_ends_bit_equal(stop: int) -> None:
    recipe = Recipe(
        epochs=3, lr=0.05, batch_size=8, momentum=0.9, batch_norm="trained", schedule="one_cycle"
    )
    whole = network()
    train(whole, samples(), recipe, LocalContext())

    class Stopped(Exception):
        pass

    class Stopping(LocalContext):
        def is_checkpoint_due(self) -> bool:
            return len(self.progress_reports) == stop

        def save_checkpoint(self, step: int, tensors: dict[str, torch.Tensor]) -> None:
            super().save_checkpoint(step, tensors)
            raise Stopped

    ctx = Stopping()
    with pytest.raises(Stopped):
        train(network(), samples(), recipe, ctx)
    resumed, later = network(), LocalContext()
    later.checkpoint = ctx.checkpoint
    train(resumed, samples(), recipe, later)
    assert later.progress_reports[0][0] == stop + 1
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_divergence_names_the_step() -> None:
    with pytest.raises(JobFailed, match="step") as caught:
        train(network(), samples(), Recipe(epochs=200, lr=10, momentum=0.99), LocalContext())
    assert caught.value.kind == "invalid"


def test_one_cycle_rises_then_falls() -> None:
    recipe = Recipe(lr=1.0, schedule="one_cycle")
    rates = [recipe.get_lr(step, 100) for step in range(100)]
    assert rates.index(max(rates)) == 24
    assert max(rates) == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.02
    assert all(rate > 0 for rate in rates)
