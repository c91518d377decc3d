"""What a report says of what the audit itself keeps of people."""

from __future__ import annotations

from shared.jobs.spec import PlannedRetention
from shared.reporting.kept import list_kept
from shared.reporting.page import render_page
from tests.support.reports import LEAK, build_report, make_audit, make_image_evaluation

LIMITED = PlannedRetention(reconstructions_days=30, audits_days=365, uploads_days=0.5)
UNLIMITED = PlannedRetention(reconstructions_days=None, audits_days=None, uploads_days=None)


def test_each_part_says_where_it_is_and_for_how_long() -> None:
    kept = list_kept(LIMITED, {"original": "0" * 64}, shown_samples=8, attack_count=1)
    assert [one.how_long for one in kept] == [
        "30 days after the job that made it ended",
        "30 days after this report was made",
        "12 hours after the upload, and as long as a model or data set is declared of them",
        "365 days after the last job of the audit ended",
        "365 days after the last job of the audit ended",
    ]
    assert "1 attack:" in kept[0].what
    assert "8 deleted samples" in kept[1].what
    assert "report.html" in kept[1].where
    assert "report.json" in kept[-1].where


def test_without_a_limit_it_stays_until_somebody_deletes_it() -> None:
    kept = list_kept(UNLIMITED, {}, shown_samples=0, attack_count=2)
    assert {one.how_long for one in kept} == {"until the audit is deleted"}
    assert not any("report.html" in one.where or "uploaded" in one.what for one in kept)


def test_the_page_shows_it_if_the_time_is_known() -> None:
    report = build_report(make_audit(), make_image_evaluation(**LEAK))
    assert report.kept == []
    assert 'id="kept"' not in render_page(report, [])
    kept = list_kept(LIMITED, {}, 0, 1)
    page = render_page(report.model_copy(update={"kept": kept}), [])
    assert "What this audit keeps of people" in page
    assert all(one.how_long in page for one in kept)
    assert "feature_recovery" not in str(kept)
