"""Models that a user has trained without the deleted samples: was it forgotten, as in the laboratory?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load, save

from shared.artifacts import compute_sha256
from shared.errors import InvalidRequest
from shared.jobs.costs import describe_costs
from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets, TrainingSet
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef
from tests.golden.planned_jobs import identify, real_catalog
from tests.support.local_plan import PlanOutputs, run_planned
from tests.support.tiny_chain import DATA, MODEL
from tests.unit.stages.test_ingest import change, find_output, write_samples

pytestmark = pytest.mark.slow

DELETIONS, SEEDS = 6, 3
LABORATORY: dict[str, Any] = {
    "dataset": DATA,
    "model": MODEL,
    "pretrain": {"epochs": 1},
    "train": {"size": 20, "lr": 0.3, "batch_size": 4, "epochs": 10},
    "forget": {"deletions": DELETIONS},
    # one step so small that nothing is unlearned
    "unlearning": ["retrain", {"name": "gradient_ascent", "params": {"lr": 1e-5}}],
    "attacks": ["label_inference"],
}
SKIPPED = {"selftest", "report", "attack", "evaluate"}


class Laboratory:
    """The laboratory's models and figures, and its models as files of somebody else."""

    def __init__(self) -> None:
        self.jobs = plan(AuditSpec.model_validate(LABORATORY), real_catalog(), identify)
        self.outputs = run_planned(self.jobs, SKIPPED)
        self.measured = measure(self.jobs, self.outputs)
        self.original = export(find_output(self.jobs, self.outputs, "train", "ORIGINAL"))[0]
        self.released = {
            job.method: export(self.outputs[job.request_key]["UNLEARNED"].data)
            for job in self.jobs
            if job.stage == "unlearn"
        }
        models = export(find_output(self.jobs, self.outputs, "retraining", "RETRAINED"))
        self.retrained = [models[n : n + SEEDS] for n in range(0, len(models), SEEDS)]
        original = find_output(self.jobs, self.outputs, "train", "ORIGINAL")
        self.architecture = read_networks(original, "ORIGINAL").architecture
        truth = find_output(self.jobs, self.outputs, "unlearn", "FORGET_SETS")
        self.truth = ForgetSets.read(truth, "FORGET_SETS")
        self.training = TrainingSet.read(
            find_output(self.jobs, self.outputs, "train", "TRAINING_SET"), "TRAINING_SET"
        )

    def write_samples(self, folder: Path) -> None:
        """The deleted samples, the retained ones, and public ones."""
        dataset = open_dataset(PluginRef.model_validate(DATA))
        train = dataset.load("train")
        forgotten = [index for row in self.truth.indices for index in row]
        retained = [index for index in self.training.indices if index not in forgotten]
        write_samples(folder / "deleted.npz", *train.pick(forgotten))
        write_samples(folder / "retained.npz", *train.pick(retained))
        write_samples(folder / "public.npz", *dataset.load("test"))


def export(data: bytes) -> list[bytes]:
    """Each model as a file without our metadata and our prefix."""
    networks = read_networks(data, "models")
    return [
        save({name.removeprefix("network."): t[n].clone() for name, t in networks.state.items()})
        for n in range(networks.count)
    ]


def measure(jobs: list[PlannedJob], outputs: PlanOutputs) -> dict[str, dict[str, Any]]:
    """What was measured of each release."""
    records = [
        json.loads(outputs[job.request_key]["FORGETTING"].data)
        for job in jobs
        if job.stage == "forgetting"
    ]
    return {record["unlearning"]["method"]: record["measured"] for record in records}


@cache
def run_laboratory() -> Laboratory:
    """The same for all tests: their data are the same."""
    return Laboratory()


@pytest.fixture
def lab(data_root: Path) -> Laboratory:
    laboratory = run_laboratory()
    laboratory.write_samples(data_root)
    return laboratory


