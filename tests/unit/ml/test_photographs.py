"""CIFAR-10, CIFAR-100 and STL-10 from tiny files in their own formats, from .npz, and from a
download."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import struct
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.datasets import _downloads, fashion_mnist, registry
from shared.ml.datasets._downloads import fetch, unpack
from shared.ml.datasets._photographs import Photographs
from shared.ml.datasets._statistics import compute_channel_statistics
from shared.ml.networks import Architecture, build_network
from shared.ml.samples import Samples, open_dataset
from shared.plugin_ref import PluginRef
from tests.support.apt import install_package

NAMES = ["cifar10", "cifar100", "stl10"]
N = {"train": 20, "test": 10}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    return tmp_path


def plugin(name: str) -> type[Photographs]:
    return registry.get(name).target  # type: ignore[return-value]


def opened(name: str, **params: Any) -> Any:
    return open_dataset(PluginRef(name=name, params={"download": False, **params}))


def drawn(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, C, H, W] and labels, the last of each kind among them."""
    draw, classes = np.random.default_rng(len(split)), plugin(name).num_classes
    images = draw.integers(0, 256, (N[split], *plugin(name).input_shape), dtype=np.uint8)
    return images, np.arange(classes - 1, classes - 1 - N[split], -1) % classes


def write_folder(folder: Path, name: str) -> None:
    """As the authors lay their bytes: labels before pixels (CIFAR), or in files of their own,
    columns first (STL)."""
    folder.mkdir(parents=True)
    for split, names in plugin(name).files.items():
        images, labels = drawn(name, split)
        if name == "stl10":
            (folder / names[0]).write_bytes(images.transpose(0, 1, 3, 2).tobytes())
            (folder / names[1]).write_bytes((labels + 1).astype(np.uint8).tobytes())
            continue
        before = [np.full(len(labels), 7), labels] if name == "cifar100" else [labels]
        records = np.concatenate(
            [np.stack(before, 1).astype(np.uint8), images.reshape(len(labels), -1)], 1
        )
        for file, part in zip(names, np.array_split(records, len(names)), strict=True):
            (folder / file).write_bytes(part.tobytes())


def write_npz(path: Path, name: str, **changes: np.ndarray) -> None:
    arrays: dict[str, np.ndarray] = {}
    for split in N:
        images, labels = drawn(name, split)
        arrays |= {f"x_{split}": images.transpose(0, 2, 3, 1), f"y_{split}": labels}
    np.savez(path, **(arrays | changes))


def check(name: str, samples: Samples, split: str) -> None:
    images, labels = drawn(name, split)
    assert samples.images.dtype == torch.float32
    assert torch.equal(samples.images, torch.from_numpy(images).float() / 255)
    assert samples.labels.dtype == torch.int64
    assert samples.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_the_authors_files_are_read_byte_for_byte(root: Path, name: str, split: Any) -> None:
    write_folder(root / plugin(name).folder, name)
    check(name, opened(name).load(split), split)


@pytest.mark.parametrize("name", NAMES)
def test_an_npz_in_the_order_of_keras_comes_first(root: Path, name: str) -> None:
    write_folder(root / plugin(name).folder, name)
    (root / plugin(name).folder / plugin(name).files["train"][0]).write_bytes(b"not looked at")
    write_npz(root / f"{name}.npz", name)
    check(name, opened(name).load("train"), "train")
    _, labels = drawn(name, "test")
    # both as some write them
    write_npz(root / "mine.npz", name, x_test=drawn(name, "test")[0], y_test=labels[:, None])
    check(name, opened(name, path="mine.npz").load("test"), "test")


def test_a_folder_is_found_under_either_name_or_named(root: Path) -> None:
    write_folder(root / "cifar10", "cifar10")
    check("cifar10", opened("cifar10").load("test"), "test")
    write_folder(root / "else" / "where", "cifar100")
    check("cifar100", opened("cifar100", path="else/where").load("test"), "test")
    with pytest.raises(
        InvalidRequest, match=r"does not contain all of train\.bin, test\.bin"
    ) as caught:
        opened("cifar100", path="cifar10").load("test")
    assert caught.value.field == "params.dataset.params.path"
    with pytest.raises(InvalidRequest, match="stay inside"):
        opened("cifar100", path="../x").load("test")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"x_test": np.zeros((10, 32, 32, 3))}, "must be uint8"),
        ({"x_test": np.zeros((10, 32, 31, 3), np.uint8)}, r"must be \[N, 3, 32, 32\]"),
        ({"x_test": np.zeros((10, 3072), np.uint8)}, r"must be \[N, 3, 32, 32\]"),
        ({"x_test": np.zeros((0, 32, 32, 3), np.uint8), "y_test": np.zeros(0, int)}, "must be"),
        ({"y_test": np.zeros(9, int)}, r"labels \[N\]"),
        ({"y_test": np.zeros((10, 2), int)}, r"labels \[N\]"),
        ({"y_test": np.full(10, 10)}, "0 to 9"),
        ({"y_test": np.full(10, -1)}, "0 to 9"),
        ({"y_test": np.zeros(10)}, "integers"),
        ({"y_test": np.array([{}] * 10, dtype=object)}, "plain arrays"),
    ],
)
def test_an_npz_of_something_else_is_refused(
    root: Path, changes: dict[str, np.ndarray], word: str
) -> None:
    write_npz(root / "cifar10.npz", "cifar10", **changes)
    with pytest.raises(InvalidRequest, match=word):
        opened("cifar10").load("test")


