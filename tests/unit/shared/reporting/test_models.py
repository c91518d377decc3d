"""The format of report.json."""

from __future__ import annotations

import json

import jsonschema
import pytest

from shared.errors import InvalidRequest
from shared.reporting.loading import read_evaluation
from shared.reporting.models import Report, build_schema
from tests.support.reports import (
    LEAK,
    build_report,
    make_audit,
    make_image_evaluation,
    make_label_evaluation,
    make_utility_evaluation,
)
from tests.support.source_tree import ROOT


def test_the_documented_schema_is_the_models() -> None:
    """To write it anew: python -m shared.reporting.models > docs/report.schema.json"""
    assert (ROOT / "docs" / "report.schema.json").read_text() == build_schema()


def test_a_report_obeys_its_schema_and_reads_back() -> None:
    spec = make_audit(attacks=["feature_recovery", "label_inference"], seeds=[0, 1])
    made = build_report(
        spec,
        make_image_evaluation(**LEAK),
        make_label_evaluation(8, (0.68, 1.0)),
        make_utility_evaluation(),
    )
    value = json.loads(json.dumps(made.to_dict()))
    jsonschema.Draft202012Validator(json.loads(build_schema())).validate(value)
    assert value["schema"] == "palimpsest.report/2"
    assert Report.model_validate(value) == made


def test_scores_are_flat_and_identification_is_among_them() -> None:
    row = build_report(make_audit(), make_image_evaluation(**LEAK)).to_dict()["rows"][0]
    psnr, ranks = row["metrics"]["psnr"], row["metrics"]["decoy_rank_1"]
    assert (psnr["gain"], psnr["gain_low"], psnr["gain_high"]) == (9.0, 6.0, 12.0)
    assert (ranks["mean"], ranks["baseline_name"], ranks["unit"]) == (1.0, "chance", "share")
    assert ranks["gain"] == pytest.approx(1 - 1 / 101)
    assert ranks["gain_low"] == pytest.approx(0.68 - 1 / 101)


def test_provenance_repeats_audit_versions_and_digests() -> None:
    spec = make_audit()
    told = build_report(spec, make_image_evaluation(**LEAK), make_utility_evaluation()).provenance
    assert told.audit == spec
    assert told.palimpsest == "1.2.3"
    assert len(told.conditions) == 1
    assert len(set(told.evaluations)) == 2


@pytest.mark.parametrize("data", [b"\xff", b"[]", b'{"seed": "x"}', b"[" * 100_000])
def test_an_evaluation_that_is_none_is_refused_by_its_role(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="EVALUATION_3"):
        read_evaluation(data, "EVALUATION_3")


def test_an_audit_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="audit"):
        build_report({"name": "x"}, rows=[])
