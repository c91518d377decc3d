"""What a report says of single deletions, and of releases that passed."""

from __future__ import annotations

import pytest

from shared.reporting.deletions import MAX_LINES, DeletionTable, build_deletion_tables
from shared.reporting.formatting import Names
from shared.reporting.models import Report
from shared.reporting.overview import build_overview
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
    make_label_evaluation,
    make_self_test,
    make_utility_evaluation,
)


def tables_of(report: Report) -> list[DeletionTable]:
    names = Names(report.rows)
    return build_deletion_tables(build_overview(report.rows, names), names)


def test_each_deletion_has_its_losses_way_and_results() -> None:
    spec = make_audit(attacks=["feature_recovery", "label_inference"])
    report = build_report(
        spec,
        make_image_evaluation(**{**LEAK, "ranks": [1, 1, 1, 1, 1, 1, 2, 101]}),
        make_label_evaluation(7, (0.5, 0.98)),
        make_utility_evaluation(),
        forgetting=[make_forgetting(0.5)],
    )
    (table,) = tables_of(report)
    assert table.attacks == ["feature_recovery", "label_inference"]
    assert [line.number for line in table.lines] == [str(n) for n in range(1, 9)]
    assert table.lines[0].losses == "0.500 → 0.800 (retraining 1.10)"
    assert {line.way for line in table.lines} == {"50 %"}
    assert [line.results for line in table.lines[-3:]] == [
        ["rank 1 of 101", "right"],
        ["rank 2 of 101", "right"],
        ["rank 101 of 101", "wrong"],
    ]
    assert [line.is_found for line in table.lines] == [True] * 7 + [False]
    page = render_page(report, [])
    section = page[page.index('id="deletions"') : page.index('id="tradeoff"')]
    assert section.count('class="found"') == 7
    assert "rank 101 of 101" in section


def test_several_samples_of_a_deletion_share_a_line() -> None:
    pairs = make_label_evaluation(8, (0.68, 1.0))
    pairs["size"] = 2
    pairs["answers"] = {"labels": [[3, 5], [3, 3]], "truth": [[3, 4], [3, 3]]}
    pairs["deletions"] = 2
    images = make_image_evaluation(**{**LEAK, "ranks": [1, 4, 9, 7]}) | {"size": 2, "deletions": 2}
    spec = make_audit(attacks=["feature_recovery", "label_inference"])
    (table,) = tables_of(build_report(spec, images, pairs))
    assert [line.results for line in table.lines] == [
        ["rank 1 of 101, rank 4 of 101", "1 of 2 right"],
        ["rank 9 of 101, rank 7 of 101", "2 of 2 right"],
    ]
    assert [line.is_found for line in table.lines] == [True, True]


def test_many_deletions_are_cut_on_the_page_and_counted() -> None:
    ranks = [7] * (MAX_LINES + 50)
    report = build_report(make_audit(), make_image_evaluation(**{**NO_LEAK, "ranks": ranks}))
    (table,) = tables_of(report)
    assert (len(table.lines), table.total) == (MAX_LINES, MAX_LINES + 50)
    assert f"The first {MAX_LINES} of {MAX_LINES + 50} deletions" in render_page(report, [])


PRUNED = make_defense("pruning", share=0.5) | {"has_adaptive_attack": True}
SURE = make_forgetting(0.9)


@pytest.mark.parametrize(
    ("evaluation", "utility", "forgetting", "tested", "passes"),
    [
        (NO_LEAK, {}, SURE, {}, True),
        (LEAK, {}, SURE, {}, False),
        (NO_LEAK, {"test": 0.1}, SURE, {}, False),
        (NO_LEAK, {}, None, {}, False),
        (NO_LEAK, {}, make_forgetting(0.1), {}, False),
        (NO_LEAK, {}, make_forgetting(3.0), {}, False),
        (NO_LEAK, {}, make_forgetting(0.9, half=1.0), {}, False),
        (NO_LEAK, {}, make_forgetting(None), {}, False),
        (NO_LEAK, {}, SURE, {"psnr": 1.0}, False),
        (NO_LEAK, {}, make_forgetting(0.9, released=PRUNED), {"released": PRUNED}, False),
    ],
    ids=[
        "good", "leaks", "useless", "forgetting not measured", "too little", "too much", "uncertain",
        "not measurable", "failed self-test", "attackers who know the defense were not tried",
    ],
)  # fmt: skip
def test_a_release_passes_only_if_everything_speaks_for_it(
    evaluation: JSONObject,
    utility: JSONObject,
    forgetting: JSONObject | None,
    tested: JSONObject,
    passes: bool,
) -> None:
    released = tested.get("released")
    report = build_report(
        make_audit(defenses=["pruning" if released else "none"]),
        make_image_evaluation(**evaluation, released=released),
        make_utility_evaluation(**utility, released=released),
        forgetting=[forgetting] if forgetting else None,
        tested=make_self_test(**{n: v for n, v in tested.items() if n != "released"}),
    )
    assert report.verdict.passed == (["gradient_ascent, no defense"] if passes else [])
    page = render_page(report, [])
    assert ("Passed every test that was run: gradient_ascent, no defense." in page) is passes
    assert ("No release passed every test." in page) is not passes