def test_an_npz_that_lacks_an_array_says_what_it_has(root: Path) -> None:
    np.savez(root / "cifar10.npz", images=np.zeros(3))
    with pytest.raises(InvalidRequest, match=r"has no array 'x_train'; it contains images"):
        opened("cifar10").load("train")


@pytest.mark.parametrize(
    "body", [b"", b"\0" * 3072, b"\0" * (2 * 3073 + 1), b"\x0a" + b"\0" * 3072]
)
def test_a_spoilt_file_is_refused(root: Path, body: bytes) -> None:
    write_folder(root / "cifar10", "cifar10")
    (root / "cifar10" / "test_batch.bin").write_bytes(body)
    with pytest.raises(InvalidRequest, match=r"not a multiple of 3073|labels must be 0 to 9"):
        opened("cifar10").load("test")


def test_stl_labels_begin_at_one_and_are_as_many_as_its_images(root: Path) -> None:
    write_folder(root / "stl10", "stl10")
    labels = root / "stl10" / "test_y.bin"
    labels.write_bytes(b"\0" * 10)
    with pytest.raises(InvalidRequest, match="1 to 10"):
        opened("stl10").load("test")
    labels.write_bytes(b"\1" * 9)
    with pytest.raises(InvalidRequest, match=r"labels \[N\]"):
        opened("stl10").load("test")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_nowhere_says_what_to_do(root: Path, name: str) -> None:
    (root / "cifar-10-batches-py").mkdir()  # pickles: not read, whoever wrote them
    with pytest.raises(InvalidRequest, match=rf"put {name}\.npz .* PALIMPSEST_DATA_ROOT"):
        opened(name).load("train")


@pytest.fixture
def serving() -> Iterator[Callable[[Path], str]]:
    """A server of a folder's files on this machine."""
    servers: list[ThreadingHTTPServer] = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        servers.append(server)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def archive(folder: Path, name: str) -> tuple[Path, str]:
    """A packed folder as the authors' server has it, and its md5."""
    write_folder(folder / plugin(name).folder, name)
    packed = folder / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder / plugin(name).folder, plugin(name).folder)
    return packed, hashlib.md5(packed.read_bytes(), usedforsecurity=False).hexdigest()


