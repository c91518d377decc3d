"""Who was forgotten: the line-up, the two attacks and their evaluation, as stages."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.tensors import read_tensors, write_tensors
from tests.support.tiny_chain import DATA, Outputs, parse_output, run_chain
from workers.context import StageOutput
from workers.local import run_stage

pytestmark = pytest.mark.slow


def lined_up(method: str = "gradient_ascent", **params: Any) -> Outputs:
    made = run_chain(method, **params)
    return made | run_stage("candidates", made)


def scores(made: Outputs, attack: str, **params: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    tensors, about = read_tensors(
        run_stage("attack", made, attack, **params)["SCORES"].data, "SCORES"
    )
    return tensors["scores"], about["threat_model"]


def test_candidates_are_of_all_kinds_in_an_order_that_reveals_nothing() -> None:
    made = lined_up()
    members = parse_output(made["MEMBERSHIP"])
    training, forgotten = (
        parse_output(made["TRAINING_SET"])["indices"],
        parse_output(made["FORGET_SETS"])["indices"],
    )
    assert {*training} == {
        i for i, t in zip(members["indices"], members["trained"], strict=True) if t
    }
    assert {i for row in forgotten for i in row} <= {*members["indices"]}
    assert 0 < sum(members["trained"]) < len(members["trained"])
    first = len(training)
    assert 0 < sum(members["trained"][:first]) < first  # neither stands in front
    candidates, about = read_tensors(made["CANDIDATES"].data, "CANDIDATES")
    assert set(candidates) == {"images", "labels"}
    assert about == {}
    assert candidates["labels"].tolist() == members["labels"]
    assert run_stage("candidates", made)["CANDIDATES"].data == made["CANDIDATES"].data
    other = parse_output(run_stage("candidates", made, seed=1)["MEMBERSHIP"])["indices"]
    assert sorted(other) == sorted(members["indices"])
    assert other != members["indices"]


def test_there_are_as_many_candidates_as_asked() -> None:
    made = run_chain()
    some = run_stage("candidates", made, retained=2, non_members=3, population=5)
    trained = parse_output(some["MEMBERSHIP"])["trained"]
    assert (sum(trained), len(trained)) == (3 + 2, 3 + 2 + 3)
    assert len(read_tensors(some["POPULATION"].data, "POPULATION")[0]["labels"]) == 5


def test_a_training_set_that_takes_the_whole_pool_leaves_no_candidates() -> None:
    made = run_stage(
        "pretrain", {}, dataset=DATA, model={"name": "mlp", "params": {"hidden": 4}}, epochs=1
    )
    made |= run_stage("train", made, dataset=DATA, size=20)
    made |= run_stage("unlearn", made, "gradient_ascent", deletions=2)
    with pytest.raises(InvalidRequest, match="uses the whole pool"):
        run_stage("candidates", made)


@pytest.mark.parametrize("attack", ["membership_difference", "membership_population"])
def test_an_attack_sees_answers_only_and_counts_what_it_asked(attack: str) -> None:
    made = lined_up()
    found, told = scores(made, attack)
    candidates = len(parse_output(made["MEMBERSHIP"])["indices"])
    public = len(read_tensors(made["POPULATION"].data, "POPULATION")[0]["labels"])
    assert found.shape == (3, candidates)
    assert told["access"] == "black_box"
    if attack == "membership_difference":
        assert told["observes"] == ["CANDIDATES", "ORIGINAL", "UNLEARNED"]
        assert told["queries"] == {"attack": (1 + 3) * candidates}
    else:
        assert told["observes"] == ["CANDIDATES", "POPULATION", "UNLEARNED"]
        assert told["queries"] == {"attack": 3 * (candidates + public)}
    rounded, _ = scores(made, attack, decimals=1)
    assert not torch.equal(found, rounded)
    again, _ = scores(made, attack)
    assert torch.equal(found, again)


def test_the_difference_reveals_members_and_the_evaluation_says_how_well() -> None:
    made = lined_up(lr=0.3)
    made |= run_stage("attack", made, "membership_difference", precision="float64")
    found = parse_output(run_stage("evaluate", made)["EVALUATION"])
    assert found["attack"]["method"] == "membership_difference"
    assert found["metrics"]["auc_forgotten"]["mean"] > 0.8
    assert found["metrics"]["auc_forgotten"]["n"] == 3
    assert found["metrics"]["auc_retained"]["n"] == 9


MNIST_MLP: dict[str, Any] = {"dataset": {"name": "mnist_5k"}, "model": {"name": "mlp"}}


def forget_digits(method: str, **params: Any) -> Outputs:
    """Eight digits forgotten by an mlp that was trained on 64, and the candidates."""
    made = run_stage("pretrain", {}, **MNIST_MLP, epochs=1)
    made |= run_stage("train", made, dataset=MNIST_MLP["dataset"], size=64)
    made |= run_stage("unlearn", made, method, **{"deletions": 8, **params})
    return made | run_stage("candidates", made, retained=50, non_members=200)


def read_auc(made: Outputs) -> dict[str, Any]:
    found: dict[str, Any] = parse_output(run_stage("evaluate", made)["EVALUATION"])["metrics"]
    return found["auc_forgotten"]


@pytest.mark.parametrize("params", [{}, {"target": "filtered"}])
def test_gradients_reveal_digits_after_ascent_and_shuffled_candidates_reveal_nothing(
    params: dict[str, Any],
) -> None:
    made = forget_digits("gradient_ascent")
    found, told = scores(made, "membership_gradient", **params)
    assert found.abs().max() <= 1 + 1e-6
    assert (told["access"], told["queries"]) == ("white_box", 0)
    assert told["observes"] == ["CANDIDATES", "ORIGINAL", "UNLEARNED"]
    assert told.get("released_models") == (8 if params else None)
    auc = read_auc(made | run_stage("attack", made, "membership_gradient", **params))
    assert auc["mean"] > 0.99
    assert auc["p"] < 0.001
    order = torch.randperm(found.shape[1], generator=torch.Generator().manual_seed(0))
    tensors, _ = read_tensors(made["CANDIDATES"].data, "CANDIDATES")
    shuffled = StageOutput(write_tensors({name: t[order] for name, t in tensors.items()}, {}))
    attacked = run_stage("attack", made | {"CANDIDATES": shuffled}, "membership_gradient", **params)
    auc = read_auc(made | attacked)
    assert auc["low"] < 0.5 < auc["high"]
    assert auc["p"] > 0.025


def test_the_truth_changes_no_score_of_the_gradient_attack() -> None:
    made = lined_up(lr=0.3)
    found, _ = scores(made, "membership_gradient")
    seen = {role: made[role] for role in ("ORIGINAL", "UNLEARNED", "CANDIDATES")}
    alone, _ = scores(seen, "membership_gradient")
    assert torch.equal(found, alone)
    turned = [not one for one in parse_output(made["MEMBERSHIP"])["trained"]]
    lied_to, _ = scores(about(made, "MEMBERSHIP", trained=turned), "membership_gradient")
    assert torch.equal(found, lied_to)


def test_the_base_model_helps_the_gradient_attack_after_retraining() -> None:
    made = forget_digits("retrain")
    pair, base, either = (
        read_auc(made | run_stage("attack", made, "membership_gradient", gradient_from=source))
        for source in ("pair", "base", "either")
    )
    assert base["mean"] > 0.95
    assert base["mean"] > pair["mean"]
    assert either["values"] == base["values"]


def test_gradients_are_taken_where_each_deletion_started() -> None:
    """Successive deletions, and members of an ensemble: each deletion is compared by itself."""
    made = lined_up(successive=True, lr=0.3)
    found, _ = scores(made, "membership_gradient")
    members, forgotten = (
        parse_output(made["MEMBERSHIP"])["indices"],
        parse_output(made["FORGET_SETS"])["indices"],
    )
    places = [members.index(row[0]) for row in forgotten]
    assert all(found[d, place] > found[d].quantile(0.9) for d, place in enumerate(places))
    made = run_stage("pretrain", {}, dataset=DATA, model={"name": "mlp", "params": {"hidden": 16}})
    made |= run_stage("train", made, dataset=DATA, size=12, shards=3)
    made |= run_stage("unlearn", made, "sisa", deletions=3, shards=3)
    made |= run_stage("candidates", made)
    found, _ = scores(made, "membership_gradient")
    assert found.shape == (3, len(parse_output(made["MEMBERSHIP"])["indices"]))


def test_the_tails_of_the_population_attack_are_each_others_opposite() -> None:
    made = lined_up()
    remembered, _ = scores(made, "membership_population")
    erased, _ = scores(made, "membership_population", tail="erased")
    both, _ = scores(made, "membership_population", tail="both")
    assert torch.equal(remembered, -erased)
    assert torch.equal(remembered.abs(), both)


def test_successive_deletions_are_compared_with_what_each_started_from() -> None:
    """What an earlier deletion forgot has moved before: the second difference must not show it
    again."""
    made = lined_up(successive=True, lr=0.3)
    found, told = scores(made, "membership_difference", precision="float64")
    members, forgotten = (
        parse_output(made["MEMBERSHIP"])["indices"],
        parse_output(made["FORGET_SETS"])["indices"],
    )
    assert told["queries"]["attack"] == (3 + 3) * len(members)
    place = [members.index(row[0]) for row in forgotten]
    assert all(found[d, place[d]] > found[d].median() for d in range(3))
    apart, _ = scores(
        made | {"ORIGINAL": run_chain()["ORIGINAL"]}, "membership_difference", precision="float64"
    )
    torch.testing.assert_close(apart[0], found[0])
    assert not torch.allclose(apart[1], found[1])


def test_models_that_answer_together_are_asked_together() -> None:
    made = run_stage("pretrain", {}, dataset=DATA, model={"name": "mlp", "params": {"hidden": 16}})
    made |= run_stage("train", made, dataset=DATA, size=12, shards=3)
    made |= run_stage("unlearn", made, "sisa", deletions=3, shards=3)
    made |= run_stage("candidates", made)
    found, told = scores(made, "membership_difference")
    assert found.shape == (3, len(parse_output(made["MEMBERSHIP"])["indices"]))
    assert told["queries"]["attack"] == 4 * found.shape[1]


def about(made: Outputs, role: str, **changed: Any) -> Outputs:
    return made | {role: StageOutput.of_json(parse_output(made[role]) | changed)}


def test_what_does_not_fit_is_refused_by_its_role() -> None:
    made = lined_up()
    empty = StageOutput(
        write_tensors(
            {"images": torch.zeros(0, 1, 9, 9), "labels": torch.zeros(0, dtype=torch.int64)}, {}
        )
    )
    with pytest.raises(InvalidRequest, match="CANDIDATES must hold") as refused:
        run_stage("attack", made | {"CANDIDATES": empty}, "membership_difference")
    assert refused.value.field == "inputs.CANDIDATES"
    with pytest.raises(InvalidRequest, match="POPULATION must hold"):
        run_stage("attack", made | {"POPULATION": empty}, "membership_population")
    made |= run_stage("attack", made, "membership_difference")
    short = StageOutput(write_tensors({"scores": torch.zeros(3, 2, dtype=torch.float64)}, {}))
    with pytest.raises(InvalidRequest, match="SCORES must hold float64"):
        run_stage("evaluate", made | {"SCORES": short})
    with pytest.raises(InvalidRequest, match="at least one non-member"):
        run_stage(
            "evaluate",
            about(
                made,
                "MEMBERSHIP",
                trained=[True] * len(parse_output(made["MEMBERSHIP"])["trained"]),
            ),
        )
    with pytest.raises(InvalidRequest, match="as trained on"):
        run_stage(
            "evaluate",
            about(
                made,
                "MEMBERSHIP",
                trained=[False] * len(parse_output(made["MEMBERSHIP"])["trained"]),
            ),
        )
    with pytest.raises(InvalidRequest, match="candidates must be distinct"):
        run_stage("evaluate", about(made, "MEMBERSHIP", trained=[False]))
    elsewhere = parse_output(made["FORGET_SETS"]) | {"digest": "0" * 64}
    with pytest.raises(InvalidRequest, match="contains samples that are not in this"):
        run_stage("candidates", made | {"FORGET_SETS": StageOutput.of_json(elsewhere)})
