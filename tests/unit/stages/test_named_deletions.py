"""Customer 4711 is forgotten: found by name, never pretrained on or public, in every training set,
told to nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data_files import DataRoot
from shared.errors import InvalidRequest
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from shared.ml.records import ForgetSets, PublicSets, TrainingSet
from shared.ml.samples import HasRecords, open_dataset
from shared.ml.splits import split_pretraining_and_pool
from shared.plugin_ref import PluginRef
from tests.golden.planned_jobs import real_catalog
from tests.support.local_plan import run_planned
from tests.support.tiny_chain import MODEL, Outputs, parse_output
from workers.local import run_stage

pytestmark = pytest.mark.slow

N, SIZE = 400, 12
NAMED: dict[str, tuple[str, list[Any]]] = {
    "npz": ("rows", [399, 0, 123]),
    "csv": ("ids", ["k399", "k0", "k123"]),
    "image_folder": ("files", ["1/0199.png", "0/0000.png", "0/0123.png"]),
}
NUMBERS = [399, 0, 123]


@pytest.fixture(autouse=True)
def data(data_root: Path) -> Path:
    """The same N samples as arrays, as a table and as pictures: shade number // 2 and class number
    // 200."""
    shades = np.arange(N) // 2 % 200
    marks = np.arange(N) % 2 * 40
    images = np.zeros((N, 9, 9), np.uint8)
    images[:, :4] = shades[:, None, None] + 20
    images[:, 4:] = marks[:, None, None]
    labels = np.arange(N) // 200
    np.savez(data_root / "own.npz", images=images, labels=labels)
    rows = [f"k{i},{shades[i]},{marks[i]},{labels[i]}" for i in range(N)]
    (data_root / "own.csv").write_text("\n".join(["who,a,b,t", *rows]))
    for number, image in enumerate(images):
        folder = data_root / "own" / str(labels[number])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number % 200:04}.png")
    return data_root


def choice(name: str, told: bool = True) -> dict[str, Any]:
    params: dict[str, Any] = {
        "npz": {"path": "own.npz"},
        "csv": {"path": "own.csv", "target": "t", "id": "who"},
        "image_folder": {"path": "own", "size": 9, "grey": True},
    }[name]
    kind, names = NAMED[name]
    return {"name": name, "params": {**params, **({f"deletable_{kind}": names} if told else {})}}


def opened(name: str, told: bool = True) -> Any:
    return open_dataset(PluginRef.model_validate(choice(name, told)))


def whole(dataset: Any) -> torch.Tensor:
    """All samples in the order of the file, as bytes would tell them; rows that are public are
    missing."""
    return torch.cat([dataset.load("train").images, dataset.load("test").images])


@pytest.mark.parametrize("name", NAMED)
def test_named_records_are_in_the_pool_and_all_others_stay_what_they_are(name: str) -> None:
    plain, told = opened(name, told=False), opened(name)
    assert isinstance(told, HasRecords)
    split = told.load("train")
    pool = split_pretraining_and_pool(split.labels)[1].tolist()
    assert {*told.deletable} <= {*pool}
    assert told.origins[told.deletable].tolist() == NUMBERS
    kind, names = NAMED[name]
    assert told.find(kind, names, "x") == told.deletable
    # each sample is the one that its origin says, in both
    by_record = {}
    for dataset in (plain, told):
        for record, image in zip(
            dataset.origins.tolist(), dataset.load("train").images, strict=True
        ):
            assert torch.equal(by_record.setdefault(record, image), image)
    assert {*by_record} >= {*NUMBERS}
    # none is lost, none doubled, and no named one is public
    both = [sorted(map(tuple, whole(dataset).flatten(1).tolist())) for dataset in (plain, told)]
    assert both[0] == both[1]
    assert len(told.origins.unique()) == len(told.origins)
    public = {tuple(row) for row in told.load("test").images.flatten(1).tolist()}
    assert not public & {tuple(split.images[place].flatten().tolist()) for place in told.deletable}