class Brought:
    """An audit of brought models, planned here and now."""

    def __init__(
        self,
        lab: Laboratory,
        releases: dict[str, Sequence[bytes]],
        retrained: Sequence[Sequence[bytes]],
        **changes: Any,
    ) -> None:
        every = [
            lab.original,
            *(data for files in releases.values() for data in files),
            *(data for seeds in retrained for data in seeds),
        ]
        self.uploads = {compute_sha256(data): data for data in every}
        files = {"deleted": "deleted.npz", "public": "public.npz"}
        if not changes.pop("with_public", True):
            del files["public"]
        if changes.pop("with_retained", False):
            files["retained"] = "retained.npz"
        spec = {
            "dataset": {"name": "own_samples", "params": {**files, "num_classes": 4}},
            "model": MODEL,
            "original": compute_sha256(lab.original),
            "releases": [
                {"name": name, "weights": [compute_sha256(data) for data in files]}
                for name, files in releases.items()
            ],
            "retrained": [[compute_sha256(data) for data in seeds] for seeds in retrained],
            "ingest": {
                "input_shape": list(lab.architecture.input_shape),
                "num_classes": 4,
                "mean": list(lab.architecture.mean),
                "std": list(lab.architecture.std),
                **changes.pop("ingest", {}),
            },
            "attacks": ["label_inference"],
            **changes,
        }
        self.spec = AuditSpec.model_validate(spec)
        self.jobs = plan(self.spec, real_catalog(), identify)

    def run(self, *skipped: str) -> Brought:
        self.outputs = run_planned(self.jobs, {"selftest", *skipped}, self.uploads)
        return self

    def measure(self) -> dict[str, dict[str, Any]]:
        return measure(self.jobs, self.run(*SKIPPED).outputs)

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(
            find_output(self.jobs, self.outputs, "report", "REPORT")
        )
        return report


def test_brought_models_give_the_laboratorys_figures(lab: Laboratory) -> None:
    releases = {"theirs": lab.released["retrain"], "lazy": lab.released["gradient_ascent"]}
    measured = Brought(lab, releases, lab.retrained).measure()
    assert measured.keys() == {"theirs", "lazy", "retrained"}
    for name, method in (("theirs", "retrain"), ("lazy", "gradient_ascent")):
        expected, found = lab.measured[method], measured[name]
        for field in ("way", "way_low", "way_high", "spread", "by_deletion"):
            assert found[field] == expected[field]
        for test in ("three_sample", "linear_probe"):
            assert found["tests"][test] == expected["tests"][test]
        assert found["tests"]["klom"]["forget"] == expected["tests"]["klom"]["forget"]
        # what was not brought is named
        assert "recipe" in found["not_run"]["relearning_forgotten"]
    assert measured["lazy"]["tests"]["three_sample"]["not_forgotten"] is True
    assert measured["theirs"]["tests"]["three_sample"]["not_forgotten"] is False
    assert measured["retrained"]["tests"]["three_sample"]["not_forgotten"] is False


def test_retained_samples_and_the_recipe_make_the_other_tests_possible(lab: Laboratory) -> None:
    recipe = json.loads(find_output(lab.jobs, lab.outputs, "train", "RECIPE"))
    given = {"recipe": recipe, "training_set": 20}
    tests = ["klom", "relearning", "relearning_forgotten"]
    (theirs, _) = (
        Brought(
            lab,
            {"theirs": lab.released["retrain"]},
            lab.retrained,
            with_retained=True,
            ingest=given,
            forgetting={"tests": tests, "relearning_epochs": 1},
        )
        .measure()
        .values()
    )
    expected = lab.measured["retrain"]
    for samples in ("forget", "retain", "test"):
        assert theirs["original"][samples] == pytest.approx(expected["original"][samples])
        of_test = [one["tests"]["klom"][samples]["mean"] for one in (theirs, expected)]
        assert of_test[0] == pytest.approx(of_test[1])
    assert theirs["not_run"] == {}
    assert theirs["tests"]["relearning"] is not None
    assert "forget sets of one sample" in theirs["tests"]["relearning_forgotten"]["reason"]


def test_membership_attacks_tell_the_deleted_samples_from_public_ones(lab: Laboratory) -> None:
    brought = Brought(
        lab,
        {"lazy": lab.released["gradient_ascent"]},
        [],
        with_retained=True,
        attacks=["membership_difference", "membership_population"],
        candidates={"retained": 5},
    ).run()
    members = json.loads(find_output(brought.jobs, brought.outputs, "candidates", "MEMBERSHIP"))
    public = open_dataset(PluginRef.model_validate(DATA)).load("test")
    assert sum(members["trained"]) == DELETIONS + 5
    assert len(members["trained"]) - sum(members["trained"]) == len(public.labels) // 2
    train = 20  # samples of the train split, counted on from there
    for index, label, is_trained in zip(
        members["indices"], members["labels"], members["trained"], strict=True
    ):
        assert is_trained == (index < train)
        if not is_trained:
            assert label == int(public.labels[index - train])
    candidates = find_output(brought.jobs, brought.outputs, "candidates", "CANDIDATES")
    population = find_output(brought.jobs, brought.outputs, "candidates", "POPULATION")
    shown = {image.numpy().tobytes() for image in load(candidates)["images"]}
    assert not shown & {image.numpy().tobytes() for image in load(population)["images"]}
    for row in brought.report["rows"]:
        assert {"auc_forgotten", "auc_retained"} <= row["metrics"].keys()
    assert any("non-members are public samples" in one for one in brought.report["caveats"])


