"""Label attacks on models that a user has brought: p-values from deletions of retained samples."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.artifacts import compute_sha256
from shared.errors import InvalidRequest
from shared.jobs.costs import describe_costs
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets, TrainingSet
from shared.ml.samples import Samples, open_dataset
from shared.plugin_ref import PluginRef
from tests.golden.planned_jobs import identify, real_catalog
from tests.support.brought_pairs import BroughtPair, draw_samples, make_weights
from tests.support.brought_pairs import write_samples as write_pair
from tests.support.local_plan import run_planned
from tests.support.tiny_chain import MODEL, parse_output
from tests.unit.stages.test_ingest import write_samples
from tests.unit.stages.test_ingest_retrained import export
from workers.local import run_stage

pytestmark = pytest.mark.slow

DELETIONS, SIZE = 4, 204  # so that the tested training set has 200 samples for shadow deletions
DATA = {"name": "npz", "params": {"path": "digits.npz"}}
RECIPE = {"epochs": 1, "lr": 0.05, "batch_size": 64}
ASCENT: dict[str, Any] = {"name": "gradient_ascent", "params": {"steps": 1}}


def write_digits(folder: Path) -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(600) % 4
    images = np.clip(draw.random((4, 9, 9))[labels] * 0.5 + 0.5 * draw.random((600, 9, 9)), 0, 1)
    np.savez(folder / "digits.npz", images=images, labels=labels)


class Laboratory:
    """One original, its releases by ascent and by retraining, and the laboratory's claims about
    the former."""

    def __init__(self) -> None:
        made = run_stage("pretrain", {}, dataset=DATA, model=MODEL, pool=250)
        made |= run_stage("train", made, dataset=DATA, size=SIZE, pool=250, **RECIPE)
        self.original = export(made["ORIGINAL"].data)[0]
        self.base = export(made["BASE"].data)[0]
        self.architecture = read_networks(made["ORIGINAL"].data, "ORIGINAL").architecture
        self.recipe = parse_output(made["RECIPE"])
        self.training = TrainingSet.read(made["TRAINING_SET"].data, "TRAINING_SET").indices
        retrained = run_stage("unlearn", made, "retrain", deletions=DELETIONS)
        made |= run_stage("unlearn", made, "gradient_ascent", deletions=DELETIONS, steps=1)
        assert made["FORGET_SETS"] == retrained["FORGET_SETS"]
        self.ascended, self.retrained = (export(one["UNLEARNED"].data) for one in (made, retrained))
        self.forgotten = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS").indices
        made |= run_stage("defend", made, "none")
        made["UNLEARNED"] = made["RELEASED"]
        made |= run_stage("attack", made, "label_inference")
        made |= run_stage("shadow", made)
        evaluation = parse_output(run_stage("evaluate", made)["EVALUATION"])
        self.claims = evaluation["answers"]["claims"]

    def write_samples(self, folder: Path) -> None:
        dataset = open_dataset(PluginRef.model_validate(DATA))
        train = dataset.load("train")
        forgotten = [index for row in self.forgotten for index in row]
        retained = [index for index in self.training if index not in forgotten]
        write_samples(folder / "deleted.npz", *train.pick(forgotten))
        write_samples(folder / "retained.npz", *train.pick(retained))
        write_samples(folder / "public.npz", *dataset.load("test"))


@cache
def run_laboratory() -> Laboratory:
    return Laboratory()


@pytest.fixture
def lab(data_root: Path) -> Laboratory:
    write_digits(data_root)
    laboratory = run_laboratory()
    laboratory.write_samples(data_root)
    return laboratory


def test_brought_models_give_the_laboratorys_p_values(lab: Laboratory) -> None:
    files = {"theirs": lab.ascended, "innocent": lab.retrained, "silent": lab.ascended}
    methods = {"theirs": ASCENT, "innocent": "retrain"}
    every = [lab.original, lab.base, *(data for models in files.values() for data in models)]
    samples = {f"{part}": f"{part}.npz" for part in ("deleted", "retained", "public")}
    spec = AuditSpec.model_validate({
        "dataset": {"name": "own_samples", "params": {**samples, "num_classes": 4}},
        "model": MODEL,
        "original": compute_sha256(lab.original),
        "base": compute_sha256(lab.base),
        "releases": [
            {
                "name": name,
                "weights": [compute_sha256(data) for data in models],
                **({"method": methods[name]} if name in methods else {}),
            }
            for name, models in files.items()
        ],
        "ingest": {
            "input_shape": list(lab.architecture.input_shape),
            "num_classes": 4,
            "mean": list(lab.architecture.mean),
            "std": list(lab.architecture.std),
            "recipe": lab.recipe,
            "training_set": SIZE,
        },
        "attacks": ["label_inference"],
        "p_values": True,
    })  # fmt: skip
    jobs = plan(spec, real_catalog(), identify)
    assert describe_costs(spec, jobs, real_catalog()) == [
        "shadow (p-values): at most 199 shadow deletions of retained samples (2 times)"
    ]
    outputs = run_planned(jobs, {"selftest"}, {compute_sha256(data): data for data in every})
    report = read_report(jobs, outputs)
    claims = {row["unlearning"]["method"]: row["answers"]["claims"] for row in report["rows"]}
    assert claims["theirs"] == lab.claims
    assert claims["theirs"]["correct"] == DELETIONS
    assert claims["silent"] is None
    assert claims["innocent"]["shadows"] == 199
    assert min(p for (p,) in claims["innocent"]["p_values"]) > 0.05
    (stated,) = [text for text in report["caveats"] if "made in another way" in text]
    assert "that theirs by gradient_ascent and innocent by retrain were made" in stated
    assert "no p-values for silent, as no method was stated for it" in stated
    assert "1/" not in stated


def read_report(jobs: list[PlannedJob], outputs: Any) -> dict[str, Any]:
    (report,) = [job for job in jobs if job.stage == "report"]
    read: dict[str, Any] = json.loads(outputs[report.request_key]["REPORT"].data)
    return read


def write_files(folder: Path, retained: int = 24, copies: int = 0) -> None:
    """Of the smallest pair: two deletions, by one step of ascent each."""
    write_pair(folder)
    samples = Samples(*draw_samples(retained, seed=3))
    deleted = make_weights()[2][0]
    samples.images[:copies] = deleted
    write_samples(folder / "retained.npz", *samples)


def describe(method: Any = ASCENT, **changes: Any) -> BroughtPair:
    weights = [compute_sha256(data) for data in make_weights()[1]]
    releases = [{"name": "ascent", "weights": weights, "method": method}]
    given: dict[str, Any] = {
        "releases": releases,
        "p_values": True,
        "ingest": {"recipe": {"lr": 0.05}},
        "attacks": ["label_inference"],
    }
    return BroughtPair("deleted", "public", "retained", **{**given, **changes})


def test_few_retained_samples_bound_the_p_values_and_the_report_says_so(data_root: Path) -> None:
    write_files(data_root, retained=27, copies=2)
    pair = describe().run()
    (row,) = pair.report["rows"]
    assert row["answers"]["claims"]["shadows"] == 24  # in sets of two, without the copies
    assert [p for (p,) in row["answers"]["claims"]["p_values"]] >= [1 / 25, 1 / 25]
    assert "24 shadow deletions, so no p-value can be below 1/25" in " ".join(
        pair.report["caveats"]
    )
    assert "no p-value can be below 1/25" in pair.page


def test_too_few_retained_samples_are_refused(data_root: Path) -> None:
    write_files(data_root, retained=19)
    with pytest.raises(InvalidRequest, match=r"19 retained samples are too few .* at least 20"):
        describe().run()


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"method": None}, "releases.0.method", "state it as method"),
        ({"method": "scrubb"}, "releases.0.method.name", "did you mean 'scrub'"),
        ({"method": {"name": "scrub", "params": {"lrr": 1}}}, "releases.0.method.params", "lrr"),
        ({"method": "sisa"}, "releases.0.method", "it needs SHARDS"),
        ({"method": "amnesiac"}, "releases.0.method", "it needs BATCH_DELTAS"),
        ({"method": "retrain"}, "releases.0.method", "bring the weights that training started"),
        ({"ingest": {}}, "ingest.recipe", "bring it as ingest.recipe"),
        ({"ingest": {"recipe": {}, "with_deleted": False}}, "dataset", "bring both"),
        ({"dataset": None}, "dataset", "bring both"),
        ({"dataset": "own_sample"}, "dataset.name", "did you mean 'own_samples'"),
        ({"shadow": {"shadows": 7}}, "shadow.shadows", "minimum of 199"),
        ({"shadow": {"shadow": 200}}, "shadow.shadow", "shadow"),
    ],
)
def test_what_p_values_lack_is_refused_by_field(
    changes: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        describe(**changes)
    assert refused.value.field.startswith(field)


def test_retained_samples_are_needed_in_the_way_that_the_data_set_has_them() -> None:
    own = {"name": "own_samples", "params": {"num_classes": 4, "deleted": "deleted.npz"}}
    with pytest.raises(InvalidRequest, match="bring some as retained") as refused:
        describe(dataset=own)
    assert refused.value.field == "dataset.params.retained"
    named = {"rows": [0, 1], "recipe": {}}
    with pytest.raises(InvalidRequest, match="set trained_on_all") as refused:
        describe(dataset=DATA, ingest=named)
    assert refused.value.field == "ingest.trained_on_all"
    pair = describe(dataset=DATA, ingest={**named, "trained_on_all": True})
    assert "shadow" in {job.stage for job in pair.jobs}


def test_a_method_alone_changes_nothing_and_is_checked() -> None:
    quiet = describe(p_values=False, ingest={})
    assert "shadow" not in {job.stage for job in quiet.jobs}
    with pytest.raises(InvalidRequest, match="did you mean"):
        describe("scrubb", p_values=False)


def test_a_method_that_stops_at_the_held_out_loss_needs_public_samples(data_root: Path) -> None:
    write_files(data_root)
    own = {"num_classes": 4, "deleted": "deleted.npz", "retained": "retained.npz"}
    with pytest.raises(InvalidRequest, match="bring public samples of every class"):
        describe("gradient_ascent", dataset={"name": "own_samples", "params": own}).run()


def test_retraining_needs_all_samples(data_root: Path) -> None:
    write_files(data_root)
    part = {"recipe": {"lr": 0.05}, "training_set": 27}  # 2 were deleted, and 24 are brought
    with pytest.raises(InvalidRequest, match="only 26 of 27 were brought"):
        describe("retrain", base=compute_sha256(make_weights()[0]), ingest=part).run()


def test_by_hand_a_release_without_a_stated_method_is_refused(data_root: Path) -> None:
    """Its name may be that of a method."""
    write_files(data_root)
    weights = [compute_sha256(data) for data in make_weights()[1]]
    named = [{"name": "gradient_ascent", "weights": weights}]
    pair = describe(releases=named, p_values=False).run()
    made = {
        role: output
        for job in pair.jobs
        if job.stage in ("ingest", "attack")
        for role, output in pair.outputs[job.request_key].items()
    }
    with pytest.raises(InvalidRequest, match="states no method") as refused:
        run_stage("shadow", made)
    assert refused.value.field == "inputs.UNLEARNING"
