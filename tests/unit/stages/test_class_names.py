"""Classes by the names that their owner gave them: from the folder to the page of the report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.reporting.page import render_page
from tests.support.reports import build_report, make_audit, make_label_evaluation
from tests.support.tiny_chain import MODEL, Outputs, parse_output
from workers.local import run_stage
from workers.stages._galleries import draw_gallery
from workers.stages._pictures import read_pictures

pytestmark = pytest.mark.slow

NAMES = ("1", "2", "10", "x")


def write_classes(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        kind = draw.random((9, 9))
        for place in range(50):
            pixels = 0.7 * kind + 0.3 * draw.random((9, 9))
            Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / name / f"{place:04}.png")


def made_of_pictures() -> Outputs:
    dataset = {"name": "image_folder", "params": {"path": "mine", "size": 9, "grey": True}}
    made = run_stage("pretrain", {}, dataset=dataset, model=MODEL)
    made |= run_stage("train", made, dataset=dataset, size=12)
    return made | run_stage("unlearn", made, "gradient_ascent", deletions=6)


def test_answers_and_pictures_carry_the_names_of_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    write_classes(tmp_path / "mine")
    made = made_of_pictures()
    made |= run_stage("attack", made, "label_inference")
    made |= run_stage("attack", made, "feature_recovery", iterations=3)
    outputs = run_stage("evaluate", made, decoys=5)
    answers = parse_output(outputs["EVALUATION"])["answers"]
    truth = {label for row in answers["truth"] for label in row}
    assert answers["names"].items() >= {str(label): NAMES[label] for label in truth}.items()
    (read,) = read_pictures(outputs["PICTURES"].data, "PICTURES_1").shown
    shown = [picture.class_name for picture in draw_gallery(read).pictures]
    assert shown == [NAMES[label] for label in read.pictures.labels]
    assert {NAMES[label] for label in truth} == set(shown)


def test_a_page_says_names_where_there_are_some_and_lets_nothing_in() -> None:
    told = make_label_evaluation(8, (0.68, 1.0))
    told["answers"] |= {"names": {"3": "10 <b>", "5": "2"}, "labels": [[3]] * 4 + [[5]] * 4}
    made = build_report(make_audit(attacks=["label_inference"]), told)
    page = render_page(made, [])
    pairs = re.findall(r'<span class="pair[ a-z]*">(.*?)</span>', page)
    assert pairs == ["10 &lt;b&gt;→10 &lt;b&gt;"] * 4 + ["10 &lt;b&gt;→2"] * 4
    assert made.rows[0].answers is not None
    assert made.rows[0].answers.names["3"] == "10 <b>"