def name_data(lab: Laboratory, **params: Any) -> dict[str, Any]:
    return {"dataset": {"name": "npz", "params": {"path": "tiny.npz"}}, "ingest": params}


def test_deleted_samples_may_be_rows_of_the_users_own_file(lab: Laboratory) -> None:
    """Also rows that would be drawn as public samples."""
    data = open_dataset(PluginRef.model_validate(DATA))
    rows = [int(row) for row in range(200) if row not in data.origins.tolist()][:3]
    rows += [int(data.origins[row[0]]) for row in lab.truth.indices[3:]]
    given = name_data(lab, rows=rows, trained_on_all=True)
    brought = Brought(lab, {"a": lab.released["retrain"]}, lab.retrained, **given).run(*SKIPPED)
    truth = ForgetSets.read(
        find_output(brought.jobs, brought.outputs, "ingest", "FORGET_SETS"), "FORGET_SETS"
    )
    chosen = open_dataset(truth.dataset)
    assert chosen.origins[torch.tensor(truth.indices)[:, 0]].tolist() == rows
    images = torch.from_numpy(np.load(data_file())["images"])[rows].float()
    assert torch.equal(truth.load_images()[:, 0, 0], images)
    training = find_output(brought.jobs, brought.outputs, "ingest", "TRAINING_SET")
    assert len(json.loads(training)["indices"]) == len(chosen.load("train").labels)


def data_file() -> Path:
    return Path(os.environ["PALIMPSEST_DATA_ROOT"]) / "tiny.npz"


def test_deleted_samples_may_be_files_of_an_image_folder(lab: Laboratory, data_root: Path) -> None:
    draw = np.random.default_rng(0)
    for label in "abcd":
        (data_root / "photos" / label).mkdir(parents=True)
        for n in range(5):
            pixels = draw.integers(0, 256, (9, 9), dtype=np.uint8)
            Image.fromarray(pixels).save(data_root / "photos" / label / f"{n}.png")
    files = [f"{label}/{n}.png" for label in "ab" for n in range(3)]
    data = {"name": "image_folder", "params": {"path": "photos", "size": 9, "grey": True}}
    given: dict[str, Any] = {"dataset": data}
    release = {"a": lab.released["retrain"]}
    brought = Brought(lab, release, [], ingest={"files": files}, **given).run(*SKIPPED)
    truth = json.loads(find_output(brought.jobs, brought.outputs, "ingest", "FORGET_SETS"))
    assert truth["labels"] == [[0]] * 3 + [[1]] * 3
    for name, says in (
        ("a/9.png", "no picture 'a/9.png'"),
        ("../photos/a/1.png", "no '..'"),
        ("/etc/hostname", "no absolute path"),
    ):
        spoiled = [*files[:5], name]
        with pytest.raises(InvalidRequest, match=says) as refused:
            Brought(lab, release, [], ingest={"files": spoiled}, **given).run(*SKIPPED)
        assert "/etc" not in refused.value.message
        assert str(data_root) not in refused.value.message


