"""EVALUATION is one model: what was stored before is read whole, and written again to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.evaluation import Evaluation, NoDecoys
from shared.reporting.loading import read_evaluation
from workers.context import StageOutput

STORED = sorted((Path(__file__).parent / "evaluations").glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=[path.stem for path in STORED])
def test_a_stored_evaluation_is_read_and_written_again_to_the_byte(path: Path) -> None:
    stored = path.read_bytes().strip()
    evaluation = read_evaluation(stored, "EVALUATION_1").evaluation
    assert StageOutput.of_json(evaluation.to_dict()).data == stored


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
