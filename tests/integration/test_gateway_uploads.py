"""Uploads over HTTP: what is kept is whole, counted and owned; what is not kept leaves nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from services.gateway.uploads import UploadHead, UploadLimiter
from shared.artifacts import ArtifactStore, compute_sha256
from shared.config import Settings
from shared.errors import TransientError
from shared.jobs import uploads
from shared.jobs.tenant_store import TenantStore
from tests.support.gateway import (
    TENANT,
    TOKEN,
    AuthenticatedClient,
    GatewayInProcess,
    GatewayProcess,
    serve_gateway,
)
from tests.support.waiting import TIMEOUT_S, wait_for

Ask = Callable[[httpx.AsyncClient], Awaitable[Any]]


class Uploading:
    """A gateway in this process over a folder, and what a client does with it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder / "artifacts"
        self.made = GatewayInProcess(folder, **settings)
        self.made.artifacts = ArtifactStore.from_url(f"file://{self.folder}")
        self.made.app = create_app(
            GatewayDeps(
                self.made.db, self.made.artifacts, self.made.wakeup_sender, self.made.settings
            )
        )
        self.made.http = AuthenticatedClient(self.made.app.test_client())

    def ask(self, ask: Ask) -> Any:
        async def run() -> Any:
            async with self.made.serve() as client:
                return await ask(client)

        return asyncio.run(run())

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self.ask(lambda client: client.request(method, path, **options))
        assert isinstance(answer, httpx.Response)
        return answer

    def upload(self, data: Any, **headers: str) -> httpx.Response:
        return self.send("POST", "/v1/artifacts", content=data, headers=headers)

    @property
    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def assert_nothing_kept(self) -> None:
        assert self.files == []
        assert uploads.measure_uploads(self.made.db, TENANT) == 0


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Uploading]:
    opened = Uploading(tmp_path)
    yield opened
    opened.made.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Uploading]:
    """A tenant who may hold 10,000 bytes, 6,000 in one upload."""
    opened = Uploading(tmp_path, max_upload_bytes=6000, upload_quota_bytes=10_000, max_uploads=2)
    yield opened
    opened.made.close()


def content_digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


async def chunked(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["detail"])


@pytest.mark.parametrize("size", [0, 1, 3 << 20], ids=["empty", "a byte", "several pieces"])
def test_what_is_uploaded_can_be_fetched(gateway: Uploading, size: int) -> None:
    data = os.urandom(size)
    sha256 = compute_sha256(data)
    answer = gateway.upload(data, **{"Content-Type": "text/csv; charset=utf-8"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["sha256"], body["size"], body["media_type"]) == (sha256, size, "text/csv")
    assert answer.headers["Location"] == body["url"] == f"/v1/artifacts/{sha256}"
    fetched = gateway.send("GET", body["url"])
    assert fetched.content == data
    assert fetched.headers["Content-Type"].startswith("text/csv")
    again = gateway.upload(data)
    assert again.status_code == 200
    assert again.json()["created_at"] == body["created_at"]
    listed = gateway.send("GET", "/v1/artifacts").json()
    assert [one["sha256"] for one in listed["items"]] == [sha256]
    assert listed["used_bytes"] == size


def test_a_tenant_leaves_room_for_the_uploads_of_others(tmp_path: Path) -> None:
    """Whoever sends a MiB in half a minute holds its place for days."""
    made = GatewayInProcess(tmp_path, max_uploads=4)
    limiter = UploadLimiter(made.artifacts, made.settings)
    acme, globex = (TenantStore(made.db, tenant) for tenant in ("acme", "globex"))
    head = UploadHead("text/csv", None, None)
    mine = [limiter.open(acme, head) for _ in range(3)]
    with pytest.raises(TransientError, match="beside others"):
        limiter.open(acme, head)
    limiter.open(globex, head).close()
    mine.pop().close()
    mine.append(limiter.open(acme, head))
    for one in mine:
        one.close()
    made.close()


def test_a_digest_that_is_announced_is_checked(gateway: Uploading) -> None:
    right, wrong = content_digest(b"data"), content_digest(b"others")
    assert "nothing was kept" in problem(gateway.upload(b"data", **{"Content-Digest": wrong}), 422)
    gateway.assert_nothing_kept()
    both = {"Content-Digest": f"sha-512=:AAAA:, {right}"}
    assert gateway.upload(b"data", **both).status_code == 201


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"Content-Digest": "sha-256=:x:"}, 400, "Content-Digest"),
        ({"Content-Digest": "md5=:AAAA:"}, 400, "Content-Digest"),
        ({"Content-Digest": "sha-256=:AAAA:"}, 400, "Content-Digest"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415, "--data-binary"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "--data-binary"),
        ({"Content-Type": "no type"}, 400, "media type"),
        ({"Content-Type": f"text/{'x' * 100}"}, 400, "media type"),
        ({"Content-Encoding": "gzip"}, 415, "uncompressed"),
        ({"Authorization": "Bearer wrong"}, 401, "token"),
    ],
)
def test_a_head_that_will_not_do_is_refused(
    gateway: Uploading, headers: dict[str, str], status: int, says: str
) -> None:
    assert says in problem(gateway.upload(b"data", **headers), status)
    gateway.assert_nothing_kept()


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_an_upload_above_the_limit_is_refused(small: Uploading, announced: bool) -> None:
    data = os.urandom(6001)
    answer = small.upload(data if announced else chunked(data))
    assert "6,000 bytes" in problem(answer, 413)
    small.assert_nothing_kept()


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_the_quota_is_kept_and_a_deletion_makes_room(small: Uploading, announced: bool) -> None:
    first, second = os.urandom(6000), os.urandom(5000)
    assert small.upload(first).status_code == 201
    refused = small.upload(second if announced else chunked(second))
    assert "10,000 bytes; 6,000 are used" in problem(refused, 507)
    assert len(small.files) == 1
    known = {"Content-Digest": content_digest(first)}
    assert small.upload(first, **known).status_code == 200  # it takes no more room
    problem(small.upload(second, **known), 422)
    assert small.send("DELETE", f"/v1/artifacts/{compute_sha256(first)}").status_code == 204
    assert small.files == []
    assert small.upload(chunked(second)).status_code == 201


