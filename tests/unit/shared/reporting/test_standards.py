"""Tests of the EDPB's Opinion 28/2024, and attackers in the terms of NIST AI 100-2."""

from __future__ import annotations

from typing import Any

import pytest

from shared.reporting.kinds import list_kinds
from shared.reporting.models import Report
from shared.reporting.page import render_page
from shared.reporting.standards import PRIVACY_TESTS
from tests.support.reports import (
    LEAK,
    build_report,
    make_audit,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_method,
    make_utility_evaluation,
)

IMAGES = make_image_evaluation(**LEAK)
LABELS = make_label_evaluation(6, (0.4, 0.9))
MEMBERSHIP = make_membership_evaluation((0.9, 0.8, 0.95))


def make_report(*evaluations: dict[str, Any]) -> Report:
    attacks = [one["attack"]["method"] for one in evaluations if one["attack"]]
    return build_report(make_audit(attacks=attacks or ["feature_recovery"]), *evaluations)


def states(report: Report) -> dict[str, str]:
    return {one.test: one.status for one in report.privacy_tests}


def test_an_audit_of_all_kinds_tests_four_of_the_six() -> None:
    report = make_report(IMAGES, LABELS, MEMBERSHIP, make_utility_evaluation())
    assert states(report) == {
        "attribute inference": "tested_in_part",
        "membership inference": "tested",
        "exfiltration": "not_tested",
        "regurgitation of training data": "not_tested",
        "model inversion": "tested_in_part",
        "reconstruction": "tested",
    }
    assert {one.test: one.attacks for one in report.privacy_tests if one.attacks} == {
        "attribute inference": ["label_inference"],
        "membership inference": ["membership_difference"],
        "model inversion": ["feature_recovery"],
        "reconstruction": ["feature_recovery"],
    }
    assert list(states(report)) == list(PRIVACY_TESTS)


@pytest.mark.parametrize(
    ("evaluation", "tested"),
    [
        (IMAGES, {"model inversion", "reconstruction"}),
        (LABELS, {"attribute inference"}),
        (MEMBERSHIP, {"membership inference"}),
        (make_utility_evaluation(), set()),
    ],
)
def test_what_was_not_measured_was_not_tested(evaluation: dict[str, Any], tested: set[str]) -> None:
    """That an attack was asked for, and failed, is no test."""
    attacks = ["feature_recovery", "label_inference", "membership_difference"]
    report = build_report(make_audit(attacks=attacks), evaluation)
    assert {test for test, state in states(report).items() if state != "not_tested"} == tested
    for one in report.privacy_tests:
        assert one.extent.endswith(".")
        assert bool(one.attacks) == (one.test in tested)


def test_what_palimpsest_never_tests_is_said_so() -> None:
    by_test = {one.test: one.extent for one in make_report(IMAGES).privacy_tests}
    for name in ("exfiltration", "regurgitation of training data"):
        assert by_test[name].startswith("Palimpsest does not test")
    assert by_test["membership inference"].startswith("No attack of this kind was measured")


def test_every_kind_names_its_tests_and_its_goal() -> None:
    for kind in list_kinds():
        assert kind.privacy_tests
        assert {one.test for one in kind.privacy_tests} <= set(PRIVACY_TESTS)
        assert kind.attacker_goal.startswith("Privacy compromise: ")


def test_attackers_have_goal_capability_and_knowledge() -> None:
    images, membership = make_report(IMAGES, MEMBERSHIP).attackers
    assert images.goal == "Privacy compromise: data reconstruction."
    assert "sends no queries" in images.capability
    assert images.knowledge.startswith("White box: architecture and weights")
    assert membership.capability.startswith("Query access")
    assert "mixed with retained samples" in membership.knowledge


def test_one_who_knows_the_defense_and_one_who_is_not_stated() -> None:
    adaptive = make_image_evaluation(**LEAK, attack=make_method("feature_recovery", adaptive=True))
    spec = make_audit(attacks=[{"name": "feature_recovery", "params": {"adaptive": True}}])
    (attacker,) = build_report(spec, adaptive).attackers
    assert "the defense of the release" in attacker.knowledge
    (silent,) = make_report(IMAGES | {"threat_model": None}).attackers
    assert (silent.capability, silent.knowledge) == ("Not stated.", "Not stated.")


def test_the_page_shows_both_tables() -> None:
    page = render_page(make_report(IMAGES, MEMBERSHIP), [])
    for words in (
        "Opinion 28/2024",
        "regurgitation of training data",
        "NIST AI 100-2",
        "<b>in part</b>",
        "<b>not tested</b>",
        "Query access",
    ):
        assert words in page
    nothing = render_page(make_report(make_utility_evaluation()), [])
    assert "Attackers in the terms of" not in nothing
