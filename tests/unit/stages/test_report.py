"""The stage that tells of an audit."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from shared import VERSION
from shared.errors import InvalidRequest
from shared.jobs.spec import PlannedRetention
from shared.ml.tensors import write_tensors
from shared.reporting.picture_file import read_pictures as read_report_pictures
from tests.support.reports import (
    LEAK,
    make_audit,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_utility_evaluation,
)
from workers.context import JobContext, NoHooks, StageOutput
from workers.stages import _galleries
from workers.stages.report import ReportParams, run

Inputs = dict[str, bytes]
NAMES = ("truth", "reconstruction", "class_mean")
NONE: Mapping[str, Any] = MappingProxyType({})


def pictures(
    seed: int = 0, n: int = 8, channels: int = 1, further: Mapping[str, Any] = NONE, **changes: Any
) -> bytes:
    """PICTURES of `images(**LEAK)`: every deletion has a grey level of its own. `further` kinds
    have one too."""
    levels = torch.arange(n).view(n, 1, 1, 1) / 10
    shown = {f"RECONSTRUCTION.{name}": levels.expand(n, channels, 9, 9) for name in NAMES}
    told = make_image_evaluation(**LEAK, seed=seed)
    about = {name: told[name] for name in ("seed", "unlearning", "defense", "attack")}
    about |= {name: changes.pop(name) for name in ("attack", "kinds") if name in changes}
    captions = {
        "psnr": [22.0] * n,
        "baseline_psnr": [13.0] * n,
        "ranks": [1] * n,
        "labels": list(range(n)),
        "decoy_counts": [100] * n,
    }
    shown |= {f"{kind}.guess": torch.zeros(n, 5) for kind in further}
    return write_tensors(
        shown, {"kinds": {"RECONSTRUCTION": captions | changes, **further}} | about
    )


def shapes(**changes: Any) -> bytes:
    """PICTURES of one image, some of them of another type."""
    one = torch.zeros(1, 1, 9, 9)
    about = {name: make_image_evaluation(**LEAK)[name] for name in ("seed", "attack")}
    captions = {"psnr": [1.0], "baseline_psnr": [1.0]}
    tensors = {
        f"RECONSTRUCTION.{name}": tensor
        for name, tensor in (dict.fromkeys(NAMES, one) | changes).items()
    }
    return write_tensors(tensors, about | {"kinds": {"RECONSTRUCTION": captions}})


ONE_CAPTION = {"seed": 0, "kinds": {"RECONSTRUCTION": {"psnr": [1.0], "baseline_psnr": [1.0]}}}


def inputs(*evaluations: dict[str, Any]) -> Inputs:
    return {
        f"EVALUATION_{i}": json.dumps(one).encode() for i, one in enumerate(evaluations, start=1)
    }


# of which evaluation, and of which attack: None for what a release is worth
ROWS = ((1, 0), (2, None), (3, 1), (4, 2))


def told(given: Inputs, **spec: Any) -> dict[str, StageOutput]:
    """The report of one release with one seed."""
    return run(JobContext(params=params(**spec), inputs=given))


def params(**spec: Any) -> ReportParams:
    asked = make_audit(**spec)
    rows = [
        {
            "seed": 0,
            "unlearning": 0,
            "defense": 0,
            "attack": attack,
            "evaluation": f"EVALUATION_{n}",
        }
        for n, attack in ROWS
        if attack is None or attack < len(asked["attacks"])
    ]
    return ReportParams.model_validate({"audit": asked, "rows": rows})


def shown(page: str) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def test_it_makes_the_report_as_data_and_as_a_page_with_every_deletion() -> None:
    made = told(
        inputs(make_image_evaluation(**LEAK), make_utility_evaluation())
        | {"PICTURES_1": pictures()}
    )
    report, page = json.loads(made["REPORT"].data), made["REPORT_HTML"].data.decode()
    assert (made["REPORT"].media_type, made["REPORT_HTML"].media_type) == (
        "application/json",
        "text/html",
    )
    assert report["schema"] == "palimpsest.report/2"
    assert report["missing"] == []
    # two of each below the verdict, three of each in the gallery
    assert len(shown(page)) == (2 + 3) * 8
    # the same pictures as files
    (gallery,) = read_report_pictures(made["REPORT_PICTURES"].data, lambda _: True).galleries
    assert made["REPORT_PICTURES"].media_type == "application/zip"
    assert len(gallery.pictures) == 8
    assert base64.b64encode(gallery.pictures[7].reconstruction).decode() in page


def test_it_says_what_is_kept_of_people() -> None:
    retention = PlannedRetention(reconstructions_days=30, audits_days=None, uploads_days=30)
    asked = params().model_copy(update={"retention": retention})
    given = inputs(make_image_evaluation(**LEAK)) | {"PICTURES_1": pictures()}
    made = run(JobContext(params=asked, inputs=given))
    kept = json.loads(made["REPORT"].data)["kept"]
    assert "pictures of 8 deleted samples" in kept[1]["what"]
    assert kept[1]["how_long"].startswith("30 days")
    assert kept[1]["how_long"].encode() in made["REPORT_HTML"].data


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pictures_are_enlarged_by_whole_factors(channels: int, mode: str) -> None:
    made = told(inputs(make_image_evaluation(**LEAK)) | {"PICTURES_1": pictures(channels=channels)})
    picture = shown(made["REPORT_HTML"].data.decode())[3]
    assert picture.mode == mode
    assert picture.size == (117, 117)  # 9 pixels, 13 times
    assert {value for _, value in picture.convert("L").getcolors()} == {round(0.1 * 255)}


def test_equal_inputs_in_another_order_give_equal_bytes() -> None:
    given = inputs(make_image_evaluation(**LEAK), make_utility_evaluation()) | {
        "PICTURES_1": pictures()
    }
    assert told(given) == told(dict(reversed(given.items())))


def test_inputs_are_numbered_as_numbers() -> None:
    given = {
        f"EVALUATION_{i}": json.dumps(make_image_evaluation(**LEAK, seed=i)).encode()
        for i in (2, 10, 1)
    }
    found = json.loads(told(given, seeds=[0])["REPORT"].data)
    assert len(found["rows"]) == 3


def test_a_failed_attack_leaves_the_others_and_is_listed() -> None:
    given = inputs(make_image_evaluation(**LEAK), make_utility_evaluation())
    report = json.loads(told(given, attacks=["feature_recovery", "label_inference"])["REPORT"].data)
    assert [one["attack"]["method"] for one in report["missing"]] == ["label_inference"]
    assert len(report["rows"]) == 1


def test_when_everything_failed_there_is_still_a_report() -> None:
    made = told({})
    assert json.loads(made["REPORT"].data)["verdict"]["level"] == "inconclusive"
    assert b"Nothing was measured" in made["REPORT_HTML"].data


def test_an_evaluation_of_labels_has_no_pictures() -> None:
    given = inputs(make_label_evaluation(8, (0.68, 1.0)), make_utility_evaluation()) | {
        "PICTURES_1": write_tensors({}, {})
    }
    assert b"data:image/png" not in told(given, attacks=["label_inference"])["REPORT_HTML"].data


@pytest.mark.parametrize(
    "wrong",
    [
        b"none",
        pictures(psnr=[1.0]),
        pictures(ranks=[1]),
        pictures(kinds=None),
        pictures(kinds={"<b>": {}}),
        pictures(kinds={"RECONSTRUCTION": []}),
        pictures(psnr=[1e9] * 8),
        pictures(ranks=[0] * 8),
        pictures(decoy_counts=[10**9] * 8),
        pictures(decoy_counts=[1]),
        pictures(attack={"method": "x", "params": {"\ud800": 1}}),
        write_tensors({"truth": torch.zeros(1, 1, 9, 9)}, {"psnr": [1.0], "baseline_psnr": [1.0]}),
        write_tensors(
            {f"RECONSTRUCTION.{name}": torch.zeros(1, 513, 1, 1) for name in NAMES}, ONE_CAPTION
        ),
        shapes(truth=torch.tensor(1.0)),
        shapes(truth=torch.zeros(1, 9, 9)),
        shapes(truth=torch.zeros(1, 1, 9, 8)),
        shapes(truth=torch.zeros(1, 1, 9, 9, dtype=torch.uint8)),
        shapes(truth=torch.zeros(1, 1, 9, 9, dtype=torch.complex64)),
        shapes(truth=torch.zeros(1, 1, 9, 9).to(torch.float8_e4m3fn)),
    ],
)
def test_pictures_that_are_wrong_are_refused_by_their_role(wrong: bytes) -> None:
    with pytest.raises(InvalidRequest, match="PICTURES_7"):
        told(inputs(make_image_evaluation(**LEAK)) | {"PICTURES_7": wrong})


def test_pictures_of_another_kind_are_left_out_with_the_reason() -> None:
    alone = write_tensors(
        {"ATTRIBUTES.guess": torch.zeros(2, 5)}, {"seed": 0, "kinds": {"ATTRIBUTES": {"x": [1]}}}
    )
    for one in (pictures(further={"ATTRIBUTES": {"x": [1]}}), pictures()):
        made = told(
            inputs(make_image_evaluation(**LEAK), make_utility_evaluation())
            | {"PICTURES_1": one, "PICTURES_2": alone}
        )
        assert len(shown(made["REPORT_HTML"].data.decode())) == (2 + 3) * 8
        caveats = json.loads(made["REPORT"].data)["caveats"]
        assert "Not shown here: pictures of ATTRIBUTES (unknown kind)." in caveats
    assert not any(
        "Not shown" in caveat
        for caveat in json.loads(told(inputs(make_utility_evaluation()))["REPORT"].data)["caveats"]
    )


def test_images_that_cannot_be_drawn_are_left_out_with_the_reason() -> None:
    made = told(inputs(make_image_evaluation(**LEAK)) | {"PICTURES_1": pictures(channels=2)})
    assert not shown(made["REPORT_HTML"].data.decode())
    assert any(
        "images of 2 channels" in caveat for caveat in json.loads(made["REPORT"].data)["caveats"]
    )


def test_pictures_of_an_attack_that_is_not_stated_are_drawn() -> None:
    made = told(
        inputs(make_image_evaluation(**LEAK) | {"attack": None})
        | {"PICTURES_1": pictures(attack=None)}
    )
    assert len(shown(made["REPORT_HTML"].data.decode())) == (2 + 3) * 8


def test_pictures_are_drawn_though_their_row_has_no_psnr() -> None:
    bare = make_image_evaluation(**LEAK)
    bare["metrics"] = {"ssim": bare["metrics"]["psnr"] | {"unit": "1"}}
    page = told(inputs(bare) | {"PICTURES_1": pictures()})["REPORT_HTML"].data.decode()
    # two of each below the verdict, three of each in the gallery
    assert len(shown(page)) == (2 + 3) * 8
    assert (
        "8 of 8 identified among 100 decoys"
        in page[page.index('id="pictures"') : page.index('id="table"')]
    )


def test_metrics_of_a_further_stage_that_are_wrong_cost_no_other_row() -> None:
    asked = params().model_dump() | {
        "measurements": [
            {"stage": "drift", "seed": seed, "metrics": f"METRICS_{seed}"} for seed in (1, 2, 3)
        ]
    }
    given = inputs(make_image_evaluation(**LEAK), make_utility_evaluation()) | {
        "METRICS_1": b'{"bytes": 3e9}',
        "METRICS_2": b'{"x": "<b>"}',
    }
    made = run(JobContext(params=ReportParams.model_validate(asked), inputs=given))
    report, page = json.loads(made["REPORT"].data), made["REPORT_HTML"].data.decode()
    assert [one["numbers"] for one in report["measurements"]] == [{"bytes": 3e9}, None, None]
    assert len(report["rows"]) == 1
    assert "bytes: 3,000,000,000" in page
    assert "cannot be read: METRICS_2.x: Input should be a valid number" in page
    assert "missing: the job failed or was cancelled" in page


def test_the_version_is_known_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none)
    report = json.loads(told(inputs(make_image_evaluation(**LEAK)))["REPORT"].data)
    assert report["provenance"]["palimpsest"] == VERSION


def test_its_summary_is_the_verdict() -> None:
    ctx = JobContext(params=params(), inputs=inputs(make_image_evaluation(**LEAK)))
    assert ctx.summary is None
    verdict = json.loads(run(ctx)["REPORT"].data)["verdict"]
    assert ctx.summary == {"level": verdict["level"], "headline": verdict["headline"]}


class Beats(NoHooks):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []

    def heartbeat(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        self.heard.append((done, total))


def test_progress_is_reported_by_gallery_and_only_what_is_shown_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []
    encode = _galleries._png
    monkeypatch.setattr(_galleries, "_png", lambda image: drawn.append(1) or encode(image))
    given = inputs(make_image_evaluation(**LEAK, seed=0), make_image_evaluation(**LEAK, seed=1))
    given |= {"PICTURES_1": pictures(seed=1), "PICTURES_2": pictures(seed=0)}
    hooks = Beats()
    run(JobContext(params=params(seeds=[0, 1]), inputs=given, hooks=hooks))
    assert len(drawn) == 3 * 8
    assert hooks.heard == [(1, 2), (2, 2)]


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else list(enumerate(value))[:2]
        if isinstance(value, list)
        else ()
    )
    return [so_far, *(path for key, one in inner for path in paths(one, (*so_far, key)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    """A copy with another value at that place."""
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


MEMBERS = make_membership_evaluation((0.5, 0.4, 0.6), 0.5)
MEMBERS["metrics"]["tpr_forgotten"] = MEMBERS["metrics"]["auc_forgotten"] | {
    "p": None,
    "baseline": 0.05,
}
WHOLE = [
    make_image_evaluation(**LEAK),
    make_label_evaluation(8, (0.68, 1.0)),
    make_utility_evaluation(),
    MEMBERS,
]
ATTACKS = ["feature_recovery", "label_inference", "membership_difference"]
HOSTILE = [
    None, float("nan"), float("inf"), 1e308, -1e308, 1e7, -1, 0, 1.5, 10**9, 10**30, "x", "\ud800", [], {}, [[]], [1],
    True, {"n": 1}, deep(40), deep(300),
]  # fmt: skip


@pytest.mark.parametrize(
    ("which", "path", "value"),
    [
        (0, ("metrics", "psnr", "mean"), float("nan")),
        (0, ("metrics", "psnr", "low"), -1e308),
        (0, ("metrics", "psnr", "gain", "high"), 1e308),
        (0, ("metrics", "psnr", "n"), 0),
        (0, ("identification", "n"), 10**9),
        (0, ("identification", "chance"), 1.5),
        (0, ("threat_model", "observes"), 5),
        (0, ("attack", "params"), {"\ud800": 1}),
        (0, ("attack", "params"), {"x": deep(300)}),
        (0, ("provenance", "torch"), float("nan")),
        (0, ("seed",), -1),
        (1, ("metrics", "label_accuracy", "n"), 0),
        (1, ("metrics", "label_accuracy", "n"), 10**9),
        (1, ("metrics", "label_accuracy", "baseline"), 13.0),
        (1, ("metrics", "label_accuracy", "unit"), "dB"),
        (1, ("answers", "labels"), [[3]]),
        (1, ("answers", "labels"), [[]] * 8),
        (2, ("utility", "test_accuracy"), 1.5),
    ],
)
def test_an_evaluation_with_wrong_numbers_is_refused_by_its_role(
    which: int, path: tuple[Any, ...], value: Any
) -> None:
    with pytest.raises(InvalidRequest, match="EVALUATION_1"):
        told(inputs(replaced(WHOLE[which], path, value)))


@pytest.mark.parametrize("name", ["auc_forgotten", "auc_retained", "tpr_forgotten", "tpr_retained"])
@pytest.mark.parametrize(
    "wrong", [{"unit": "dB", "baseline": 13.0}, {"unit": "share", "baseline": 13.0}]
)
def test_membership_metrics_must_be_shares(name: str, wrong: dict[str, Any]) -> None:
    right = make_membership_evaluation((0.5, 0.4, 0.6), 0.5)
    share = right["metrics"]["auc_forgotten"] | {"p": None, "baseline": 0.05, "interval": "wilson"}
    right["metrics"] |= {"tpr_forgotten": share, "tpr_retained": share}
    assert told(inputs(right), attacks=["membership_difference"])
    right["metrics"][name] = right["metrics"][name] | wrong
    with pytest.raises(InvalidRequest, match=rf"EVALUATION_1\.metrics\.{name}"):
        told(inputs(right), attacks=["membership_difference"])


@settings(max_examples=60, deadline=None)
@given(some.data())
def test_whatever_one_evaluation_holds_there_is_a_report_or_a_refusal(
    data: some.DataObject,
) -> None:
    which = data.draw(some.sampled_from(range(len(WHOLE))))
    path, by = (
        data.draw(some.sampled_from(paths(WHOLE[which]))),
        data.draw(some.sampled_from(HOSTILE)),
    )
    changed = [replaced(one, path, by) if i == which else one for i, one in enumerate(WHOLE)]
    try:
        ended = told(inputs(*changed), attacks=ATTACKS)["REPORT_HTML"].data.decode()
    except InvalidRequest as error:
        ended = error.message
    assert ended.endswith("</html>") or f"EVALUATION_{which + 1}" in ended


def test_an_audit_that_cannot_be_written_as_json_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="audit"):
        told({}, train={"size": float("nan")})