def test_uploads_at_the_same_moment_share_the_quota(small: Uploading) -> None:
    """The second passes the check at its start, and fails when both have come."""

    async def both(client: httpx.AsyncClient) -> list[httpx.Response]:
        first_came, may_go_on = asyncio.Event(), asyncio.Event()

        async def slow(
            data: bytes, mine: asyncio.Event, other: asyncio.Event
        ) -> AsyncIterator[bytes]:
            yield data[:3000]
            mine.set()
            await other.wait()
            yield data[3000:]

        ours = (os.urandom(6000), os.urandom(6000))
        return list(
            await asyncio.gather(
                client.post("/v1/artifacts", content=slow(ours[0], first_came, may_go_on)),
                client.post("/v1/artifacts", content=slow(ours[1], may_go_on, first_came)),
            )
        )

    statuses = sorted(answer.status_code for answer in small.ask(both))
    assert statuses in ([201, 507], [507, 507])
    assert uploads.measure_uploads(small.made.db, TENANT) <= 10_000


def test_no_more_come_in_at_a_time_than_may(small: Uploading) -> None:
    async def crowd(client: httpx.AsyncClient) -> list[httpx.Response]:
        release = asyncio.Event()
        began = [asyncio.Event() for _ in range(2)]

        async def held(n: int) -> AsyncIterator[bytes]:
            began[n].set()
            await release.wait()
            yield b"x" * n

        holding = [
            asyncio.create_task(client.post("/v1/artifacts", content=held(n))) for n in range(2)
        ]
        for one in began:
            await one.wait()
        third = await client.post("/v1/artifacts", content=b"third")
        release.set()
        return [third, *await asyncio.gather(*holding)]

    third, *others = small.ask(crowd)
    assert "2 uploads" in problem(third, 503)
    assert [answer.status_code for answer in others] == [201, 201]
    assert small.upload(b"third").status_code == 201


def test_a_part_can_be_fetched(gateway: Uploading) -> None:
    data = os.urandom(2 << 20)
    path = gateway.upload(data).json()["url"]

    def get(wanted: str, **headers: str) -> httpx.Response:
        return gateway.send("GET", path, headers={"Range": wanted, **headers})

    for wanted, expected in (
        ("bytes=0-0", data[:1]),
        ("bytes=1000000-", data[1_000_000:]),
        ("bytes=-5", data[-5:]),
        ("bytes=5-99999999", data[5:]),
    ):
        answer = get(wanted)
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["Content-Range"].endswith(f"/{len(data)}")
    assert get("bytes=99999999-").status_code == 416
    for ignored in ("bytes=0-1,3-4", "lines=1-2", "bytes=x"):
        assert get(ignored).content == data
    etag = f'"{compute_sha256(data)}"'
    assert get("bytes=0-0", **{"If-Range": etag}).status_code == 206
    assert get("bytes=0-0", **{"If-Range": '"other"'}).status_code == 200


