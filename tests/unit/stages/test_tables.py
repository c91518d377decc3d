"""A table through every stage: rows are rebuilt without neighbours, metrics of pictures stay away,
bars are drawn."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from shared.catalog import Catalog, CatalogEntry
from shared.errors import InvalidRequest
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from shared.ml import REGISTRIES
from shared.ml.records import ForgetSets
from shared.ml.tensors import read_tensors
from shared.plugin_ref import PluginRef
from tests.golden.planned_jobs import identify
from tests.support.tiny_chain import Outputs, parse_output
from workers.context import JobContext
from workers.local import run_stage
from workers.stages import registry as stages
from workers.stages import report

AUDIT = {
    "dataset": "breast_cancer",
    "model": "mlp",
    "unlearning": ["gradient_ascent"],
    "forget": {"deletions": 5},
    "attacks": [
        {"name": "feature_recovery", "params": {"iterations": 400, "controls": 2}},
        "label_inference",
        "label_inference_black_box",
    ],
}


@pytest.fixture(scope="module")
def made() -> Outputs:
    outputs = run_stage(
        "pretrain", {}, dataset="breast_cancer", model={"name": "mlp", "params": {"hidden": 32}}
    )
    outputs |= run_stage("train", outputs, dataset="breast_cancer", size=16)
    outputs |= run_stage("unlearn", outputs, "gradient_ascent", deletions=5)
    return outputs


@pytest.fixture(scope="module")
def rebuilt(made: Outputs) -> Outputs:
    outputs = made | run_stage("attack", made, "feature_recovery", iterations=400, controls=2)
    return outputs | run_stage("evaluate", outputs, decoys=20)


def test_rows_are_reconstructed_and_identified_among_decoys(rebuilt: Outputs) -> None:
    evaluation = parse_output(rebuilt["EVALUATION"])
    # ssim and haarpsi compare neighbouring pixels
    assert sorted(evaluation["metrics"]) == ["mse", "psnr"]
    psnr = evaluation["metrics"]["psnr"]
    assert psnr["median"] > 40
    assert psnr["median"] > psnr["baseline"] + 10
    assert psnr["baselines"]["random_direction"] < 20
    assert evaluation["identification"]["rank_1"] == 5
    images = read_tensors(rebuilt["RECONSTRUCTION"].data, "RECONSTRUCTION")[0]["images"]
    assert images.shape == (5, 1, 30, 1, 1)


def test_labels_of_two_classes_stand_beside_the_commoner_one(made: Outputs) -> None:
    answers = made | run_stage("attack", made, "label_inference")
    part = parse_output(run_stage("evaluate", answers)["EVALUATION"])["metrics"]["label_accuracy"]
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS").labels
    assert part["mean"] == 1
    assert part["baselines"]["majority_guess"] == pytest.approx(
        sum(row == [1] for row in truth) / 5
    )
    assert part["baseline"] == max(part["baselines"].values())


def test_probes_of_a_table_are_as_wide_as_its_rows(made: Outputs) -> None:
    probes = run_stage("probe", made, per_class=3, max_queries=4000)
    tensors, about = read_tensors(probes["PROBES"].data, "PROBES")
    assert tensors["images"].shape == (2, 3, 30, 1, 1)
    assert tensors["confidence"].min() >= 0.5
    assert about["queries"] <= 4000
    answers = run_stage("attack", made | probes, "label_inference_black_box")
    assert len(parse_output(answers["ANSWERS"])["labels"]) == 5


def test_a_feature_network_for_rows_measures_feature_distance(
    made: Outputs, rebuilt: Outputs
) -> None:
    mlp = {"name": "mlp", "params": {"hidden": 32}}
    judge = {
        "FEATURE_NETWORK": run_stage("pretrain", {}, seed=1, dataset="breast_cancer", model=mlp)[
            "BASE"
        ]
    }
    told = parse_output(run_stage("evaluate", rebuilt | judge, feature_network=True)["EVALUATION"])
    assert told["metrics"]["feature_distance"]["gain"]["mean"] > 0


def test_the_report_draws_a_row_as_bars(rebuilt: Outputs) -> None:
    inputs = {f"{role}_1": rebuilt[role] for role in ("EVALUATION", "PICTURES")}
    given = {role: output.data for role, output in inputs.items()}
    page = report.run(JobContext(params=report.ReportParams(audit=AUDIT, rows=[]), inputs=given))[
        "REPORT_HTML"
    ].data.decode()
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(one)))
        for one in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    ]
    assert len(pictures) == 5 * 2 + 5 * 3  # beside the verdict, and with their baselines
    assert "one bar per feature" in page
    truth = read_tensors(rebuilt["PICTURES"].data, "PICTURES")[0]["RECONSTRUCTION.truth"]
    rows = truth.flatten(1)
    for picture, row in zip((*pictures[:10:2], *pictures[10::3]), (*rows, *rows), strict=True):
        assert picture.size == (120, 112)
        heights = [
            sum(picture.getpixel((4 * f + 1, y)) == 0 for y in range(112)) for f in range(30)
        ]
        assert heights == [round(112 * value) for value in row.tolist()]


def test_a_convolution_of_a_table_is_refused_by_the_worker_too() -> None:
    with pytest.raises(InvalidRequest, match="not a table") as caught:
        run_stage("pretrain", {}, dataset="breast_cancer", model="convnet")
    assert caught.value.field == "params.model"


@pytest.mark.parametrize(
    ("dataset", "model", "words"),
    [
        (
            "german_credit",
            "convnet",
            "convnet needs images of at least 9 x 9 pixels, not a table (german_credit)",
        ),
        (
            {"name": "csv", "params": {"path": "a.csv", "target": "b"}},
            "resnet20",
            "not a table (csv)",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused_when_planned(
    dataset: object, model: str, words: str
) -> None:
    catalog = Catalog(
        CatalogEntry.from_plugin(plugin)
        for registry in (*REGISTRIES, stages)
        for plugin in registry
    )
    spec = AuditSpec.model_validate({**AUDIT, "dataset": dataset, "model": model})
    with pytest.raises(InvalidRequest, match=re.escape(words)) as caught:
        plan(spec, catalog)
    assert caught.value.field == "model"
    assert caught.value.message.endswith("Models that fit: mlp")
    with pytest.raises(InvalidRequest, match=re.escape(words)) as caught:
        catalog.check("pretrain", None, {"dataset": dataset, "model": model}, [])
    assert caught.value.field == "params.model"
    assert plan(spec.model_copy(update={"model": PluginRef(name="mlp")}), catalog, identify)