def test_a_download_is_checked_unpacked_and_found_again(
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    serving: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed, md5 = archive(tmp_path_factory.mktemp("server"), "cifar100")
    monkeypatch.setattr(plugin("cifar100"), "url", f"{serving(packed.parent)}/{packed.name}")
    monkeypatch.setattr(plugin("cifar100"), "md5", "0" * 32)
    with pytest.raises(InvalidRequest, match="could not be downloaded"):
        opened("cifar100", download=True).load("test")
    assert not list(root.iterdir())  # nothing of what came is kept
    monkeypatch.setattr(plugin("cifar100"), "md5", md5)
    check("cifar100", opened("cifar100", download=True).load("test"), "test")
    (downloaded,) = (root / "downloads").iterdir()
    assert re.fullmatch("cifar-100-binary-[0-9a-f]{64}", downloaded.name)
    packed.unlink()
    check("cifar100", opened("cifar100", download=True).load("train"), "train")
    (downloaded / "train.bin").write_bytes((downloaded / "test.bin").read_bytes())
    with pytest.raises(InvalidRequest, match="has changed since it was downloaded"):
        opened("cifar100", download=True).load("test")


def pack(path: Path, members: dict[str, bytes | str]) -> Path:
    """A .tar.gz of files (bytes) and links (text: where they lead)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_of_a_download_only_the_named_files_are_unpacked(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"../out": b"x", "d/link": "/etc", "./d/a": b"1", "d/b": b"2"}
    unpack(pack(tmp_path / "a.tar.gz", members), ["d/a", "d/b"], tmp_path / "to", 10)
    found = {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()}
    assert found == {"a": b"1", "b": b"2"}
    assert not (tmp_path / "out").exists()
    assert not (tmp_path.parent / "out").exists()


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"d/a": "/etc/hostname"}, "differs from the published file"),
        ({"d/a": b"0" * 11}, "differs from the published file"),
        ({"d/b": b"2"}, "does not contain d/a"),
    ],
)
def test_a_download_that_is_not_as_published_is_refused(
    tmp_path: Path, members: dict[str, bytes | str], word: str
) -> None:
    with pytest.raises(InvalidRequest, match=word):
        unpack(pack(tmp_path / "a.tar.gz", members), ["d/a"], tmp_path / "to", 10)


def test_a_damaged_download_is_an_error_of_the_download(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", {"d/b": os.urandom(1 << 16), "d/a": b"1"})
    path.write_bytes(path.read_bytes()[: 1 << 15])
    with pytest.raises(OSError, match="damaged"):
        unpack(path, ["d/a"], tmp_path / "to", 10)


def test_a_download_that_does_not_end_is_given_up(
    tmp_path: Path, serving: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long").write_bytes(b"0" * 2000)
    md5 = hashlib.md5(b"0" * 2000, usedforsecurity=False).hexdigest()
    url = f"{serving(tmp_path)}/long"
    monkeypatch.setattr(_downloads, "MAX_BYTES", 1999)
    with pytest.raises(OSError, match="larger than any known archive"):
        fetch(url, md5, tmp_path / "kept", "long")
    assert not list((tmp_path / "kept").iterdir())
    monkeypatch.setattr(_downloads, "MAX_BYTES", 2000)
    assert fetch(url, md5, tmp_path / "kept", "long").read_bytes() == b"0" * 2000


def test_fashion_mnist_is_downloaded_checked_and_found_again(
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    serving: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = tmp_path_factory.mktemp("server")
    draw = np.random.default_rng(0)
    for names, n in zip(fashion_mnist.FILES.values(), (20, 10), strict=True):
        for name, shape in zip(names, ((n, 28, 28), (n,)), strict=True):
            body = draw.integers(0, 10, shape, dtype=np.uint8).tobytes()
            head = b"\0\0\x08" + struct.pack(f">B{len(shape)}I", len(shape), *shape)
            packed = gzip.compress(head + body)
            (server / f"{name}.gz").write_bytes(packed)
            md5 = hashlib.md5(packed, usedforsecurity=False).hexdigest()
            monkeypatch.setitem(fashion_mnist.MD5, name, md5)
            monkeypatch.setitem(fashion_mnist.SHA256, name, hashlib.sha256(body).hexdigest())
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", root / "no such folder")
    monkeypatch.setattr(fashion_mnist, "URL", serving(server))
    (server / "t10k-images-idx3-ubyte.gz").rename(server / "away")
    with pytest.raises(InvalidRequest, match="could not be downloaded"):
        open_dataset(PluginRef(name="fashion_mnist")).load("train")
    (server / "away").rename(server / "t10k-images-idx3-ubyte.gz")
    assert len(open_dataset(PluginRef(name="fashion_mnist")).load("train").labels) == 20
    for path in server.iterdir():
        path.unlink()
    assert len(open_dataset(PluginRef(name="fashion_mnist")).load("test").labels) == 10
    labels = root / "downloads/fashion_mnist/t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(head + bytes(10)))
    with pytest.raises(InvalidRequest, match="differs from the authors' file"):
        open_dataset(PluginRef(name="fashion_mnist")).load("test")


@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_looked_for_is_declared(name: str) -> None:
    """Else another file in its place would give the results of the first."""
    described = registry.get(name)
    assert described.data_files == (f"{name}.npz", name, plugin(name).folder)


def test_constants_of_fashion_mnist_are_those_of_its_training_images() -> None:
    """Of the others, which no package brings, they are the published ones."""
    if not (fashion_mnist.DEBIAN_FOLDER / "train-images-idx3-ubyte.gz").exists():
        install_package("dataset-fashion-mnist")
    dataset = opened("fashion_mnist")
    mean, std = compute_channel_statistics(dataset.load("train").images)
    assert dataset.mean == pytest.approx(mean, abs=1e-5)
    assert dataset.std == pytest.approx(std, abs=1e-5)


@pytest.mark.parametrize("model", ["convnet", "resnet20", "lenet", "vgg11_bn", "resnet18", "mlp"])
@pytest.mark.parametrize("name", NAMES)
def test_every_model_takes_these_photographs(name: str, model: str) -> None:
    dataset = plugin(name)
    about = Architecture(
        model=PluginRef(name=model), input_shape=dataset.input_shape, num_classes=dataset.num_classes,
        mean=dataset.mean, std=dataset.std,
    )  # fmt: skip
    with torch.device("meta"):
        answer = build_network(about)(torch.empty(2, *dataset.input_shape))
    assert answer.shape == (2, dataset.num_classes)
