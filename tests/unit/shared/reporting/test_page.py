"""The page: it needs nothing, hides nothing and lets nothing in."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from shared.reporting.formatting import Names
from shared.reporting.models import Defense, Method, Report, Unlearning
from shared.reporting.page import render_page
from shared.reporting.pictures import Gallery, Picture
from shared.reporting.row_charts import ShareChart, draw_shares
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    build_report,
    make_audit,
    make_defense,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_method,
    make_utility_evaluation,
)

NASTY = "<script>alert(1)</script>\"' onload=x {{ 7 * 7 }} </style><img src=//evil.example>"
PICTURE = Picture(
    b"a", b"b", b"c", psnr=22.0, baseline_psnr=13.0, rank=1, decoys=100, class_name="3"
)


def gallery(seed: int = 0, unlearning: str = "gradient_ascent", pictures: int = 2) -> Gallery:
    return Gallery(
        seed, Unlearning(method=unlearning), Defense(method="none"), Method(method="feature_recovery"),
        [PICTURE] * pictures,
    )  # fmt: skip


def full() -> Report:
    spec = make_audit(
        defenses=["none", "pruning"],
        attacks=["feature_recovery", "label_inference", "membership_difference"],
        seeds=[0, 1],
    )
    pruned = make_defense("pruning", strength=0.3)
    return build_report(
        spec,
        *(make_image_evaluation(**LEAK, seed=seed) for seed in (0, 1)),
        make_image_evaluation(**NO_LEAK, released=pruned),
        make_label_evaluation(8, (0.68, 1.0)),
        make_label_evaluation(1, (0.02, 0.47), released=pruned),
        make_membership_evaluation((0.9, 0.7, 0.98)),
        make_membership_evaluation((0.5, 0.3, 0.7), 0.5, released=pruned),
        *(
            make_utility_evaluation(seed=seed, released=r)
            for seed in (0, 1)
            for r in (None, pruned)
        ),
    )


class Tags(HTMLParser):
    """Which tags stand in a page, and what they point to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_a_black_box_shows_its_queries_as_numbers_over_all_seeds() -> None:
    made = []
    for seed, asked in ((0, 450), (1, 600)):
        told = make_label_evaluation(8, (0.68, 1.0), seed=seed)
        told["attack"]["params"] = {"decimals": None, "iterations": None}
        told["threat_model"] |= {
            "access": "black_box",
            "queries": {"probing": 49_560, "attack": asked},
        }
        made.append(told)
    page = render_page(
        build_report(make_audit(attacks=["label_inference"], seeds=[0, 1]), *made), []
    )
    settings = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert settings["queries, probing"] == "49,560"
    assert settings["queries, attack"] == "450 to 600"
    assert settings["decimals"] == "all"
    assert settings["iterations"] == "set by the preset"
    assert "answers of the released model" in page


def test_forgotten_and_retained_are_shown_with_n_baseline_and_p() -> None:
    page = " ".join(render_page(full(), []).split())
    part = page[page.index('<h2 id="members">') : page.index('<h2 id="table">')]
    assert (
        '<b class="num">0.90</b> <span class="sub">[0.70, 0.98]<br>baseline 0.50, n = 8 against 400, p 0.0005'
        in part
    )
    assert (
        '<b class="num">0.50</b> <span class="sub">[0.42, 0.58]<br>baseline 0.50, n = 8 against 400, p 0.5'
        in part
    )
    assert "Membership against chance. gradient_ascent, no defense: 0.90 [0.70, 0.98]" in part
    assert "the deleted ones, mixed with retained samples" in page
    assert 'id="members"' not in render_page(
        build_report(make_audit(), make_image_evaluation(**LEAK)), []
    )


def test_the_page_says_what_a_baseline_is() -> None:
    page = " ".join(render_page(full(), [gallery()]).split())
    assert page.count("score without the attack") == 2
    assert "saw nothing" not in page
    assert "of the first seed that has pictures" in page


def test_nothing_of_the_users_becomes_markup() -> None:
    spec = make_audit(name=NASTY, attacks=[{"name": "feature_recovery", "params": {NASTY: NASTY}}])
    evaluation = make_image_evaluation(
        **LEAK, attack=make_method("feature_recovery", **{NASTY: NASTY})
    )
    evaluation["threat_model"] |= {"observes": [NASTY], "access": NASTY, NASTY: NASTY}
    evaluation["unlearning"]["method"] = evaluation["defense"]["method"] = NASTY
    evaluation["provenance"] = {NASTY: NASTY}
    page = render_page(build_report(spec, evaluation), [])
    tags = Tags(page)
    assert "script" not in tags.tags
    assert "img" not in tags.tags
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page)[0]


def test_it_points_to_nothing_outside_itself() -> None:
    page = render_page(full(), [gallery()])
    tags = Tags(page)
    targets = [
        value for name, value in tags.attributes if name in ("src", "href", "action", "srcset")
    ]
    assert targets
    assert all(value.startswith(("#", "data:")) for value in targets)
    assert {value[1:] for value in targets if value.startswith("#")} <= set(tags.ids)
    assert len(tags.ids) == len(set(tags.ids))
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_equal_reports_give_equal_pages() -> None:
    assert render_page(full(), [gallery()]) == render_page(full(), [gallery()])


def test_verdict_limits_rules_and_digests_stand_on_the_page() -> None:
    made = full()
    page = render_page(made, [gallery()])
    for told in (
        "Leaks",
        "What was not tested",
        "Decision rules",
        "palimpsest audit FILE.yaml",
    ):
        assert told in page
    assert all(digest in page for digest in made.provenance.evaluations)
    assert "name: an audit" in page


