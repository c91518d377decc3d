"""The document says what was found, and its drawings can be opened."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from benchmarks.paper.audit_specs import FULL, REDUCED, build_audits
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.figures import DataPoint, Series, draw_chart
from benchmarks.paper.results_page import RunSummary, write_page
from shared.jobs.spec import AuditSpec
from shared.reporting.forgetting import read_forgetting
from tests.support.evaluations import make_evaluation
from tests.support.reports import make_defense, make_forgetting

RUN = RunSummary(
    "cifar10 (40,000 training samples)",
    "two cores",
    600.0,
    420.0,
    {"attack": 300.0, "train": 30.0},
    12,
    "torch 2",
    "make paper",
)
ASCENT = "gradient_ascent"


def evidence() -> Evidence:
    pair = {"gradient_from": "pair", "adaptive": False}
    recovered = {"psnr": [20.0, 21.0, 22.0], "ranks": [1, 1, 4]}
    worth = {
        "test_accuracy": 0.8,
        "forget_accuracy": 0.75,
        "original_forget_accuracy": 1.0,
        "original_test_accuracy": 0.81,
    }
    released = ("pruning", 0.5)
    return Evidence(
        REDUCED,
        {
            "approximate, N = 32": [
                make_evaluation(ASCENT, None, utility=worth),
                make_evaluation(ASCENT, ("feature_recovery", pair), **recovered),
            ],
            "labels of images, one sample": [
                make_evaluation(
                    ASCENT, ("label_inference", {"gradient_from": "pair"}), hits=[1.0, 1.0, 0.0]
                )
            ],
            "defenses": [
                make_evaluation(ASCENT, None, utility=worth),
                make_evaluation(ASCENT, ("feature_recovery", pair), **recovered),
                make_evaluation(
                    ASCENT, ("feature_recovery", pair), defense=("pruning", 0.2), **recovered
                ),
                make_evaluation(ASCENT, None, utility=worth, defense=released),
                make_evaluation(
                    ASCENT,
                    ("feature_recovery", pair),
                    defense=released,
                    psnr=[9.0, 8.0, 9.0],
                    ranks=[9, 8, 7],
                ),
                *(
                    make_evaluation(
                        ASCENT, ("feature_recovery", pair), defense=("dp_sgd", s), **recovered
                    )
                    for s in (0.5, 2)
                ),
            ],
        },
    )


def written(folder: Path, found: Evidence) -> str:
    strip = {kind: torch.rand(3, 3, 8, 8) for kind in ("truth", "reconstruction", "class_mean")}
    out = folder / "docs/results.md"
    out.parent.mkdir(exist_ok=True)
    shown = replace(found, pictures={"approximate, from the pair": strip})
    write_page(RUN, shown, out, out.parent / "images/paper")
    return out.read_text()


def test_it_says_what_was_found_where_and_in_what_time(tmp_path: Path) -> None:
    page = written(tmp_path, evidence())
    assert "two cores" in page
    assert "10 minutes, and 7 of a processor, for 12 jobs" in page
    assert "| approximate, from the pair | **supported here** | 2 of 3 identified" in page
    assert "| pruning | 0.5 | 0.800 | 0.75 (1.00) | 8.7" in page
    assert "2 of 3 [0.21, 0.94]" in page
    assert "| dp_sgd | 0.5 (epsilon 16.0) |" in page


def test_every_score_stands_beside_whether_the_samples_were_forgotten(tmp_path: Path) -> None:
    measured = [
        read_forgetting(json.dumps(made).encode(), "FORGETTING")
        for made in (
            make_forgetting(0.5),
            make_forgetting(0.9, seed=1),
            make_forgetting(
                0.0, released=make_defense("pruning")
            ),  # only undefended ones are shown
            make_forgetting(None, unlearning="retrain"),
        )
    ]
    page = written(tmp_path, replace(evidence(), forgetting={"defenses": measured}))
    assert (
        "| defenses | gradient_ascent | 16, 3 | 0.500 | 0.920 | 1.100 | 70 % [63, 77 %] | Unlearned |"
        in page
    )
    assert "| defenses | retrain | 8, 3 | 0.500 | 2.300 | 1.100 | retraining raises" in page
    assert page.count("| defenses | ") == 2


def test_every_drawing_is_there_and_whole(tmp_path: Path) -> None:
    page = written(tmp_path, evidence())
    linked = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert len(linked) >= 4
    for name in linked:
        path = tmp_path / "docs" / name
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            assert Image.open(path).size == (3 * 20 + 4, 3 * 20 + 4)


def test_without_results_it_says_so(tmp_path: Path) -> None:
    page = written(tmp_path, Evidence(REDUCED, {}))
    assert "no results" in page
    assert "**supported here**" not in page


def test_a_chart_holds_every_value_between_its_axes() -> None:
    drawn = ElementTree.fromstring(
        draw_chart(
            "t",
            "dB",
            [Series("a", [DataPoint("x", 5, 1, 9), DataPoint("y", -2, -3, 0)])],
            baseline=1.0,
        )
    )
    dots = [
        node
        for node in drawn.iter()
        if node.tag.endswith("circle") and float(node.get("cy", "0")) < 280
    ]
    assert len(dots) == 2
    assert float(dots[0].get("cy", "0")) < float(dots[1].get("cy", "0"))


@pytest.mark.parametrize("scale", [REDUCED, FULL], ids=lambda s: s.name)
def test_audits_are_audits_by_names_of_their_own(scale: object) -> None:
    assert scale in (REDUCED, FULL)
    found = build_audits(REDUCED if scale is REDUCED else FULL)
    assert all(AuditSpec.model_validate(spec).name == name for name, spec in found.items())
    assert len(found) == 27
