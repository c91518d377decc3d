"""Tables: encoded as docs/data.md says, what is missing refused by line and column."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.compatibility import MAX_FEATURES
from shared.errors import InvalidRequest
from shared.ml.attacks._matching import build_matcher, total_variation
from shared.ml.context import make_generator
from shared.ml.datasets import _tables
from shared.ml.datasets._statistics import compute_channel_statistics
from shared.ml.datasets._tables import Table, encode_table
from shared.ml.networks import Architecture, build_network
from shared.ml.samples import open_dataset
from shared.ml.splits import split_train_and_test
from shared.plugin_ref import PluginRef

FILES = Path(_tables.__file__).parent / "files"
HEADER = "id,age,sex,code,risk"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    return tmp_path


def rows(n: int = 20) -> list[str]:
    return [
        f"{100 + i},{20 + i},{'fm'[i % 2]},{i % 3},{['bad', 'good'][i % 4 == 0]}" for i in range(n)
    ]


def write(root: Path, lines: list[str], header: str = HEADER) -> None:
    (root / "own.csv").write_text("\n".join([header, *lines]) + "\n")


def own(**params: Any) -> Any:
    return open_dataset(
        PluginRef(name="csv", params={"path": "own.csv", "target": "risk", **params})
    )


@pytest.mark.parametrize(
    ("name", "features", "rows"), [("breast_cancer", 30, 569), ("german_credit", 61, 1000)]
)
def test_a_bundled_table_is_stratified_in_range_and_its_splits_are_disjoint(
    name: str, features: int, rows: int
) -> None:
    dataset = open_dataset(PluginRef(name=name))
    train, test = dataset.load("train"), dataset.load("test")
    assert (dataset.input_shape, dataset.num_classes) == ((features, 1, 1), 2)
    assert len(train.labels) + len(test.labels) == rows
    both = torch.cat([train.images, test.images])
    assert both.dtype == torch.float32
    assert both.amin((0, 2, 3)).tolist() == [0] * features
    assert both.amax((0, 2, 3)).tolist() == [1] * features
    shares = [split.labels.double().mean().item() for split in (train, test)]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)
    seen = {row.numpy().tobytes() for row in train.images}
    assert not any(row.numpy().tobytes() in seen for row in test.images)
    assert (dataset.mean, dataset.std) == compute_channel_statistics(train.images)


def test_the_features_of_breast_cancer_are_named_after_its_first_row() -> None:
    encoded = open_dataset(PluginRef(name="breast_cancer")).encoded  # type: ignore[attr-defined]
    raw = gzip.decompress((FILES / "breast_cancer.csv.gz").read_bytes()).decode()
    first = [float(value) for value in raw.splitlines()[1].split(",")]
    assert dict(zip(encoded.features, first, strict=False)) | {
        "mean radius": 17.99, "standard error area": 153.4, "worst fractal dimension": 0.1189
    } == dict(zip(encoded.features, first, strict=False))  # fmt: skip
    assert encoded.samples.labels.bincount().tolist() == [212, 357]  # malignant, benign


def test_german_credit_has_one_of_each_kind_a_row() -> None:
    encoded = open_dataset(PluginRef(name="german_credit")).encoded  # type: ignore[attr-defined]
    assert encoded.classes == ("bad", "good")
    assert encoded.samples.labels.bincount().tolist() == [300, 700]
    kinds = [place for place, name in enumerate(encoded.features) if " = " in name]
    assert len(kinds) == 54
    assert encoded.samples.images[:, kinds].sum((1, 2, 3)).tolist() == [13] * 1000
    telephone = encoded.features.index("telephone = none")
    # a value that says "none" is not missing
    assert encoded.samples.images[:, telephone].sum() == 596


def test_a_table_of_ones_own_is_encoded_by_hand(root: Path) -> None:
    write(root, rows())
    dataset = own(drop=["id"], categorical=["code"])
    encoded = dataset.encoded
    assert encoded.features == ("age", "sex = f", "sex = m", "code = 0", "code = 1", "code = 2")
    assert encoded.classes == ("bad", "good")
    assert encoded.samples.images[0].flatten().tolist() == [0, 1, 0, 1, 0, 0]
    assert encoded.samples.images[19].flatten().tolist() == [1, 0, 1, 0, 1, 0]
    assert encoded.samples.labels[:5].tolist() == [1, 0, 0, 0, 1]
    assert dataset.load("test").labels.bincount().tolist() == [3, 1]
    assert len(dataset.load("train").labels) == 16
    assert own(drop=["id"]).encoded.features == ("age", "sex = f", "sex = m", "code")


def test_other_delimiters_quotes_and_classes_that_are_numbers(root: Path) -> None:
    lines = [f'"{i};5"; {i} ; {[2, 10][i % 2]}' for i in range(12)]
    write(root, lines, '"a;b";c;risk')
    encoded = own(delimiter=";").encoded
    assert encoded.classes == ("2", "10")  # as numbers, not as text
    assert len(encoded.features) == 13
    assert encoded.features[0] == "a;b = 0;5"


@pytest.mark.parametrize("missing", ["", "NA", "n/a", "NaN", "?", "null"])
def test_a_missing_value_is_refused_by_line_and_column(root: Path, missing: str) -> None:
    lines = rows()
    lines[6] = lines[6].replace(",26,", f",{missing},")
    write(root, lines)
    with pytest.raises(InvalidRequest, match=r"line 8, column 'age': a value is missing") as caught:
        own().load("train")
    assert caught.value.field == "params.dataset.params.path"
    # its column left out, nothing is missing
    assert len(own(drop=["age"]).load("train").labels) == 16


@pytest.mark.parametrize(
    ("lines", "params", "word"),
    [
        (rows(9), {}, "ten rows, but this one has 9"),
        ([*rows(), "1,2"], {}, "line 22 has 2 values"),
        ([*rows(), "1,inf,m,1,bad"], {}, "line 22, column 'age': not a number"),
        ([*rows(), '1,2,"m,1,bad'], {}, "cannot be parsed as CSV"),
        (rows(), {"target": "rsk"}, "no column 'rsk'"),
        (rows(), {"drop": ["x"]}, "no column 'x'"),
        (rows(), {"categorical": ["x"]}, "no column 'x'"),
        (rows(), {"drop": ["risk"]}, "is the target"),
        ([f"{i},1,m,1,bad" for i in range(20)], {}, "2 to 1000 classes"),
        ([f"{i},{i}y,m,1,{'ab'[i % 2]}" for i in range(65)], {}, "'age' has 65 different values"),
        (rows(), {"drop": ["id", "age", "sex", "code"]}, "1 to 512 features"),
    ],
)
def test_a_table_that_is_none_is_refused_in_words(
    root: Path, lines: list[str], params: dict[str, Any], word: str
) -> None:
    write(root, lines)
    with pytest.raises(InvalidRequest, match=word):
        own(**params).load("train")


def test_too_many_columns_names_that_repeat_other_text_and_large_files_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = ",".join(["1"] * (MAX_FEATURES + 1))
    write(
        root,
        [f"{wide},{'ab'[i % 2]}" for i in range(10)],
        ",".join([*map(str, range(MAX_FEATURES + 1)), "risk"]),
    )
    with pytest.raises(InvalidRequest, match="1 to 512 features"):
        own().load("train")
    write(root, rows(), "id,age,age,code,risk")
    with pytest.raises(InvalidRequest, match="column names must be unique"):
        own().load("train")
    (root / "own.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        own().load("train")
    monkeypatch.setattr(_tables, "MAX_BYTES", 1 << 20)
    (root / "own.csv").write_bytes(b"0" * ((1 << 20) + 1))
    with pytest.raises(InvalidRequest, match="larger than 1 MiB"):
        own().load("train")


def test_a_column_that_never_changes_is_nought(root: Path) -> None:
    write(root, [f"{i},7,m,1,{'ab'[i % 2]}" for i in range(10)])
    dataset = own()
    assert dataset.load("train").images[:, 1].unique().tolist() == [0]
    assert min(dataset.std) == 1e-3  # a model can divide by it


def test_every_class_of_two_rows_has_one_in_the_test_split() -> None:
    labels = torch.tensor([0] * 5 + [1] * 2 + [2])
    split = split_train_and_test(labels, "x")
    assert labels[split["test"]].tolist() == [0, 1]
    assert labels[split["train"]].tolist() == [0] * 4 + [1, 2]


def test_encoding_does_not_depend_on_the_order_of_the_rows() -> None:
    columns = {"a": ["3", "1", "2"] * 4, "b": ["x", "y", "x"] * 4, "t": ["0", "1", "1"] * 4}
    turned = {name: values[::-1] for name, values in columns.items()}
    one, other = (encode_table(Table(some, range(12)), "t", "f") for some in (columns, turned))
    assert (one.features, one.classes) == (other.features, other.classes)
    assert torch.equal(one.samples.images, other.samples.images.flip(0))


def test_features_have_no_neighbours_so_the_prior_of_images_does_not_move_them() -> None:
    shape, mean = (6, 1, 1), (0.5,) * 6
    about = Architecture(
        model=PluginRef(name="mlp"), input_shape=shape, num_classes=2, mean=mean, std=mean
    )
    network = build_network(about, make_generator(0, "weights"))
    weights = {name: w.detach() for name, w in network.named_parameters()}
    rows = torch.rand(3, 1, *shape, generator=make_generator(0, "rows"))
    labels = torch.tensor([[0], [1], [0]])
    direction = {
        n: torch.randn(3, *w.shape, generator=make_generator(0, n)) for n, w in weights.items()
    }
    norm = sum(d.flatten(1).square().sum(1) for d in direction.values()) ** 0.5
    direction = {n: d / norm.view(-1, *[1] * (d.dim() - 1)) for n, d in direction.items()}
    assert total_variation(rows) == 0
    plain, smooth = (
        build_matcher(network, weights)(rows, labels, direction, tv) for tv in (0.0, 0.3)
    )
    assert torch.equal(plain[0], smooth[0])
    assert plain[0].abs().max() > 0
    assert total_variation(torch.tensor([[[0.0, 1.0, 0.0]]])) == 1  # a strip has neighbours across


@pytest.mark.parametrize("shape", [(MAX_FEATURES + 1, 1, 1), (5, 2, 2)])
def test_an_architecture_of_more_features_or_of_many_channels_is_refused(
    shape: tuple[int, int, int],
) -> None:
    mean = (0.5,) * shape[0]
    with pytest.raises(ValueError, match="input_shape"):
        Architecture(
            model=PluginRef(name="mlp"), input_shape=shape, num_classes=2, mean=mean, std=mean
        )
