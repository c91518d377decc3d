"""Was it forgotten? What a report says of the way to retraining, and what the verdict makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.forgetting import ForgettingTests
from shared.reporting import forgetting_tests
from shared.reporting.forgetting import (
    build_lines,
    find_way,
    list_tests,
    pool_way,
    read_forgetting,
)
from shared.reporting.forgetting_tests import describe_tests
from shared.reporting.formatting import Names
from shared.reporting.models import Report
from shared.reporting.page import render_page
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    JSONObject,
    build_report,
    make_audit,
    make_defense,
    make_forgetting,
    make_image_evaluation,
    make_utility_evaluation,
)

CLEAN: JSONObject = {**NO_LEAK}


def report_on(
    *ways: float | None, results: JSONObject = CLEAN, unlearning: str = "gradient_ascent"
) -> Report:
    """One release, each way of a seed of its own."""
    seeds = range(len(ways))
    spec = make_audit(seeds=[*seeds], unlearning=[unlearning])
    evaluations = [
        one
        for seed in seeds
        for one in (
            make_image_evaluation(**results, seed=seed, unlearning=unlearning),
            make_utility_evaluation(seed=seed, unlearning=unlearning),
        )
    ]
    measured = [
        make_forgetting(way, seed=seed, unlearning=unlearning) for seed, way in zip(seeds, ways, strict=True)
    ]  # fmt: skip
    return build_report(spec, *evaluations, forgetting=measured)


def test_a_release_that_forgot_may_show_no_leak() -> None:
    verdict = report_on(0.8).verdict
    assert verdict.level == "no_leak_seen"
    assert not any("unlearned" in sentence for sentence in verdict.sentences)


@pytest.mark.parametrize(
    ("way", "first", "detail"),
    [
        (
            0.0,
            "The released models have not forgotten the samples: they treat them as the original "
            "does (way to retraining: 0 %).",
            "Nothing was unlearned by gradient_ascent (0 % of the way to retraining): that no "
            "attack finds the samples is no evidence of safety.",
        ),
        (
            -0.3,
            "The released models have not forgotten",
            "Nothing was unlearned by gradient_ascent (−30 % of the way to retraining)",
        ),
        (
            0.049,
            "The released models have not forgotten",
            "Nothing was unlearned by gradient_ascent (4.9 % of the way to retraining)",
        ),
        (
            0.05,
            "The released models have hardly forgotten the samples (way to retraining: 5.0 %).",
            "Too little was unlearned by gradient_ascent (5.0 % of the way to retraining)",
        ),
        (
            0.24,
            "The released models have hardly forgotten the samples (way to retraining: 24 %).",
            "Too little was unlearned by gradient_ascent (24 % of the way to retraining)",
        ),
        (
            None,
            "Whether the released models have forgotten the samples cannot be measured: retraining "
            "raises the forget loss by less.",
            "Whether gradient_ascent has unlearned anything cannot be measured: retraining raises "
            "the forget loss by less.",
        ),
    ],
)
def test_too_little_is_inconclusive_and_said_first(
    way: float | None, first: str, detail: str
) -> None:
    verdict = report_on(way).verdict
    assert verdict.level == "inconclusive"
    assert verdict.headline.startswith(first)
    assert verdict.sentences[0] == "That no attack finds them therefore shows nothing."
    assert verdict.details[0].startswith(detail)


@pytest.mark.parametrize("way", [0.25, 1.0, 7.0])
def test_a_way_from_a_quarter_on_blocks_nothing(way: float) -> None:
    assert report_on(way).verdict.level == "no_leak_seen"


@pytest.mark.parametrize(("way", "word"), [(2.0, "Unlearned"), (2.1, "Overshot")])
def test_a_way_far_beyond_retraining_is_named(way: float, word: str) -> None:
    rows = report_on(way).rows
    assert [line.word for line in build_lines(rows, Names(rows))] == [word]


@pytest.mark.parametrize("way", [0.0, 0.1, None, 1.0])
def test_a_measured_leak_stays_a_leak(way: float | None) -> None:
    verdict = report_on(way, results=LEAK).verdict
    assert verdict.level == "leaks"
    assert "shows nothing" not in " ".join([*verdict.sentences, *verdict.details])


@pytest.mark.parametrize("way", [0.0, 0.1, None])
def test_exact_retraining_is_exempt(way: float | None) -> None:
    report = report_on(way, unlearning="retrain")
    assert report.verdict.level == "no_leak_seen"
    (row,) = report.rows
    found = find_way([row])
    assert found is not None
    assert found.state == "exact"


def test_what_was_not_measured_changes_nothing() -> None:
    """Evaluations from before there was this measurement."""
    spec = make_audit()
    report = build_report(spec, make_image_evaluation(**NO_LEAK), make_utility_evaluation())
    assert report.rows[0].forgetting is None
    assert report.verdict.level == "no_leak_seen"
    assert "Was it forgotten" not in render_page(report, [])


def test_what_was_asked_for_and_is_missing_is_told_and_inconclusive() -> None:
    spec = make_audit(check_forgetting=True)
    report = build_report(spec, make_image_evaluation(**NO_LEAK), make_utility_evaluation())
    (missing,) = report.missing
    assert missing.attack is None
    assert "whether these models have forgotten was not measured" in missing.reason
    assert report.verdict.level == "inconclusive"


def test_seeds_are_pooled_by_their_losses() -> None:
    row = [report_on(0.0, 0.5, 1.0).rows]
    way = find_way(row[0])
    assert way is not None
    assert way.value == pytest.approx(0.5)
    assert way.low == pytest.approx(0.5 - 0.1 / 3**0.5)
    assert way.high == pytest.approx(0.5 + 0.1 / 3**0.5)


def test_one_seed_that_cannot_be_measured_does_not_hide_the_others() -> None:
    way = find_way(report_on(1.0, 1.0, 1.0, None).rows)
    assert way is not None
    assert way.value is not None
    assert way.low is None


def test_a_defense_that_takes_the_unlearning_back_has_reduced_nothing() -> None:
    tuned = make_defense("fine_tune", strength=0.1) | {"has_adaptive_attack": False}
    spec = make_audit(defenses=["none", "fine_tune"])
    evaluations = [
        make_image_evaluation(**LEAK),
        make_utility_evaluation(),
        make_image_evaluation(**NO_LEAK, released=tuned),
        make_utility_evaluation(released=tuned),
    ]

    def conclude(way: float) -> str:
        measured = [make_forgetting(1.0), make_forgetting(way, released=tuned)]
        return build_report(spec, *evaluations, forgetting=measured).verdict.level

    assert conclude(0.9) == "reduced"
    assert conclude(0.01) == "leaks"


TESTS: JSONObject = {
    "three_sample": {
        "statistic": 0.7, "low": 0.4, "high": 1.0, "p": 0.003, "not_forgotten": True, "reason": None,
    },
    "klom": {
        name: {
            "samples": 160, "mean": 0.8, "median": 0.1, "high": 2.0,
            "retrained_mean": 0.3, "retrained_median": 0.1, "retrained_high": 0.5,
            "difference": {"mean": 0.5, "low": 0.2, "high": 0.9},
        }
        for name in ("forget", "retain", "test")
    },
    "linear_probe": {
        "original": 0.9, "release": 0.8, "retrained": 0.5,
        "difference": {"mean": 0.3, "low": 0.1, "high": 0.5},
    },
    "relearning": {
        "release": [0.1, 0.6, 0.9], "retrained": [0.4, 0.4, 0.5],
        "difference": {"mean": 0.4, "low": None, "high": None},
    },
    "relearning_forgotten": {
        "samples": 5,
        "losses": {"original": [0.1] * 4, "release": [2.0, 0.9, 0.4, 0.2], "retrained": [2.1] * 4},
        "way_before": 0.95, "way": 0.05, "way_low": -0.02, "way_high": 0.11,
        "p": 0.0005, "not_forgotten": True, "reason": None,
    },
}  # fmt: skip


def several() -> Report:
    methods = ["fisher", "gradient_ascent", "scrub", "retrain"]
    spec = make_audit(unlearning=methods)
    evaluations = [
        one
        for name in methods
        for one in (
            make_image_evaluation(**NO_LEAK, unlearning=name),
            make_utility_evaluation(unlearning=name),
        )
    ]
    ways = {"fisher": 0.9, "gradient_ascent": 0.01, "scrub": None, "retrain": 1.0}
    measured = [
        make_forgetting(way, unlearning=name, tests=TESTS if name == "gradient_ascent" else {})
        for name, way in ways.items()
    ]
    return build_report(spec, *evaluations, forgetting=measured)


def test_the_table_lists_the_worst_release_first() -> None:
    report = several()
    lines = build_lines(report.rows, Names(report.rows))
    assert [line.release.split(",")[0] for line in lines] == [
        "gradient_ascent",
        "scrub",
        "fisher",
        "retrain",
    ]
    worst = lines[0]
    assert worst.losses == ("0.500", "0.506", "1.10")
    assert (worst.way, worst.interval) == ("1.0 %", "[−9.0, 11 %]")
    assert worst.tests == {
        "three-sample test": (
            "closer to the original",
            "statistic +0.70 [+0.40, +1.00] (0: as close to retrained models), p 0.003, 8 deletions",
        ),
        "KLoM": (
            "0.80 nats (retraining: 0.30)",
            "difference +0.50 [+0.20, +0.90], 95th percentile 2.00 (retraining: 0.50), 160 samples "
            "of 8 deletions",
        ),
        "linear probe": (
            "0.80 (retraining: 0.50)",
            "difference +0.30 [+0.10, +0.50], original 0.90, 8 deletions",
        ),
        "relearning on forgotten samples": (
            "closer to the original",
            "way to retraining of the rest 95 % → 5.0 % [−2.0, 11 %] (retraining: 100 %), 3 steps "
            "on 5 samples, p 0.0005, 8 deletions",
        ),
        "relearning on retained samples": (
            "0.10 → 0.90 (retraining: 0.40 → 0.50)",
            "forget accuracy in 2 epochs, difference at the end +0.40 (no interval), 8 deletions",
        ),
    }
    assert list_tests(lines) == [*worst.tests]
    assert lines[1].tests == {}
    assert lines[1].way == "not measurable"


def describe(*tests: JSONObject) -> dict[str, tuple[str, str]]:
    """The tests of one release, one measurement per seed."""
    measured = [
        read_forgetting(
            json.dumps(make_forgetting(1.0, seed=seed, tests=own)).encode(), "F"
        ).measured
        for seed, own in enumerate(tests)
    ]
    return {name: tuple(result) for name, result in describe_tests(measured).items()}


def test_seeds_are_pooled_in_every_test() -> None:
    found = describe(TESTS, TESTS, TESTS, TESTS)
    assert found["three-sample test"] == (
        "closer to the original in 4 of 4 seeds",
        "statistic +0.70 [+0.55, +0.85] (0: as close to retrained models), p 0.003, 32 deletions",
    )
    assert "difference +0.50 [+0.35, +0.70], " in found["KLoM"][1]
    assert found["relearning on forgotten samples"][1].endswith("p 0.0005, 32 deletions")


def test_what_a_test_cannot_decide_is_said() -> None:
    reason = "forget sets of one sample hold no other samples that could come back"
    too_few = {"statistic": None, "p": None, "not_forgotten": None, "reason": "too few"}
    found = describe({"relearning_forgotten": {"reason": reason}, "three_sample": too_few})
    assert found == {
        "three-sample test": ("cannot decide", "too few; 8 deletions"),
        "relearning on forgotten samples": ("cannot decide", f"{reason}; 8 deletions"),
    }
    undecided = TESTS["relearning_forgotten"] | {
        "p": None, "not_forgotten": None, "reason": "the test needs at least 5 deletions",
        "way_low": None, "way_high": None, "way_before": None,
    }  # fmt: skip
    found = describe({"relearning_forgotten": undecided})
    assert found["relearning on forgotten samples"] == (
        "cannot decide",
        "way to retraining of the rest not measurable → 5.0 % (no interval) (retraining: 100 %), "
        "3 steps on 5 samples, the test needs at least 5 deletions, 8 deletions",
    )


@pytest.mark.parametrize(
    ("flagged", "level"),
    [
        ((), "no_leak_seen"),
        (("klom", "linear_probe", "relearning"), "no_leak_seen"),
        (("three_sample",), "inconclusive"),
        (("relearning_forgotten",), "inconclusive"),
    ],
)
def test_a_mean_that_a_decisive_test_contradicts_is_disputed(
    flagged: tuple[str, ...], level: str
) -> None:
    evaluations = [make_image_evaluation(**NO_LEAK), make_utility_evaluation()]
    measured = make_forgetting(1.0, tests={name: TESTS[name] for name in flagged})
    report = build_report(make_audit(), *evaluations, forgetting=[measured])
    assert report.verdict.level == level
    way = find_way(report.rows)
    assert way is not None
    assert way.state == ("disputed" if level == "inconclusive" else "forgotten")
    if level == "inconclusive":
        assert "is disputed: their mean loss" in report.verdict.headline
        assert "the loss has risen on 8 of 8 deletions" in report.verdict.headline
    exact = make_forgetting(1.0, unlearning="retrain", tests=measured["measured"]["tests"])
    row = read_forgetting(json.dumps(exact).encode(), "FORGETTING").measured
    assert pool_way([row], exact=True).state == "exact"


def test_the_page_shows_the_table_and_its_rules() -> None:
    page = render_page(several(), [])
    assert page.index("Was it forgotten?") < page.index("Full table")
    for words in (
        "The way to retraining is", "closer to the original", "not measurable",
        "Relearning on forgotten samples", "way to retraining of the rest 95 %",
    ):  # fmt: skip
        assert words in page


def test_several_releases_share_the_first_sentence() -> None:
    methods = ["fisher", "gradient_ascent"]
    spec = make_audit(unlearning=methods)
    evaluations = [make_image_evaluation(**NO_LEAK, unlearning=name) for name in methods]
    evaluations += [make_utility_evaluation(unlearning=name) for name in methods]
    measured = [make_forgetting(0.0, unlearning=name) for name in methods]
    report = build_report(spec, *evaluations, forgetting=measured)
    assert report.verdict.headline == (
        "The released models have forgotten the samples in none of 2 variants of unlearning and "
        "defense; in 2 nothing was unlearned."
    )
    assert report.verdict.details[0].startswith(
        "Nothing was unlearned by fisher (0 % of the way to retraining) and gradient_ascent (0 %)"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"way": None}, "either a way or a reason"),
        ({"way": 1e13}, "way"),
        ({"deletions": 7}, "by_deletion"),
        ({"spread": -1}, "spread"),
        ({"release": None}, "release"),
    ],
)
def test_what_is_not_such_a_measurement_is_refused(change: dict[str, Any], message: str) -> None:
    made = make_forgetting(0.5)
    made["measured"] |= change
    with pytest.raises(InvalidRequest, match=message) as raised:
        read_forgetting(json.dumps(made).encode(), "FORGETTING_1")
    assert raised.value.field == "inputs.FORGETTING_1"


def test_bytes_that_are_too_many_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.reporting.forgetting.MAX_BYTES", 1 << 20)
    with pytest.raises(InvalidRequest, match="larger than 1 MiB"):
        read_forgetting(b" " * ((1 << 20) + 1), "FORGETTING_1")


def test_every_test_of_forgetting_has_a_name_and_a_column() -> None:
    assert set(forgetting_tests.TESTS) == set(ForgettingTests.model_fields)
