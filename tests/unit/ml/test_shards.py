"""SISA trains again what is concerned and nothing else; amnesiac takes back what was recorded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import (
    Architecture,
    Ensemble,
    Networks,
    build_network,
    clone,
    read_networks,
    write_networks,
)
from shared.ml.records import Shards
from shared.ml.samples import Samples
from shared.ml.training import deltas
from shared.ml.training.deltas import BatchDeltas
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import amnesiac, sisa
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugin_ref import PluginRef

MLP = Architecture(
    model=PluginRef(name="mlp", params={"hidden": 5}),
    input_shape=(1, 3, 3),
    num_classes=3,
    mean=(0.5,),
    std=(0.5,),
)
RECIPE = Recipe(lr=0.1, batch_size=3, epochs=2)


def data(n: int) -> Samples:
    source = make_generator(n, "samples")
    return Samples(
        torch.rand(n, 1, 3, 3, generator=source), torch.randint(0, 3, (n,), generator=source)
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_an_ensemble_answers_with_the_mean_probability() -> None:
    members = [build_network(MLP, make_generator(i, "w")) for i in range(3)]
    images = data(4).images
    told = Ensemble(members).eval()(images).softmax(1)
    torch.testing.assert_close(told, torch.stack([m(images).softmax(1) for m in members]).mean(0))


def test_an_ensemble_is_read_back_and_its_members_are_networks_of_their_own() -> None:
    together = MLP.model_copy(update={"members": 2})
    ensembles = [build_network(together, make_generator(i, "w")) for i in range(3)]
    networks = read_networks(write_networks(together, ensembles), "ORIGINAL")
    assert same(networks.load_network(2), ensembles[2])
    second = networks.select_member(1)
    assert (second.architecture, second.count) == (MLP, 3)
    assert same(second.load_network(0), ensembles[0].get_submodule("members.1"))
    assert same(networks.pick([2, 0]).load_network(1), ensembles[0])


def test_shards_are_even_and_cover_everything() -> None:
    shards = Shards.split_evenly(11, 3)
    places = [shards.find_positions(which).tolist() for which in range(3)]
    assert sorted(place for shard in places for place in shard) == list(range(11))
    assert sorted(map(len, places)) == [3, 4, 4]
    with pytest.raises(InvalidRequest, match="2 samples are too few for 3 shards"):
        Shards.split_evenly(2, 3)


def sharded(
    forget: list[int], n: int = 12
) -> tuple[Ensemble, nn.Module, nn.Module, Shards, torch.Tensor]:
    """Ensemble before, after, base, shards, and the places that stay."""
    base, shards, samples = (
        build_network(MLP, make_generator(9, "w")),
        Shards.split_evenly(n, 3),
        data(n),
    )
    members = [clone(base) for _ in range(3)]
    for which, member in enumerate(members):
        train(member, samples.pick(shards.find_positions(which)), RECIPE, LocalContext())
    before = Ensemble(members).eval()
    kept = torch.tensor([i for i in range(n) if i not in forget])
    member = torch.tensor(shards.member)
    inputs = UnlearningInputs(
        clone(before),
        base=clone(base),
        recipe=RECIPE,
        members=(member[kept], member[torch.tensor(forget)]),
    )
    after = sisa.unlearn(
        inputs, samples.pick(kept), samples.pick(forget), sisa.SisaParams(shards=3), LocalContext()
    )
    return before, after, base, shards, kept


def test_only_the_shard_concerned_is_trained_again_and_as_if_the_sample_had_never_been() -> None:
    before, after, base, shards, kept = sharded([4])
    samples = data(12)
    moved = [
        not same(a, b) for a, b in zip(before.members, after.get_submodule("members"), strict=True)
    ]
    assert moved == [False, True, False]
    again = clone(base)
    places = [p for p in shards.find_positions(1).tolist() if p in kept.tolist()]
    train(again, samples.pick(places), RECIPE, LocalContext())
    assert same(again, after.get_submodule("members.1"))


def test_a_shard_of_which_nothing_is_left_is_the_base_model() -> None:
    _, after, base, _, _ = sharded([0, 3, 6, 9])
    assert same(after.get_submodule("members.0"), base)


def recorded(n: int, recipe: Recipe) -> tuple[nn.Module, nn.Module, BatchDeltas]:
    base, noted = build_network(MLP, make_generator(0, "w")), BatchDeltas()
    original = clone(base)
    train(original, data(n), recipe, LocalContext(), noted.record_step)
    return base, original, noted


def test_all_recorded_changes_are_what_training_did() -> None:
    base, original, noted = recorded(7, RECIPE)
    assert len(noted.batches) == RECIPE.count_steps(7) == 6
    assert [sorted(noted.batches[0] + noted.batches[1] + noted.batches[2])] == [list(range(7))]
    everything = noted.sum_changes(set(range(7)))
    for (name, w), b in zip(original.named_parameters(), base.parameters(), strict=True):
        torch.testing.assert_close(w - everything[name], b)


def test_amnesiac_takes_back_the_batches_with_the_sample_and_no_others() -> None:
    _, original, noted = recorded(7, RECIPE)
    inputs = UnlearningInputs(clone(original), changes_to_undo=noted.sum_changes({3}))
    after = amnesiac.unlearn(inputs, data(7), data(1), amnesiac.AmnesiacParams(), LocalContext())
    with_it = [step for step, batch in enumerate(noted.batches) if 3 in batch]
    assert len(with_it) == 2  # once an epoch
    for (name, old), new in zip(original.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(new, old - sum(noted.changes[name][step] for step in with_it))


def test_mending_trains_on_the_retain_set_afterwards() -> None:
    _, original, noted = recorded(7, RECIPE)

    def after(epochs: int) -> nn.Module:
        inputs = UnlearningInputs(clone(original), changes_to_undo=noted.sum_changes({3}))
        return amnesiac.unlearn(
            inputs, data(6), data(1), amnesiac.AmnesiacParams(epochs=epochs), LocalContext()
        )

    assert not same(after(0), after(2))


def test_a_sample_that_no_batch_saw_has_nothing_to_take_back() -> None:
    _, _, noted = recorded(7, RECIPE)
    assert not any(t.any() for t in noted.sum_changes({99}).values())


def test_batch_deltas_are_read_back_and_those_of_another_model_refused() -> None:
    _, original, noted = recorded(7, RECIPE)
    shapes = {name: w.shape for name, w in original.named_parameters()}
    back = BatchDeltas.from_bytes(noted.to_bytes(), shapes)
    assert back.batches == noted.batches
    assert all(
        torch.equal(t, back.sum_changes({3})[name]) for name, t in noted.sum_changes({3}).items()
    )
    for wrong in (
        {**shapes, "more": torch.Size([1])},
        {name: torch.Size((*s, 1)) for name, s in shapes.items()},
    ):
        with pytest.raises(InvalidRequest, match="does not belong to this model"):
            BatchDeltas.from_bytes(noted.to_bytes(), wrong)


@pytest.mark.parametrize("batches", [None, [1, 2], [["0"]], [[-1]], [[True]]])
def test_batch_deltas_that_do_not_say_what_was_seen_are_refused(batches: object) -> None:
    _, _, noted = recorded(7, RECIPE)
    noted.batches = batches  # type: ignore[assignment]
    with pytest.raises(InvalidRequest, match="the samples of each step"):
        BatchDeltas.from_bytes(noted.to_bytes(), {})


def test_too_much_to_record_fails_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "MAX_BYTES", 1000)
    with pytest.raises(JobFailed, match="exceed the 2 GiB limit of recorded changes"):
        recorded(7, RECIPE)


@pytest.mark.parametrize("field", ["members", "original"])
def test_sisa_without_shards_is_refused(field: str) -> None:
    inputs = UnlearningInputs(
        build_network(MLP), build_network(MLP), RECIPE, (torch.zeros(2), torch.zeros(1))
    )
    if field == "members":
        inputs = UnlearningInputs(
            Ensemble([build_network(MLP), build_network(MLP)]), build_network(MLP), RECIPE
        )
    with pytest.raises(InvalidRequest, match="needs SHARDS"):
        sisa.unlearn(inputs, data(2), data(1), sisa.SisaParams(), LocalContext())


def test_amnesiac_without_a_record_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs BATCH_DELTAS"):
        amnesiac.unlearn(
            UnlearningInputs(build_network(MLP)),
            data(2),
            data(1),
            amnesiac.AmnesiacParams(),
            LocalContext(),
        )


def test_networks_pick_keeps_the_architecture() -> None:
    stack = Networks(
        MLP,
        {name: torch.stack([t, t + 1]) for name, t in build_network(MLP).state_dict().items()},
        2,
    )
    assert stack.pick([1]).count == 1