def made(name: str, seed: int = 0, names: list[Any] | None = None) -> Outputs:
    kind, all_names = NAMED[name]
    outputs = run_stage("pretrain", {}, dataset=choice(name), model=MODEL, epochs=1)
    outputs |= run_stage("train", outputs, seed=seed, dataset=choice(name), size=SIZE, epochs=1)
    return outputs | run_stage(
        "unlearn", outputs, "gradient_ascent", seed=seed, **{kind: names or all_names}
    )


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_named_are_forgotten_whatever_the_seed(name: str, seed: int) -> None:
    outputs, dataset = made(name, seed), opened(name)
    truth = ForgetSets.read(outputs["FORGET_SETS"].data, "FORGET_SETS")
    assert [[int(dataset.origins[i]) for i in row] for row in truth.indices] == [
        [n] for n in NUMBERS
    ]
    assert truth.labels == [[1], [0], [0]]
    images = truth.load_images()[:, 0]
    plain = {
        int(r): image
        for r, image in zip(dataset.origins, dataset.load("train").images, strict=True)
    }
    assert all(
        torch.equal(image, plain[number]) for image, number in zip(images, NUMBERS, strict=True)
    )
    training = TrainingSet.read(outputs["TRAINING_SET"].data, "TRAINING_SET")
    assert len(training.indices) == SIZE
    # where in the training set they stand tells nothing: with another seed elsewhere
    assert [training.indices.index(row[0]) for row in truth.indices] != [0, 1, 2]


def test_several_may_be_forgotten_together() -> None:
    outputs = made("csv", names=[["k399", "k0"]])
    truth = ForgetSets.read(outputs["FORGET_SETS"].data, "FORGET_SETS")
    assert truth.labels == [[1, 0]]
    assert parse_output(outputs["DELETION_SIZES"])["k"] == 2


@pytest.mark.parametrize("name", NAMED)
def test_public_names_no_record_and_holds_none_of_them(name: str) -> None:
    outputs = made(name)
    record = parse_output(outputs["PUBLIC"])
    assert "deletable" not in str(record)
    public = PublicSets.read(outputs["PUBLIC"].data, "PUBLIC")
    plain, told = opened(name, told=False), opened(name)
    records = {int(plain.origins[index]) for one in public.sets for index in one}
    training = TrainingSet.read(outputs["TRAINING_SET"].data, "TRAINING_SET")
    trained = {int(told.origins[index]) for index in training.indices}
    pool = {int(told.origins[place]) for place in split_pretraining_and_pool(told.origins)[1]}
    assert records <= pool - trained
    assert public.load_samples()


def test_who_is_not_in_the_training_set_or_not_there_is_said() -> None:
    outputs = run_stage("pretrain", {}, dataset=choice("csv", told=False), model=MODEL, epochs=1)
    outputs |= run_stage("train", outputs, dataset=choice("csv", told=False), size=SIZE, epochs=1)
    plain = opened("csv", told=False)
    public = next(i for i in range(N) if i not in {*plain.origins.tolist()})
    training = TrainingSet.read(outputs["TRAINING_SET"].data, "TRAINING_SET")
    trained = {int(plain.origins[index]) for index in training.indices}
    other = next(int(i) for i in plain.origins if int(i) not in trained)
    for params, words in (
        (
            {"ids": [f"k{other}"]},
            "is not in this training set: list it in the data set's parameter deletable_ids",
        ),
        ({"ids": [f"k{public}"]}, "is in the test split, which is public"),
        ({"ids": ["nobody"]}, "no row has 'nobody' in the column 'who'"),
        ({"rows": [400]}, "there is no row 400: the data set has 400 rows, counted from 0"),
        ({"files": ["a"]}, "cannot be named by files"),
        ({"rows": [1], "ids": ["k1"]}, "both specify what to forget"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            run_stage("unlearn", outputs, "gradient_ascent", **params)
    mine = min(trained)
    # who is in it by chance may be named
    assert run_stage("unlearn", outputs, "gradient_ascent", ids=[f"k{mine}"])


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("npz", {"deletable_rows": [400]}, "there is no row 400: the data set has 400"),
        ("csv", {"deletable_ids": ["who"]}, "no row has 'who' in the column 'who'"),
        (
            "csv",
            {"deletable_ids": ["k1"], "id": None, "drop": ["who"]},
            "set the data set's parameter id to the column",
        ),
        (
            "image_folder",
            {"deletable_files": ["0/0200.png"]},
            "'own' has no picture '0/0200.png': write CLASS/PICTURE",
        ),
        ("image_folder", {"deletable_files": ["0/0001.PNG"]}, "'0/0001.png' is nearly the same"),
    ],
)
def test_what_is_not_there_cannot_be_named(name: str, params: dict[str, Any], words: str) -> None:
    given = choice(name, told=False)
    dataset = open_dataset(PluginRef(name=name, params={**given["params"], **params}))
    with pytest.raises(InvalidRequest, match=words):
        dataset.load("train")


