"""What comes from outside with bad intent: requests that are refused before anything is kept, and
files that are refused before anything is believed. Nothing of them is executed: a canary file that
their pickles would write never appears."""

from __future__ import annotations

import http.client
import io
import json
import os
import pickle  # noqa: TID251 - hostile files are pickles
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save

from shared.artifacts import ArtifactStore
from shared.data_files import PlannedFiles
from shared.errors import InvalidRequest
from shared.ml.ingest.weights import read_weights
from shared.ml.networks import Architecture, build_network
from shared.ml.samples import open_dataset
from shared.plugin_ref import PluginRef
from tests.support.gateway import TOKEN, GatewayProcess, serve_gateway
from tests.support.waiting import TIMEOUT_S, wait_for
from workers.uploads import uploads_as_files

pytestmark = pytest.mark.slow

AUTH = f"Authorization: Bearer {TOKEN}"
QUOTA = 3 << 20
MEMORY_LIMIT = 300 << 20


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    limits = {
        "PALIMPSEST_MAX_UPLOAD_BYTES": str(1 << 20),
        "PALIMPSEST_UPLOAD_QUOTA_BYTES": str(QUOTA),
        "PALIMPSEST_BODY_TIMEOUT_S": "2",
    }
    with serve_gateway(tmp_path_factory.mktemp("gateway"), **limits) as served:
        yield served