def test_head_tells_whether_it_is_there(gateway: Uploading) -> None:
    path = gateway.upload(b"data").json()["url"]
    answer = gateway.send("HEAD", path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["Content-Length"], answer.headers["Accept-Ranges"]) == ("4", "bytes")
    assert gateway.send("HEAD", f"/v1/artifacts/{compute_sha256(b'none')}").status_code == 404


def test_an_upload_is_its_tenants(gateway: Uploading, tmp_path: Path) -> None:
    sha256 = gateway.upload(b"mine").json()["sha256"]
    (tmp_path / "other").mkdir()
    other = Uploading(tmp_path / "other", tenant="another")
    other.made.app = create_app(
        GatewayDeps(
            gateway.made.db,
            gateway.made.artifacts,
            gateway.made.wakeup_sender,
            Settings(token=TOKEN, tenant="another"),
        )
    )
    path = f"/v1/artifacts/{sha256}"
    for method in ("GET", "HEAD", "DELETE"):
        assert other.send(method, path).status_code == 404
    assert other.send("GET", "/v1/artifacts").json()["items"] == []
    # the same bytes of another are another upload: deleting one leaves the other
    assert other.upload(b"mine").status_code == 201
    assert gateway.send("DELETE", path).status_code == 204
    assert gateway.send("GET", path).status_code == 404
    assert other.send("GET", path).content == b"mine"
    assert other.send("DELETE", path).status_code == 204
    assert gateway.files == []
    other.made.close()


def test_what_a_waiting_job_needs_is_not_deleted(gateway: Uploading) -> None:
    sha256 = gateway.upload(b"needed").json()["sha256"]
    job = gateway.made.post({"stage": "sleep", "inputs": {"BASE": sha256}})["id"]
    path = f"/v1/artifacts/{sha256}"
    assert f"job {job} needs upload" in problem(gateway.send("DELETE", path), 409)
    assert gateway.send("GET", path).content == b"needed"
    gateway.made.http.post(f"/v1/jobs/{job}/cancel")
    assert gateway.send("DELETE", path).status_code == 204
    assert gateway.send("DELETE", path).status_code == 404
    refused = gateway.send(
        "POST", "/v1/jobs", json={"stage": "sleep", "inputs": {"BASE": sha256}, "seed": 1}
    )
    assert refused.status_code == 422


def test_an_upload_goes_with_what_was_made_of_it(gateway: Uploading) -> None:
    sha256 = gateway.upload(b"weights").json()["sha256"]
    body = {"stage": "sleep", "inputs": {"BASE": sha256}}
    first = gateway.made.post(body)["id"]
    second = gateway.made.post({"stage": "sleep", "inputs": {"BASE": {"job": first}}})["id"]
    derived = gateway.send("GET", f"/v1/artifacts/{sha256}/derived").json()
    assert derived["jobs_by_stage"] == {"sleep": 2}
    assert derived["live_job_count"] == 2
    path = f"/v1/artifacts/{sha256}?derived=true"
    assert "2 jobs derived from it have not ended" in problem(gateway.send("DELETE", path), 409)
    gateway.made.make_worker().finish_all()
    done = gateway.send("DELETE", path)
    assert done.status_code == 200
    size = len(b"weights") + len(first) + len(second)
    assert done.json() == {"audits": 0, "jobs": 2, "artifacts": 3, "bytes": size, "finished": True}
    for gone in (f"/v1/jobs/{first}", f"/v1/jobs/{second}", f"/v1/artifacts/{sha256}/derived"):
        problem(gateway.send("GET", gone), 404)
    assert gateway.send("DELETE", path).status_code == 404
    assert gateway.send("DELETE", f"/v1/artifacts/{sha256}?derive=true").status_code == 422


def test_what_a_job_makes_is_no_upload(gateway: Uploading) -> None:
    gateway.made.post()
    worker = gateway.made.make_worker()
    sha256 = worker.finish(worker.claim(), b"made")
    path = f"/v1/artifacts/{sha256}"
    assert gateway.send("DELETE", path).status_code == 404
    assert gateway.upload(b"made").status_code == 200
    assert gateway.send("GET", "/v1/artifacts").json() == {
        "items": [], "next": None, "used_bytes": 0, "quota_bytes": 64 << 30,
    }  # fmt: skip