def test_more_than_the_pool_holds_cannot_be_named() -> None:
    given = choice("npz", told=False)
    many = {"name": "npz", "params": {**given["params"], "deletable_rows": list(range(300))}}
    with pytest.raises(InvalidRequest, match=r"name 300 samples, but the pool has only 4\d of"):
        run_stage("pretrain", {}, dataset=many, model=MODEL, epochs=1)


def test_ids_must_differ(data: Path) -> None:
    lines = (data / "own.csv").read_text().splitlines()
    (data / "own.csv").write_text("\n".join([*lines, lines[9]]))
    with pytest.raises(InvalidRequest, match="line 402, column 'who': has the same id as line 10"):
        opened("csv").load("train")


def test_classes_stay_balanced_with_the_named_among_them() -> None:
    outputs = run_stage("pretrain", {}, dataset=choice("npz"), model=MODEL, epochs=1)
    outputs |= run_stage(
        "train", outputs, dataset=choice("npz"), size=SIZE, balanced=True, epochs=1
    )
    training = TrainingSet.read(outputs["TRAINING_SET"].data, "TRAINING_SET")
    assert training.load_samples().labels.bincount().tolist() == [SIZE // 2] * 2
    assert {*NUMBERS} <= {int(opened("npz").origins[index]) for index in training.indices}
    few = {"name": "npz", "params": {"path": "own.npz", "deletable_rows": [0, 123]}}
    with pytest.raises(
        InvalidRequest,
        match="deletions name 2 samples of class 0, but the training set has only 1 of this class",
    ):
        run_stage("train", outputs, dataset=few, size=2, balanced=True, epochs=1)


def test_an_audit_that_names_customers_runs_to_its_report(data: Path) -> None:
    spec = {
        "dataset": choice("csv", told=False), "model": MODEL, "pretrain": {"epochs": 1}, "train": {"size": SIZE},
        "forget": {"ids": ["k399", "k0"]}, "unlearning": ["gradient_ascent"], "attacks": ["label_inference"],
        "seeds": [0, 1], "evaluate": {"decoys": 5},
    }  # fmt: skip
    jobs = plan(AuditSpec.model_validate(spec), real_catalog(), DataRoot(data).identify_files)
    outputs = run_planned(jobs, skipped_stages=("selftest",))
    truths = [
        ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS")
        for made in outputs.values()
        if "FORGET_SETS" in made
    ]
    assert [truth.labels for truth in truths] == [[[1], [0]]] * 2  # whatever the seed
    (report,) = (parse_output(made["REPORT"]) for made in outputs.values() if "REPORT" in made)
    assert [row["deletions"] for row in report["rows"]] == [2, 2]
    assert report["provenance"]["audit"]["forget"] == {"ids": ["k399", "k0"]}