def send(gateway: GatewayProcess, request: bytes, then_close: bool = False) -> int | None:
    """The status that raw bytes are answered with; None if the connection ends without one."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=TIMEOUT_S) as client:
        client.sendall(request)
        if then_close:
            client.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(client)
        try:
            answer.begin()
        except (http.client.HTTPException, ConnectionError):
            return None
        return answer.status


def post(*headers: str, body: bytes = b"data", length: str | None = "", auth: str = AUTH) -> bytes:
    """A request to upload; `length` is that of the body if empty, and none if None."""
    lines = ["POST /v1/artifacts HTTP/1.1", "Host: x", *([auth] if auth else []), *headers]
    if length is not None:
        lines.append(f"Content-Length: {length or len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


CHUNKED = "Transfer-Encoding: chunked"
REQUESTS: dict[str, tuple[bytes, set[int | None]]] = {
    "no token": (post(auth=""), {401}),
    "a wrong token": (post(auth="Authorization: Bearer x"), {401}),
    "basic authentication": (post(auth="Authorization: Basic eDp4"), {401}),
    "a cookie from elsewhere": (post("Cookie: palimpsest_session=x", auth=""), {401}),
    "above the limit": (post(length=str(1 << 30)), {413}),
    "far above the limit": (post(length=str(10**18)), {413}),
    "above the limit in chunks": (
        post(CHUNKED, length=None, body=(b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 2 + b"0\r\n\r\n"),
        {413},
    ),
    "a negative length": (post(length="-1"), {400, None}),
    "a length that is no number": (post(length="many"), {400, None}),
    "two lengths": (post("Content-Length: 3"), {400, None}),
    "a length and chunks": (post(CHUNKED), {400, None}),
    "a chunk without a size": (post(CHUNKED, length=None, body=b"zz\r\nx\r\n0\r\n\r\n"), {400, None}),
    "a chunk larger than said": (post(CHUNKED, length=None, body=b"2\r\nxxxx\r\n0\r\n\r\n"), {400, None}),
    "too little, then silence": (post(length="1000"), {408}),
    "chunks without an end": (post(CHUNKED, length=None, body=b"4\r\ndata\r\n"), {408}),
    "compressed": (post("Content-Encoding: gzip"), {415}),
    "compressed twice": (post("Content-Encoding: gzip, br"), {415}),
    "a form": (post("Content-Type: multipart/form-data; boundary=x"), {415}),
    "an url-encoded form": (post("Content-Type: application/x-www-form-urlencoded"), {415}),
    "no media type": (post("Content-Type: ;;;"), {400}),
    "a media type of another kind": (post("Content-Type: text"), {400}),
    "a long media type": (post(f"Content-Type: text/{'x' * 5000}"), {400}),
    "a media type with a quote": (post('Content-Type: a/"b'), {400}),
    "a digest of other bytes": (
        post("Content-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"), {422},
    ),
    "a digest that is no base64": (post("Content-Digest: sha-256=:!!!:"), {400}),
    "a digest that is too short": (post("Content-Digest: sha-256=:AAAA:"), {400}),
    "a digest of another kind": (post("Content-Digest: md5=:AAAA:"), {400}),
    "a digest without a form": (post("Content-Digest: 0123"), {400}),
    "a header of a megabyte": (post(f"X-Long: {'x' * (1 << 20)}"), {431, None}),
    "a method that is not there": (post().replace(b"POST", b"PUT", 1), {405}),
    "a path with dots": (post().replace(b"/v1/artifacts", b"/v1/artifacts/../../etc", 1), {404, 405}),
}  # fmt: skip


def list_files(gateway: GatewayProcess) -> list[Path]:
    return [path for path in (gateway.folder / "artifacts").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_is_refused_and_nothing_is_kept(
    gateway: GatewayProcess, name: str
) -> None:
    request, expected = REQUESTS[name]
    assert send(gateway, request) in expected
    # the server itself answers what is no HTTP, while the application hears that the client is gone
    wait_for(lambda: not list_files(gateway), TIMEOUT_S, "nothing is kept")
    assert gateway.process is not None
    root = psutil.Process(gateway.process.pid)
    memory = sum(one.memory_info().rss for one in [root, *root.children(recursive=True)])
    assert memory < MEMORY_LIMIT


CANARY = "palimpsest-canary"


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


ARCHITECTURE = Architecture(
    model=PluginRef(name="mlp", params={"hidden": 4}),
    input_shape=(1, 4, 4),
    num_classes=3,
    mean=(0.0,),
    std=(1.0,),
)


def good() -> dict[str, torch.Tensor]:
    state = build_network(ARCHITECTURE, torch.Generator().manual_seed(0)).state_dict()
    return {name.removeprefix("network."): tensor.clone() for name, tensor in state.items()}


def change(name: str, tensor: torch.Tensor) -> bytes:
    return save({**good(), name: tensor})


def rewrite(edit: Callable[[dict[str, Any]], Any], data: bytes | None = None) -> bytes:
    """A file whose header was edited."""
    data = data or save(good())
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    edited = edit(header) or header
    text = edited if isinstance(edited, bytes) else json.dumps(edited).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def first(header: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = next(value for name, value in header.items() if name[0] != "_")
    return spec


def torch_file(path: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"weights": Bomb(path)}, file)
    return file.getvalue()


def zip_of(names: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return file.getvalue()


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


NAMES = sorted(good())
WEIGHTS: dict[str, Callable[[Path], bytes]] = {
    "nothing": lambda _: b"",
    "noise": lambda _: bytes(range(256)) * 40,
    "a pickle": lambda path: pickle.dumps(Bomb(path)),
    "a checkpoint of torch": torch_file,
    "a zip bomb": lambda _: zip_of({"a": bytes(50 << 20)}),
    "a script": lambda _: b"#!/bin/sh\ntouch canary\n" * 50,
    "a header of a gigabyte": lambda _: struct.pack("<Q", 1 << 30) + b"{}" + bytes(1000),
    "a header of 2^63": lambda _: struct.pack("<Q", (1 << 63) - 1) + b"{}",
    "a header that is cut": lambda _: save(good())[:20],
    "tensors that are cut": lambda _: save(good())[:-1],
    "bytes behind the tensors": lambda _: save(good()) + b"x",
    "a header that is a list": lambda _: rewrite(lambda header: b"[1]"),
    "a header that is nested": lambda _: rewrite(lambda header: b"[" * 100_000),
    "a name twice": lambda _: rewrite(
        lambda header: (
            b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
            b'"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
        )
    ),
    "overlapping tensors": lambda _: rewrite(lambda h: first(h).update(data_offsets=[0, 4])),
    "a negative offset": lambda _: rewrite(lambda h: first(h).update(data_offsets=[-8, 8])),
    "an offset beyond the file": lambda _: rewrite(lambda h: first(h).update(data_offsets=[0, 1 << 50])),
    "a shape of 2^62": lambda _: rewrite(lambda h: first(h).update(shape=[1 << 31, 1 << 31])),
    "a negative shape": lambda _: rewrite(lambda h: first(h).update(shape=[-1])),
    "a shape that is text": lambda _: rewrite(lambda h: first(h).update(shape="big")),
    "an unheard-of type": lambda _: rewrite(lambda h: first(h).update(dtype="F4096")),
    "a million tensors": lambda _: rewrite(
        lambda h: {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)}
    ),
    "metadata that is no text": lambda _: rewrite(lambda h: {**h, "__metadata__": {"a": 1}}),
    "metadata of another model": lambda _: rewrite(
        lambda h: {**h, "__metadata__": {"palimpsest": '{"architecture": {"model": "../../etc"}}'}}
    ),
    "not a number": lambda _: change(NAMES[0], good()[NAMES[0]] * float("nan")),
    "infinity": lambda _: change(NAMES[0], good()[NAMES[0]] + float("inf")),
    "a tensor too many": lambda _: change("extra", torch.zeros(3)),
    "a tensor missing": lambda _: save(dict(list(good().items())[1:])),
    "another class count": lambda _: save({n: t[:2] if t.shape[0] == 3 else t for n, t in good().items()}),
    "another width": lambda _: save({n: t.repeat_interleave(2, 0) for n, t in good().items()}),
    "whole numbers": lambda _: save({n: t.to(torch.int8) for n, t in good().items()}),
    "a name with a line break": lambda _: change("a\nb", torch.zeros(1)),
    "a name of 10,000 characters": lambda _: change("x" * 10_000, torch.zeros(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weights_are_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    canary = tmp_path / CANARY
    with pytest.raises(InvalidRequest) as refused:
        read_weights(WEIGHTS[name](canary), "RELEASED_WEIGHTS_1", ARCHITECTURE)
    assert len(refused.value.message) < 700
    assert "\n" not in refused.value.message
    assert str(tmp_path) not in refused.value.message
    assert not canary.exists()


def arrays(**more: Any) -> dict[str, bytes]:
    images = np.random.default_rng(0).random((12, 4, 4)).astype(np.float32)
    made = {"images": npy(images), "labels": npy(np.arange(12) % 3)} | more
    return {f"{name}.npy": data for name, data in made.items()}


SAMPLES: dict[str, Callable[[Path], bytes]] = {
    "nothing": lambda _: b"",
    "no zip": lambda path: pickle.dumps(Bomb(path)),
    "a zip that is cut": lambda _: zip_of(arrays())[:-40],
    "pickled objects": lambda path: zip_of(
        arrays(images=npy(np.array([Bomb(path)] * 12, dtype=object), allow_pickle=True))
    ),
    "a zip bomb": lambda _: zip_of(arrays(images=npy(np.zeros((500, 400, 400), np.uint8)))),
    "a header that claims more": lambda _: zip_of(
        arrays(images=npy(np.zeros((12, 4, 4), np.float32)).replace(b"(12, 4, 4)", b"(99, 9, 9)"))
    ),
    "no labels": lambda _: zip_of({"images.npy": arrays()["images.npy"]}),
    "labels beyond the classes": lambda _: zip_of(arrays(labels=npy(np.arange(12)))),
    "negative labels": lambda _: zip_of(arrays(labels=npy(np.arange(12) - 5))),
    "labels that are not whole": lambda _: zip_of(arrays(labels=npy(np.arange(12) + 0.5))),
    "fewer labels": lambda _: zip_of(arrays(labels=npy(np.arange(3)))),
    "pixels beyond 1": lambda _: zip_of(arrays(images=npy(np.full((12, 4, 4), 7.0, np.float32)))),
    "pixels that are not numbers": lambda _: zip_of(
        arrays(images=npy(np.full((12, 4, 4), np.nan, np.float32)))
    ),
    "text": lambda _: zip_of(arrays(images=npy(np.full((12, 4, 4), "x")))),
    "another shape": lambda _: zip_of(arrays(images=npy(np.zeros((12, 5, 5), np.float32)))),
    "no samples": lambda _: zip_of(
        arrays(images=npy(np.zeros((0, 4, 4), np.float32)), labels=npy(np.zeros(0, int)))
    ),
    "a path out of the archive": lambda _: zip_of({"../../images.npy": arrays()["images.npy"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_hostile_samples_are_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    canary, store = tmp_path / CANARY, ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    public = store.put(zip_of(arrays()))
    deleted = store.put(SAMPLES[name](canary))
    paths = {"deleted": f"upload:{deleted}", "public": f"upload:{public}"}
    dataset = open_dataset(PluginRef(name="own_samples", params={**paths, "num_classes": 3}))
    planned = {path: path.removeprefix("upload:") for path in paths.values()}
    with (
        PlannedFiles(planned).guard_reads(),
        uploads_as_files(store),
        pytest.raises(InvalidRequest) as refused,
    ):
        dataset.load("train")
    assert len(refused.value.message) < 700
    assert str(tmp_path) not in refused.value.message
    assert not canary.exists()
