"""EVALUATION is one model: what was stored before is read whole, and written again to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import InvalidRequest
from shared.evaluation import Evaluation, NoDecoys
from shared.reporting.loading import read_evaluation
from workers.context import StageOutput

STORED = sorted((Path(__file__).parent / "evaluations").glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=[path.stem for path in STORED])
def test_a_stored_evaluation_is_read_and_written_again_to_the_byte(path: Path) -> None:
    stored = path.read_bytes().strip()
    evaluation = read_evaluation(stored, "EVALUATION_1").evaluation
    assert StageOutput.of_json(evaluation.to_dict()).data == stored


OLD_METRIC_NAMES = {
    "baseline": "null",
    "baseline_name": "null_name",
    "baselines": "nulls",
    "baseline_values": "null_values",
}


SCORED = [path for path in STORED if json.loads(path.read_text())["metrics"]]


@pytest.mark.parametrize("path", SCORED, ids=[path.stem for path in SCORED])
def test_an_evaluation_of_an_older_version_is_refused(path: Path) -> None:
    """Unknown fields are ignored: read as it is, it would lose its baselines."""
    stored = json.loads(path.read_text())
    for name, metric in stored["metrics"].items():
        stored["metrics"][name] = {OLD_METRIC_NAMES.get(n, n): v for n, v in metric.items()}
    told = "EVALUATION_1 was written by an older version.*: run the evaluation again"
    with pytest.raises(InvalidRequest, match=told) as refused:
        read_evaluation(json.dumps(stored).encode(), "EVALUATION_1")
    assert refused.value.field == "inputs.EVALUATION_1"


@pytest.mark.parametrize("old", [{"promise": {"epsilon": 1.0}}, {"counter": False}])
def test_a_defense_of_an_older_version_is_refused(old: dict[str, object]) -> None:
    stored = json.loads((STORED[0]).read_text())
    stored["defense"] = {"method": "dp_sgd", "params": {}} | old
    with pytest.raises(InvalidRequest, match=rf"older version.*defense\.{next(iter(old))}"):
        read_evaluation(json.dumps(stored).encode(), "EVALUATION_1")


def test_every_kind_of_evaluation_is_stored() -> None:
    parts = [json.loads(path.read_text()) for path in STORED]
    for name in ("attack", "identification", "answers", "utility", "defense", "unlearning"):
        assert {part[name] is None for part in parts} == {True, False}
    assert {
        type(part["identification"]["median_rank"]) for part in parts if part["identification"]
    } == {int, float}
    assert any("claims" in part["answers"] for part in parts if part["answers"])
    assert any("auc_forgotten" in part["metrics"] for part in parts)


def test_ranks_without_decoys_stay_what_they_are_and_are_none_to_a_report() -> None:
    stored = json.loads((STORED[0]).read_text()) | {"identification": {"n": 0, "decoys": 0}}
    evaluation = Evaluation.model_validate(stored)
    assert isinstance(evaluation.identification, NoDecoys)
    assert evaluation.reported_identification is None
    assert evaluation.to_dict() == stored