@pytest.mark.parametrize(
    ("ingest", "says"),
    [
        ({"rows": [1, 2, 3, 4, 5, 10_000]}, "no row 10000"),
        ({"rows": [1, 2, 3]}, "6 deletions"),
        ({"rows": [[1, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]}, "a sample twice"),
        ({"rows": ["x"]}, "integers"),
        ({"rows": [1], "files": ["a"]}, "both specify"),
        ({"rows": [*range(6)], "trained_on_all": True, "training_set": 9}, "training_set is 9"),
        ({"files": ["a/1.png"]}, "samples of npz cannot be named"),
    ],
)
def test_samples_that_are_not_there_are_refused(
    lab: Laboratory, ingest: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        Brought(lab, {"a": lab.released["retrain"]}, [], **name_data(lab, **ingest)).run(*SKIPPED)


def test_the_report_says_what_was_forgotten_and_what_an_exact_deletion_leaks(
    lab: Laboratory,
) -> None:
    brought = Brought(lab, {"lazy": lab.released["gradient_ascent"]}, lab.retrained).run()
    rows = {row["unlearning"]["method"]: row for row in brought.report["rows"]}
    assert rows.keys() == {"lazy", "retrained"}
    assert rows["retrained"]["unlearning"]["exact"] is True
    page = find_output(brought.jobs, brought.outputs, "report", "REPORT_HTML").decode()
    table = page[page.index('id="forgotten"') :]
    assert "Nothing unlearned" in table
    assert "Exact" in table
    assert "needs the training recipe, which was not brought" in table
    caveats = " ".join(brought.report["caveats"])
    assert "taken for what they are said to be" in caveats
    assert "as that needs models retrained" not in caveats


def test_a_single_seed_is_not_measurable_and_says_so(lab: Laboratory) -> None:
    few = [seeds[:1] for seeds in lab.retrained]
    (lazy, _) = Brought(lab, {"lazy": lab.released["gradient_ascent"]}, few).measure().values()
    assert lazy["way"] is None
    assert "at least 3 retrained models per deletion" in lazy["reason"]
    assert {"three_sample", "klom"} <= lazy["not_run"].keys()
    assert lazy["tests"]["linear_probe"] is not None


def test_without_public_samples_a_test_that_needs_them_says_so(lab: Laboratory) -> None:
    brought = Brought(
        lab, {"theirs": lab.released["retrain"]}, lab.retrained, with_public=False
    ).run()
    theirs = measure(brought.jobs, brought.outputs)["theirs"]
    assert theirs["way"] == pytest.approx(lab.measured["retrain"]["way"], abs=1e-4)
    assert theirs["original"]["test"] is None
    assert theirs["tests"]["klom"]["test"] is None
    assert "public test samples" in theirs["not_run"]["linear_probe"]
    page = find_output(brought.jobs, brought.outputs, "report", "REPORT_HTML").decode()
    assert "needs public test samples, which were not brought" in page


def test_a_release_of_retrained_models_is_not_added_again(lab: Laboratory) -> None:
    own = [seeds[1] for seeds in lab.retrained]
    first = [seeds[0] for seeds in lab.retrained]
    spec = Brought(lab, {"own": own, "mine": first}, lab.retrained).spec
    assert [one.name for one in spec.releases] == ["own", "mine"]
    assert spec.is_exact(0)
    assert spec.is_exact(1)
    again = AuditSpec.model_validate(spec.model_dump(mode="json"))
    assert again == spec
    taken = Brought(lab, {"retrained": lab.released["retrain"]}, lab.retrained).spec
    assert [one.name for one in taken.releases] == ["retrained", "retrained-2"]
    assert [taken.is_exact(n) for n in range(2)] == [False, True]


def test_all_releases_share_the_retrained_models(lab: Laboratory) -> None:
    brought = Brought(lab, {n: lab.released[n] for n in lab.released}, lab.retrained)
    assert sum(job.stage == "ingest_retrained" for job in brought.jobs) == 1
    assert sum(job.stage == "forgetting" for job in brought.jobs) == 3
    assert describe_costs(brought.spec, brought.jobs, real_catalog()) == []
    untested = Brought(lab, {"a": lab.released["retrain"]}, lab.retrained, check_forgetting=False)
    assert not {job.stage for job in untested.jobs} & {"ingest_retrained", "forgetting"}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lab, data: data[:-9], "safetensors"),
        (lambda lab, data: change(data, by=lambda t: t * torch.nan), "not finite"),
        (lambda lab, data: change(data, by=lambda t: t[:3]), "another shape"),
        (lambda lab, data: change(data, by=lambda t: t * 3e36), "not finite"),
        (lambda lab, data: change(lab.original, by=lambda t: t.double()), "equals the original"),
        (
            lambda lab, data: change(lab.retrained[0][1], by=lambda t: t.double()),
            "equals retrained model 2 of deletion 1",
        ),
    ],
    ids=["truncated", "NaN", "another class count", "overflow", "the original", "another seed"],
)
def test_what_is_no_retrained_model_is_refused(lab: Laboratory, spoil: Any, says: str) -> None:
    retrained = [list(seeds) for seeds in lab.retrained]
    retrained[2][1] = spoil(lab, retrained[2][1])
    with pytest.raises(InvalidRequest, match=says) as refused:
        Brought(lab, {"a": lab.released["retrain"]}, retrained).run(*SKIPPED)
    assert refused.value.field == "inputs.RETRAINED_WEIGHTS_8"