def test_every_metric_has_its_name_and_its_direction_and_says_what_it_was_measured_with() -> None:
    told = make_image_evaluation(**LEAK)
    for name, higher in (
        ("haarpsi", True),
        ("feature_distance", False),
        ("lpips", False),
        ("own", False),
    ):
        told["metrics"][name] = told["metrics"]["psnr"] | {
            "unit": "1",
            "higher_is_better": higher,
            "mean": 0.25,
        }
    made = build_report(make_audit(), told, make_utility_evaluation())
    page = " ".join(render_page(made, []).split())
    for name, arrow in (
        ("PSNR", "↑"),
        ("HaarPSI", "↑"),
        ("feature distance", "↓"),
        ("LPIPS", "↓"),
        ("own", "↓"),
    ):
        assert re.search(
            rf'<td class="name">{name} <span title="\w+ leaks more">{arrow}</span></td>', page
        )
    assert any("never attacked" in limit for limit in made.caveats)
    assert any("64 pixels" in limit for limit in made.caveats)
    assert Report.model_validate_json(made.model_dump_json(by_alias=True)) == made
    plain = build_report(
        make_audit(), make_image_evaluation(**LEAK), make_utility_evaluation()
    ).caveats
    assert not any("LPIPS" in limit for limit in plain)


def test_a_baseline_of_nothing_is_drawn_at_nothing() -> None:
    """Zero is a score; only where none is named the chart's own baseline stands in."""
    chart = ShareChart("label_accuracy", "axis", "title", baseline=0.5, band=lambda _: (0.0, 0.4))
    places = {}
    for baseline in (0.0, 0.5, None):
        told = make_label_evaluation(8, (0.68, 1.0))
        told["metrics"]["label_accuracy"] |= {"baseline": baseline}
        made = build_report(make_audit(attacks=["label_inference"]), told)
        drawn = draw_shares([("1", row) for row in made.rows], chart, Names(made.rows))
        places[baseline] = re.findall(r'<line class="baseline" x1="([0-9.]+)"', drawn)
    assert places[0.0] == ["310.0", "12.0"]
    assert places[0.5] == places[None] != places[0.0]


@pytest.mark.parametrize(
    ("forget", "words"),
    [
        (
            {"deletions": 8},
            "All deletions of the first seed that has pictures are shown. They were not selected "
            "by hand",
        ),
        *(
            (
                forget,
                "All deletions of the first seed that has pictures are shown; the audit names the "
                "samples",
            )
            for forget in ({"indices": [[3], [5]]}, {"rows": [4711]}, {"files": ["cat/7.png"]})
        ),
    ],
)
def test_the_gallery_says_who_chose_the_deletions(forget: dict[str, object], words: str) -> None:
    made = build_report(make_audit(forget=forget), make_image_evaluation(**LEAK))
    page = " ".join(render_page(made, [gallery()]).split())
    assert words in page
    assert ("not selected by hand" in page) == ("deletions" in forget)


def test_the_text_beside_the_chart_names_no_direction_of_its_own() -> None:
    page = render_page(full(), [])
    assert "Up is worse" not in page
    assert "PSNR in dB, higher leaks more" in page


def test_every_picture_has_a_text_and_is_shown_for_the_first_seed_only() -> None:
    page = render_page(full(), [gallery(1), gallery(0)])
    assert page.count("<img") == 4 + 6
    assert page.count('alt="Deleted image') == 2
    assert page.count('alt="Deleted sample') == page.count('alt="What came back of') == 2
    assert "class 3" in page
    assert "identified" in page


def test_the_pictures_of_the_headline_come_before_everything_else() -> None:
    """Those of the second method, which leaks; the first eight of ten."""
    methods = ["retrain", "gradient_ascent"]
    made = build_report(
        make_audit(unlearning=methods),
        make_image_evaluation(**NO_LEAK, unlearning="retrain"),
        make_image_evaluation(**LEAK),
    )
    page = " ".join(
        render_page(made, [gallery(unlearning=name, pictures=10) for name in methods]).split()
    )
    lead = page[page.index('id="lead"') : page.index('id="untested"')]
    assert page.index('class="headline"') < page.index('id="lead"') < page.index('id="signature"')
    assert page.index('id="signature"') < page.index("<nav")
    assert lead.count("<img") == 2 * 8
    assert "gradient_ascent, no defense; feature_recovery, seed 0" in lead
    assert "the first 8 of 10 deleted samples" in lead
    assert "These are the deleted samples themselves." in lead
    assert page.count('alt="Deleted image') == 2 * 10


def test_a_report_without_pictures_has_no_place_for_them() -> None:
    page = render_page(full(), [])
    assert "what came back" not in page
    assert "deleted samples themselves" not in page


@pytest.mark.parametrize(
    "spec", [make_audit(), make_audit(defenses=["none", "pruning"], seeds=[0, 1, 2])]
)
def test_an_audit_of_which_nothing_came_has_a_page(spec: dict[str, object]) -> None:
    page = render_page(build_report(spec), [])
    assert "Nothing was measured" in page
    assert "What is missing" in page


def test_missing_rows_that_differ_in_seed_share_a_line() -> None:
    page = render_page(build_report(make_audit(seeds=[0, 1, 2])), [])
    assert "<div>0, 1, 2</div>" in page
