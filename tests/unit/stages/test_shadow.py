"""Shadow deletions are unlearned, defended and attacked as the tested ones were; evaluate makes
p-values of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import make_generator
from shared.ml.records import ForgetSets, TrainingSet
from shared.ml.samples import open_dataset
from shared.ml.statistics import wilson
from tests.support.tiny_chain import Outputs, StopAtCheckpoint, parse_output, run_chain
from workers.context import StageOutput
from workers.local import run_stage
from workers.stages._shadow_sets import DeletionsUnderTest, draw_shadow_sets

pytestmark = pytest.mark.slow

PROBES = {"per_class": 4, "resolution": 3, "max_queries": 1000}


def attacked(
    method: str = "gradient_ascent",
    attack: str = "label_inference",
    defense: str = "none",
    **params: Any,
) -> Outputs:
    made = run_chain(method, deletions=4)
    made |= run_stage("defend", made, defense, **params)
    made["UNLEARNED"] = made["RELEASED"]
    if attack == "label_inference_black_box":
        made |= run_stage("probe", made, **PROBES)
    return made | run_stage("attack", made, attack)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_shadow_deletion_scores_as_the_stages_score_it(adaptive: bool) -> None:
    made = attacked(defense="pruning", share=0.3)
    made |= run_stage("attack", made, "label_inference", adaptive=adaptive)
    found = parse_output(run_stage("shadow", made)["SHADOWS"])
    assert (len(found["scores"]), len(found["scores"][0]), len(found["labels"])) == (199, 4, 199)
    assert (found["unlearning"], found["defense"], found["attack"]) == (
        "gradient_ascent",
        "pruning",
        "label_inference",
    )
    training = TrainingSet.read(made["TRAINING_SET"].data, "TRAINING_SET")
    tested = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS").indices
    split = open_dataset(training.dataset).load("train")
    own, second, *others = draw_shadow_sets(
        199,
        DeletionsUnderTest(training.indices, tested, split, False),
        training.find_pool(split.labels),
        make_generator(0, "shadow sets"),
    )
    # of 12 samples, 4 are tested
    assert (own.is_tested_set, second.is_tested_set, found["trainings"]) == (
        True,
        True,
        len(others),
    )
    again = made | run_stage(
        "unlearn", made, "gradient_ascent", steps=1, indices=own.forget.tolist()
    )
    again |= run_stage("defend", again, "pruning", share=0.3)
    again["UNLEARNED"] = again["RELEASED"]
    scores = parse_output(
        run_stage("attack", again, "label_inference", adaptive=adaptive)["ANSWERS"]
    )["scores"]
    torch.testing.assert_close(torch.tensor(found["scores"][:4]), torch.tensor(scores))
    assert found["labels"][:4] == parse_output(again["LABELS"])["labels"]


@pytest.mark.parametrize(("method", "attack"), [
    ("gradient_ascent", "label_inference"), ("retrain", "label_inference_black_box"),
])  # fmt: skip
def test_the_evaluation_says_what_is_answered_and_how_often_wrongly(
    method: str, attack: str
) -> None:
    made = attacked(method, attack)
    made |= run_stage("shadow", made)
    plain = parse_output(
        run_stage("evaluate", {r: o for r, o in made.items() if r != "SHADOWS"})["EVALUATION"]
    )
    assert "claims" not in plain["answers"]
    answers = parse_output(run_stage("evaluate", made, alpha=0.2)["EVALUATION"])["answers"]
    claims = answers["claims"]
    assert (claims["alpha"], claims["shadows"], claims["n"]) == (0.2, 199, 4)
    said = [p[0] <= 0.2 for p in claims["p_values"]]
    same = [a == b for a, b in zip(answers["labels"], answers["truth"], strict=True)]
    assert claims["answered"] == sum(said)
    assert claims["wrong"] == sum(a and not b for a, b in zip(said, same, strict=True))
    assert claims["correct"] + claims["wrong"] == claims["answered"]
    assert (claims["wrong_low"], claims["wrong_high"]) == wilson(claims["wrong"], 4)
    if method == "gradient_ascent":  # one step up the loss of one sample: the bias tells its class
        assert claims["correct"] == 4


def test_an_interrupted_job_goes_on_to_the_same_bytes() -> None:
    made, hooks = attacked("retrain"), StopAtCheckpoint(5)
    with pytest.raises(JobFailed):
        run_stage("shadow", made, hooks=hooks)
    assert run_stage("shadow", made, hooks=hooks) == run_stage("shadow", made)


def test_deletions_of_classes_have_shadows_of_one_class() -> None:
    made = run_stage(
        "train",
        base := run_chain(),
        seed=0,
        **parse_output(base["RECIPE"])
        | {"size": 8, "balanced": True, "dataset": parse_output(base["TRAINING_SET"])["dataset"]},
    )
    made = base | made
    made |= run_stage("unlearn", made, "gradient_ascent", forget="class", deletions=2)
    made |= run_stage("defend", made, "none")
    made |= run_stage("attack", made, "label_inference")
    made |= run_stage("shadow", made)
    assert all(
        len({*row}) == 1 and len(row) == 2 for row in parse_output(made["SHADOWS"])["labels"]
    )
    assert parse_output(run_stage("evaluate", made)["EVALUATION"])["answers"]["claims"]["n"] == 2


def test_what_cannot_be_repeated_is_refused_in_words() -> None:
    made = attacked()
    told = parse_output(made["ANSWERS"])
    black = made | {
        "ANSWERS": StageOutput.of_json(
            told | {"threat_model": {"attack": "label_inference_black_box"}}
        )
    }
    with pytest.raises(InvalidRequest, match="this attack needs PROBES") as refused:
        run_stage("shadow", black)
    assert refused.value.field == "inputs.PROBES"
    images = StageOutput.of_json({"threat_model": {"attack": "analytic_inversion"}})
    with pytest.raises(InvalidRequest, match="label attacks only; analytic_inversion is not one"):
        run_stage("shadow", made | {"ANSWERS": images})
    with pytest.raises(InvalidRequest, match="does not state which attack"):
        run_stage("shadow", made | {"ANSWERS": StageOutput.of_json({"labels": [[0]]})})
    sharded = StageOutput.of_json(
        parse_output(made["UNLEARNING"]) | {"method": "amnesiac", "params": {}}
    )
    with pytest.raises(
        InvalidRequest,
        match="amnesiac needs BATCH_DELTAS, which shadow deletions do not have",
    ):
        run_stage("shadow", made | {"UNLEARNING": sharded})
    many = made | run_stage("unlearn", made, "gradient_ascent", deletions=2, successive=True)
    with pytest.raises(InvalidRequest, match="successive deletions"):
        run_stage("shadow", many)
    with pytest.raises(InvalidRequest, match="greater than or equal to 199"):
        run_stage("shadow", made, shadows=198)