def test_an_upload_that_a_job_makes_too_stays_the_jobs(gateway: Uploading) -> None:
    sha256 = gateway.upload(b"both").json()["sha256"]
    gateway.made.post()
    worker = gateway.made.make_worker()
    worker.finish(worker.claim(), b"both")
    path = f"/v1/artifacts/{sha256}"
    assert gateway.send("DELETE", path).status_code == 204
    assert gateway.send("GET", "/v1/artifacts").json()["items"] == []
    assert gateway.send("GET", path).content == b"both"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[GatewayProcess]:
    with serve_gateway(tmp_path, PALIMPSEST_BODY_TIMEOUT_S="2") as process:
        yield process


def begin_upload(gateway: GatewayProcess, size: int) -> socket.socket:
    """A connection on which an upload of that size has begun."""
    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=TIMEOUT_S)
    client.sendall(
        f"POST /v1/artifacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {size}\r\n\r\n".encode()
    )
    return client


def count_files(gateway: GatewayProcess) -> int:
    return sum(path.is_file() for path in (gateway.folder / "artifacts").rglob("*"))


@pytest.mark.slow
def test_an_upload_that_breaks_off_leaves_nothing(served: GatewayProcess) -> None:
    client = begin_upload(served, 8 << 20)
    client.sendall(os.urandom(4 << 20))
    wait_for(lambda: count_files(served) == 1, TIMEOUT_S, "a draft is there")
    client.close()
    wait_for(lambda: count_files(served) == 0, TIMEOUT_S, "the draft is gone")


@pytest.mark.slow
def test_one_who_stops_sending_is_not_waited_for(served: GatewayProcess) -> None:
    client = begin_upload(served, 8 << 20)
    client.sendall(os.urandom(3 << 20))
    answer = http.client.HTTPResponse(client)
    answer.begin()
    assert answer.status == 408
    assert b"did not arrive within 2 s" in answer.read()
    wait_for(lambda: count_files(served) == 0, TIMEOUT_S, "the draft is gone")


@pytest.mark.slow
def test_drafts_of_a_killed_gateway_do_not_count(served: GatewayProcess) -> None:
    """They are swept later; nobody can fetch them."""
    client = begin_upload(served, 8 << 20)
    client.sendall(os.urandom(4 << 20))
    wait_for(lambda: count_files(served) == 1, TIMEOUT_S, "a draft is there")
    served.stop(signal.SIGKILL)
    served.start()
    with httpx.Client(
        base_url=served.url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
    ) as http_client:
        assert http_client.get("/v1/artifacts").json()["used_bytes"] == 0
    client.close()


MEMORY_LIMIT = 300 << 20


def upload_together(gateway: GatewayProcess, clients: int, size: int) -> int:
    """Upload from several connections at once; the gateway's most memory meanwhile."""
    assert gateway.process is not None
    root = psutil.Process(gateway.process.pid)
    processes = [root, *root.children(recursive=True)]
    peak = 0

    async def send(n: int) -> int:
        block = bytes([n]) * (1 << 20)

        async def body() -> AsyncIterator[bytes]:
            for _ in range(size >> 20):
                yield block

        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Length": str(size)}
            answer = await client.post(
                f"{gateway.url}/v1/artifacts", content=body(), headers=headers
            )
        return answer.status_code

    async def watch(sending: asyncio.Task[Any]) -> None:
        nonlocal peak
        while not sending.done():
            peak = max(peak, sum(one.memory_info().rss for one in processes))
            await asyncio.sleep(0.2)

    async def run() -> list[int]:
        sending = asyncio.ensure_future(asyncio.gather(*(send(n) for n in range(clients))))
        await watch(sending)
        return list(await sending)

    assert asyncio.run(run()) == [201] * clients
    return peak


@pytest.mark.slow
def test_eight_uploads_at_once_take_little_memory(served: GatewayProcess) -> None:
    peak = upload_together(served, 8, 256 << 20)
    print(f"8 uploads of 256 MiB: at most {peak >> 20} MiB in the gateway's processes")  # noqa: T201 - what the test measures
    assert peak < MEMORY_LIMIT


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_eight_uploads_of_two_gigabytes_take_little_memory(tmp_path: Path) -> None:
    with serve_gateway(tmp_path, PALIMPSEST_BODY_TIMEOUT_S=str(TIMEOUT_S)) as gateway:
        peak = upload_together(gateway, 8, 2 << 30)
    print(f"8 uploads of 2 GiB: at most {peak >> 20} MiB in the gateway's processes")  # noqa: T201 - what the test measures
    assert peak < MEMORY_LIMIT
