"""The stage that tells of an audit."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import pytest
import torch
from PIL import Image

from shared.errors import InvalidRequest
from shared.ml.tensors import write_tensors
from tests.support.reports import LEAK, audit, images, labels, utility
from workers.context import JobContext, Output
from workers.stages.report import ReportParams, run

Inputs = dict[str, bytes]


def pictures(seed: int = 0, n: int = 8, channels: int = 1, **changes: Any) -> bytes:
    """PICTURES of `images(**LEAK)`: every deletion has a grey level of its own."""
    levels = torch.arange(n).view(n, 1, 1, 1) / 10
    shown = {name: levels.expand(n, channels, 9, 9) for name in ("truth", "reconstruction", "class_mean")}
    told = images(**LEAK, seed=seed)
    about = {name: told[name] for name in ("seed", "unlearning", "defense", "attack")}
    about |= {"psnr": [22.0] * n, "null_psnr": [13.0] * n, "ranks": [1] * n, "labels": list(range(n)), "decoys": 100}
    return write_tensors(shown, about | changes)


def inputs(*evaluations: dict[str, Any]) -> Inputs:
    return {f"EVALUATION_{i}": json.dumps(one).encode() for i, one in enumerate(evaluations, start=1)}


def told(given: Inputs, **spec: Any) -> dict[str, Output]:
    return run(JobContext(params=ReportParams(audit=audit(**spec)), inputs=given))


def shown(page: str) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def test_it_makes_the_report_as_data_and_as_a_page_with_every_deletion() -> None:
    made = told(inputs(images(**LEAK), utility()) | {"PICTURES_1": pictures()})
    report, page = json.loads(made["REPORT"].data), made["REPORT_HTML"].data.decode()
    assert (made["REPORT"].media_type, made["REPORT_HTML"].media_type) == ("application/json", "text/html")
    assert report["schema"] == "palimpsest.report/1"
    assert report["missing"] == []
    assert len(shown(page)) == 3 * 8


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pictures_are_enlarged_by_whole_factors(channels: int, mode: str) -> None:
    made = told(inputs(images(**LEAK)) | {"PICTURES_1": pictures(channels=channels)})
    picture = shown(made["REPORT_HTML"].data.decode())[3]
    assert picture.mode == mode
    assert picture.size == (117, 117)  # 9 pixels, 13 times
    assert {value for _, value in picture.convert("L").getcolors()} == {round(0.1 * 255)}


def test_equal_inputs_in_another_order_give_equal_bytes() -> None:
    given = inputs(images(**LEAK), utility()) | {"PICTURES_1": pictures()}
    assert told(given) == told(dict(reversed(given.items())))


def test_inputs_are_numbered_as_numbers() -> None:
    given = {f"EVALUATION_{i}": json.dumps(images(**LEAK, seed=i)).encode() for i in (2, 10, 1)}
    found = json.loads(told(given, seeds=[0])["REPORT"].data)
    assert len(found["rows"]) == 3


def test_a_failed_attack_leaves_the_others_and_is_listed() -> None:
    given = inputs(images(**LEAK), utility())
    report = json.loads(told(given, attacks=["feature_recovery", "label_inference"])["REPORT"].data)
    assert [one["attack"]["method"] for one in report["missing"]] == ["label_inference"]
    assert len(report["rows"]) == 1


def test_when_everything_failed_there_is_still_a_report() -> None:
    made = told({})
    assert json.loads(made["REPORT"].data)["verdict"]["level"] == "inconclusive"
    assert b"Nothing was measured" in made["REPORT_HTML"].data


def test_an_evaluation_of_labels_has_no_pictures() -> None:
    given = inputs(labels(8, (0.68, 1.0)), utility()) | {"PICTURES_1": write_tensors({}, {})}
    assert b"data:image/png" not in told(given, attacks=["label_inference"])["REPORT_HTML"].data


@pytest.mark.parametrize(
    "wrong",
    [
        b"none",
        pictures(psnr=[1.0]),
        pictures(ranks=[1]),
        pictures(attack=None),
        pictures(channels=2),
        write_tensors({"truth": torch.zeros(1, 1, 9, 9)}, {"psnr": [1.0], "null_psnr": [1.0]}),
    ],
)
def test_pictures_that_are_wrong_are_refused_by_their_role(wrong: bytes) -> None:
    with pytest.raises(InvalidRequest, match="PICTURES_7"):
        told(inputs(images(**LEAK)) | {"PICTURES_7": wrong})
