"""The defend stage: strengths given, strengths chosen by accuracy alone, and nothing an attacker
would need."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest, JobFailed
from shared.ml.networks import read_networks, write_networks
from tests.support.tiny_chain import DATA, MODEL, Outputs, parse_output, run_chain
from workers.context import NoHooks, StageOutput
from workers.local import run_stage

GRID = [0.001, 0.01, 5.0]


def strength(made: Outputs) -> Any:
    return parse_output(made["DEFENSE"])["strength"]


def test_no_defense_releases_the_very_same_models() -> None:
    made = run_chain()
    released = run_stage("defend", made, "none")
    assert released["RELEASED"].data == made["UNLEARNED"].data
    told = {
        "method": "none",
        "params": {},
        "strength": None,
        "guarantee": {},
        "has_adaptive_attack": False,
    }
    assert parse_output(released["DEFENSE"]) == told


def test_a_strength_that_is_given_is_taken() -> None:
    made = run_chain()
    released = run_stage("defend", made, "obfuscation", noise=5.0)
    assert parse_output(released["DEFENSE"])["params"]["noise"] == 5
    assert strength(released) is None
    assert parse_output(released["DEFENSE"])["has_adaptive_attack"] is True
    before, after = (
        read_networks(m.data, "x").state for m in (made["UNLEARNED"], released["RELEASED"])
    )
    noise = torch.stack(
        [(after[n] - before[n]).square().mean() / before[n].square().mean() for n in before]
    )
    assert 3 < noise.max().sqrt() < 8  # five times each tensor's own size
    gone = after["network.1.weight"] - before["network.1.weight"]
    assert not torch.equal(gone[0], gone[1])  # drawn anew for each release


def test_the_strongest_setting_within_the_budget_is_chosen() -> None:
    made = run_chain()
    released = run_stage("defend", made, "obfuscation", grid=GRID, max_accuracy_cost=0.05)
    found = strength(released)
    # from the strongest down, and no further
    assert [t["value"] for t in found["tried"]] == [5.0, 0.01]
    assert found["accuracy_without"] - found["tried"][0]["validation_accuracy"] > 0.05
    assert found["accuracy_without"] - found["tried"][1]["validation_accuracy"] <= 0.05
    assert (
        found["name"],
        found["value"],
        parse_output(released["DEFENSE"])["params"]["noise"],
    ) == ("noise", 0.01, 0.01)
    assert found["reason"].startswith("the strongest of 3 settings that costs at most 0.05")
    assert found["validation_samples"] == 160 // 8 - 12  # the pool without the training set
    same = run_stage("defend", made, "obfuscation", noise=0.01)
    assert same["RELEASED"].data == released["RELEASED"].data


def test_where_no_setting_is_within_the_budget_the_weakest_is_taken_and_it_says_so() -> None:
    released = run_stage(
        "defend", run_chain(), "obfuscation", grid=[5.0, 9.0], max_accuracy_cost=0.0
    )
    assert strength(released)["value"] == 5
    assert strength(released)["reason"].startswith(
        "the weakest of 2 settings, which still costs more than 0"
    )


def test_with_a_budget_of_everything_the_strongest_is_taken() -> None:
    assert (
        strength(run_stage("defend", run_chain(), "pruning", max_accuracy_cost=1.0))["value"] == 0.9
    )


def test_a_training_set_that_takes_the_whole_pool_leaves_nothing_to_choose_with() -> None:
    made = run_stage("pretrain", {}, dataset=DATA, model=MODEL)
    made |= run_stage("train", made, dataset=DATA, size=20)
    made |= run_stage("unlearn", made, "gradient_ascent", deletions=2)
    with pytest.raises(InvalidRequest, match="uses the whole pool"):
        run_stage("defend", made, "pruning")
    run_stage("defend", made, "pruning", share=0.5)


@pytest.mark.parametrize("defense", ["none", "obfuscation", "pruning", "fine_tune"])
def test_a_defense_repeats_byte_for_byte_and_its_progress_never_goes_back(defense: str) -> None:
    class Watching(NoHooks):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def heartbeat(self, done: int, total: int, numbers: Any) -> None:
            self.seen.append(done / total)

    made, hooks = run_chain(), Watching()
    first = run_stage("defend", made, defense, hooks=hooks)
    assert first == run_stage("defend", made, defense)
    assert hooks.seen == sorted(hooks.seen)
    assert 0 < hooks.seen[-1] <= 1


def test_pruning_zeroes_that_share_of_the_kernels_and_leaves_the_others_alone() -> None:
    made = run_chain()
    before, after = (
        read_networks(m.data, "x").state
        for m in (made["UNLEARNED"], run_stage("defend", made, "pruning", share=0.5)["RELEASED"])
    )
    kernels = [n for n in before if before[n].dim() > 2]
    zeros = sum(int((after[n] == 0).sum()) for n in kernels) / sum(
        after[n].numel() for n in kernels
    )
    assert 0.49 < zeros < 0.51
    for name in before:
        untouched = (
            after[name] != 0 if name in kernels else torch.ones_like(after[name], dtype=torch.bool)
        )
        assert torch.equal(after[name][untouched], before[name][untouched])


def test_models_and_truth_of_different_audits_are_refused() -> None:
    made = run_chain(deletions=3)
    with pytest.raises(InvalidRequest, match="number of deletions"):
        run_stage("defend", made | {"FORGET_SETS": run_chain(deletions=2)["FORGET_SETS"]}, "none")


def test_several_releases_average_the_noise_away_and_the_first_is_published() -> None:
    made = run_chain()
    once, often = (
        run_stage("defend", made, "obfuscation", noise=0.1, releases_averaged=draws)
        for draws in (1, 16)
    )
    assert once["AVERAGED_RELEASES"].data == once["RELEASED"].data == often["RELEASED"].data
    assert often == run_stage("defend", made, "obfuscation", noise=0.1, releases_averaged=16)
    before, one, mean = (
        read_networks(m.data, "x").state
        for m in (made["UNLEARNED"], often["RELEASED"], often["AVERAGED_RELEASES"])
    )
    kernel = max(before, key=lambda name: before[name].numel())
    alone, left = ((after[kernel] - before[kernel]).square().mean().sqrt() for after in (one, mean))
    assert left / alone == pytest.approx(1 / 4, rel=0.1)


def test_a_defense_that_leaves_no_model_fails_and_says_which_deletion_and_what_to_lower() -> None:
    made = run_chain()
    with pytest.raises(
        JobFailed,
        match=r"pruning produced a degenerate model for deletion 0: .* same output .* weaker share",
    ):
        run_stage("defend", made, "pruning", share=0.9999)
    unlearned = read_networks(made["UNLEARNED"].data, "x")
    networks = [unlearned.load_network(i) for i in range(unlearned.count)]
    with torch.no_grad():
        for weight in networks[1].parameters():
            weight.mul_(1e25)  # finite, and its square is not
    large = made | {"UNLEARNED": StageOutput(write_networks(unlearned.architecture, networks))}
    with pytest.raises(
        JobFailed,
        match=r"obfuscation produced a degenerate model for deletion 1: .* not finite.* weaker noise",
    ) as e:
        run_stage("defend", large, "obfuscation", noise=0.1)
    assert e.value.kind == "invalid"


def test_what_was_no_model_before_is_not_the_defense_s_doing() -> None:
    made = run_chain()
    unlearned = read_networks(made["UNLEARNED"].data, "x")
    networks = [unlearned.load_network(i) for i in range(unlearned.count)]
    with torch.no_grad():
        for weight in networks[0].parameters():
            weight.zero_()
    broken = made | {"UNLEARNED": StageOutput(write_networks(unlearned.architecture, networks))}
    released = read_networks(
        run_stage("defend", broken, "pruning", share=0.5)["RELEASED"].data, "x"
    )
    assert not any(weight.any() for weight in released.load_network(0).parameters())