def find_codes(brought: Brought, release: str) -> dict[str, str]:
    """The findings about one release."""
    for outputs in brought.outputs.values():
        if "COMPARISON" in outputs:
            record = json.loads(outputs["COMPARISON"].data)
            if record["release"] == release:
                return {one["code"]: one["severity"] for one in record["findings"]}
    raise AssertionError(release)


def draw_again(lab: Laboratory, scale: float) -> bytes:
    """The original with its hidden units in another order and, times the scale, its weights."""
    weights = load(lab.original)
    hidden, *last = [name for name, tensor in weights.items() if tensor.dim() == 2]
    if weights[hidden].shape[0] != 16:
        hidden, last = last[0], [hidden]
    order = torch.arange(16).flip(0)
    weights[hidden] = scale * weights[hidden][order]
    bias = hidden.replace("weight", "bias")
    weights[bias] = scale * weights[bias][order]
    weights[last[0]] = weights[last[0]][:, order].contiguous()
    return save(weights)


def test_a_release_from_other_initial_weights_is_a_warning(lab: Laboratory) -> None:
    """Its units are in another order, so no weight fits, and it behaves as the original does."""
    far = [draw_again(lab, 1 + n / 100) for n in range(DELETIONS)]
    brought = Brought(lab, {"far": far}, lab.retrained).run(*SKIPPED, "forgetting")
    assert find_codes(brought, "far")["unrelated"] == "warning"
    anew = [[one, *seeds[1:]] for one, seeds in zip(far, lab.retrained, strict=True)]
    brought = Brought(lab, {"theirs": lab.released["retrain"]}, anew).run(*SKIPPED, "forgetting")
    assert "unrelated" not in find_codes(brought, "retrained")
    assert find_codes(brought, "retrained")["trained_anew"] == "note"


def test_an_unrelated_release_that_guesses_is_refused(lab: Laboratory) -> None:
    torch.manual_seed(5)
    noise = {name: torch.randn_like(t) * t.std() for name, t in load(lab.original).items()}
    noise = {name: t if t.dim() == 2 else t * 0 + 9 * (t == t[0]) for name, t in noise.items()}
    with pytest.raises(InvalidRequest, match="guessing reaches") as refused:
        Brought(lab, {"a": [save(noise)] * DELETIONS}, lab.retrained).run(*SKIPPED)
    assert refused.value.field == "inputs.RELEASED_WEIGHTS_1"


NAMES = [f"{n:064x}" for n in range(12)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"retrained": [NAMES[4:7]]}, "of 2 deletions"),
        ({"retrained": [NAMES[4:6], NAMES[6:8], NAMES[8:10]]}, "of 2 deletions"),
        ({"retrained": [NAMES[4:6], NAMES[6:7]]}, "as many seeds"),
        ({"retrained": [NAMES[4:6], NAMES[5:7]]}, "one file is two"),
        ({"retrained": [NAMES[0:2], NAMES[6:8]]}, "is the original"),
        ({"retrained": [NAMES[4:5], []]}, "at least 1"),
        ({"retrained": [[f"{n:064x}"] for n in range(10_000)]}, "at most 100"),
        ({"retrained": [NAMES[:1] * 10_000, NAMES[:1]]}, "at most 16"),
        ({"retrained": "x"}, "list"),
        ({"retrained": [["x"], ["y"]]}, "pattern"),
        ({"retrained": {"a": 1}}, "list"),
        ({"check_forgetting": True}, "bring some as retrained"),
        ({"forgetting": {"samples": 20}}, "bring some as retrained"),
        ({"original": None, "releases": None, "retrained": [NAMES[:1]]}, "belong to models"),
    ],
)
def test_retrained_models_are_of_the_releases_deletions(changes: Any, says: str) -> None:
    spec = {
        "dataset": DATA,
        "model": MODEL,
        "original": NAMES[0],
        "releases": [{"name": "a", "weights": NAMES[1:3]}],
        "unlearning": ["retrain"],
        "attacks": ["label_inference"],
    } | changes
    if spec["original"]:
        del spec["unlearning"]
    with pytest.raises(ValidationError, match=says):
        AuditSpec.model_validate({name: value for name, value in spec.items() if value is not None})
