"""Clients without good will: silent connections, slow bodies, crowds of readers, requests framed to
deceive."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.gateway import TOKEN, GatewayProcess, serve_gateway
from tests.support.slowloris import Slowloris
from tests.support.waiting import TIMEOUT_S, wait_for

pytestmark = pytest.mark.slow

AUTH = f"Authorization: Bearer {TOKEN}\r\n".encode()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway whose patience outlasts a test: who keeps it waiting does so to the end, on a slow
    machine too."""
    patient = {
        "PALIMPSEST_HEAD_TIMEOUT_S": str(TIMEOUT_S),
        "PALIMPSEST_BODY_TIMEOUT_S": str(TIMEOUT_S),
        "PALIMPSEST_MAX_EVENT_STREAMS": "600",  # of which one tenant may have three quarters
    }
    with serve_gateway(tmp_path, **patient) as served:
        yield served


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that waits for nobody."""
    folder = tmp_path_factory.mktemp("hasty")
    with serve_gateway(
        folder, PALIMPSEST_HEAD_TIMEOUT_S="2", PALIMPSEST_BODY_TIMEOUT_S="2"
    ) as served:
        yield served


def events_of(job_id: str) -> bytes:
    return (
        f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n".encode()
        + AUTH
        + b"\r\n"
    )


def seconds(method: str, url: str, status: int, **options: object) -> float:
    """How long one request on a connection of its own takes."""
    began = time.monotonic()
    answer = httpx.request(method, url, trust_env=False, timeout=30, **options)
    assert answer.status_code == status, answer.text
    return time.monotonic() - began


@pytest.mark.slow
def test_those_who_mean_well_are_answered_beside_those_who_do_not(gateway):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    job = httpx.post(
        f"{gateway.url}/v1/jobs", json={"stage": "sleep"}, headers=headers, trust_env=False
    ).json()["id"]

    def ask(seeds: range) -> dict[str, list[float]]:
        took: dict[str, list[float]] = {"/livez": [], "/readyz": [], "POST": []}
        for n in seeds:
            for probe in ("/livez", "/readyz"):
                took[probe].append(seconds("GET", gateway.url + probe, 200))
            body = {"stage": "sleep", "seed": n}
            took["POST"].append(
                seconds("POST", f"{gateway.url}/v1/jobs", 202, json=body, headers=headers)
            )
        return took

    usual = statistics.median(time for times in ask(range(1, 6)).values() for time in times)
    with Slowloris(
        gateway.port,
        silent_count=2000,
        body_count=80,
        stream_count=300,
        stream_requests=[events_of(job)],
    ) as attack:
        wait_for(lambda: attack.is_complete, TIMEOUT_S, f"the attack stands: {attack.open_counts}")
        took = ask(range(6, 26))
        assert attack.is_complete, attack.open_counts  # it has lasted till here
        # within a second; on a machine that is too slow for that, not far from what it takes there
        # without an attack
        assert all(statistics.median(times) < max(1, 5 * usual) for times in took.values()), (
            usual,
            took,
        )
        assert max(max(times) for times in took.values()) < max(10, 20 * usual), (usual, took)
        gateway.stop()  # it does end, though the attack goes on


def test_told_to_end_it_ends_its_streams_and_readers_resume(gateway):
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}
    with httpx.Client(base_url=gateway.url, headers=headers, trust_env=False, timeout=30) as client:
        worker = gateway.make_worker()
        job = client.post("/v1/jobs", json={"stage": "sleep"}).json()["id"]
        claim = worker.claim()
        path = f"/v1/jobs/{job}/events"
        with Slowloris(gateway.port, stream_count=50, stream_requests=[events_of(job)]) as others:
            wait_for(lambda: others.is_complete, TIMEOUT_S, "readers read")
            with client.stream("GET", path) as stream:
                lines = stream.iter_lines()
                assert next(line for line in lines if line == "id: 2")
                gateway.stop()
                # an end, not a broken connection
                assert not [line for line in lines if line.startswith("id: ")]
        assert "Killing" not in (gateway.folder / "gateway.log").read_text()
        worker.report_progress(claim, 1, 1)
        worker.finish(claim)
        gateway.start()
        answer = client.get(path, headers={"Last-Event-ID": "2"})
        assert [line for line in answer.text.splitlines() if line.startswith("id: ")] == [
            "id: 3",
            "id: 4",
        ]


def test_readers_hear_of_everything_and_hold_no_threads(gateway):
    """Of 400 readers of two jobs each hears of each event."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    worker = gateway.make_worker()
    jobs = [
        httpx.post(
            f"{gateway.url}/v1/jobs",
            json={"stage": "sleep", "seed": n},
            headers=headers,
            trust_env=False,
        ).json()
        for n in range(2)
    ]
    with Slowloris(
        gateway.port, stream_count=400, stream_requests=[events_of(j["id"]) for j in jobs]
    ) as readers:
        wait_for(lambda: readers.is_complete, TIMEOUT_S, "readers read")
        claims = [worker.claim() for _ in jobs]
        for claim in claims:
            worker.report_progress(claim, 1, 2)
        wait_for(
            lambda: sum(b"event: progress" in h for h in list(readers.received.values())) == 400,
            TIMEOUT_S,
            "all hear of it",
        )
        threads = psutil.Process(gateway.process.pid).children()[0].num_threads()
        assert threads < 100, threads
        for claim in claims:
            worker.finish(claim)


def answer_to(gateway: GatewayProcess, sent: bytes, drip: bytes = b"") -> tuple[bytes, float]:
    """All that comes back on one connection until the gateway closes it, and after how many seconds
    it did."""
    began, found = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=0.2) as connection:
        connection.sendall(sent)
        while time.monotonic() - began < 30:
            try:
                chunk = connection.recv(65536)
                if not chunk:
                    return found, time.monotonic() - began
                found += chunk
            except TimeoutError:
                if drip:
                    connection.sendall(drip)
            except ConnectionError:
                return found, time.monotonic() - began
    raise AssertionError(f"still open: {found!r}")


def post(*headers: bytes) -> bytes:
    return (
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n"
        + AUTH
        + b"".join(h + b"\r\n" for h in headers)
        + b"\r\n"
    )


class TestDeadlines:
    @pytest.mark.parametrize(
        ("sent", "drip"),
        [
            (b"", b""),
            (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", b""),
            (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
            (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        ],
        ids=["nothing", "half a head", "a slow head", "an idle connection"],
    )
    def test_a_head(self, hasty, sent, drip):
        found, after = answer_to(hasty, sent, drip)
        assert after >= 1
        assert found.count(b"HTTP/1.1 200") == (sent[-4:] == b"\r\n\r\n")

    @pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
    @pytest.mark.parametrize("drip", [b"", b"1\r\n{\r\n"])
    def test_a_body(self, hasty, framing, drip):
        found, after = answer_to(hasty, post(framing, b"Content-Type: application/json"), drip)
        assert after >= 1
        assert found.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in found
        assert b"x-content-type-options: nosniff" in found


class TestFraming:
    """What one server reads as one request and another as two must end the connection."""

    @pytest.mark.parametrize(
        "framing",
        [
            (b"Content-Length: 4", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: chunked", b"Content-Length: 4"),
            (b"Content-Length: 4", b"Content-Length: 5"),
            (b"Content-Length: +4",),
            (b"Transfer-Encoding: xchunked",),
            (b"Transfer-Encoding: chunked, identity",),
            (b"Transfer-Encoding : chunked",),
            (b"Content_Length: 4",),
        ],
        ids=lambda f: b" ".join(f).decode(),
    )
    def test_no_second_request_is_hidden_in_a_body(self, hasty, framing):
        hidden = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        if framing == (b"Content_Length: 4",):
            found, _ = answer_to(hasty, post(*framing) + hidden)
            assert found.count(b"HTTP/1.1 ") == 2  # the name means nothing, so there is no body
            return
        found, after = answer_to(hasty, post(*framing) + b"0\r\n\r\n" + hidden)
        assert found.count(b"HTTP/1.1 ") == 1, found
        assert after < 2

    def test_chunks_that_are_none(self, hasty):
        found, _ = answer_to(hasty, post(b"Transfer-Encoding: chunked") + b"zz\r\nabc")
        assert found.startswith(b"HTTP/1.1 400 ")
        assert b"problem+json" in found

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", b"431"),
            (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
            (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        ],
    )
    def test_heads_have_a_size(self, hasty, sent, status):
        assert answer_to(hasty, sent)[0].startswith(b"HTTP/1.1 " + status)

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            (b"GET http://elsewhere/livez HTTP/1.1", b"200"),
            (b"GET /livez?a=%0d%0aX:1&b=%ff HTTP/1.1", b"200"),
            (b"GET /%6civez HTTP/1.1", b"200"),
            (b"GET /v1/jobs/%2e%2e/%ff%00 HTTP/1.1", b"404"),
            (b"GET /v1/jobs%2f HTTP/1.1", b"404"),
            (b"OPTIONS * HTTP/1.1", b"404"),
            (b"CONNECT livez:80 HTTP/1.1", b"4"),
            (b"HEAD /livez HTTP/1.1", b"200"),
            (b"NONSENSE /livez HTTP/1.1", b"405"),
            (b"GET /livez HTTP/1.0", b"200"),
            (b"GET /\xff\xfe HTTP/1.1", b"4"),
        ],
    )
    def test_targets_of_all_forms(self, hasty, target, status):
        found, _ = answer_to(
            hasty, target + b"\r\nHost: x\r\n" + AUTH + b"Connection: close\r\n\r\n"
        )
        assert found.startswith((b"HTTP/1.1 " + status, b"HTTP/1.0 " + status)), found


class TestBodies:
    def test_a_large_one_is_read_for_nobody_without_the_token(self, hasty):
        stranger = post(b"Content-Length: 900000").replace(TOKEN.encode(), b"x")
        found, after = answer_to(hasty, stranger)
        assert found.startswith(b"HTTP/1.1 401 ")
        assert after < 2  # before its deadline: nobody waited for the body

    def test_one_that_is_too_large_is_refused_before_it_comes(self, hasty):
        found, after = answer_to(hasty, post(b"Content-Length: 1048577"))
        assert found.startswith(b"HTTP/1.1 413 ")
        assert after < 2

    def test_one_in_chunks_is_counted(self, hasty):
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        found, _ = answer_to(hasty, post(b"Transfer-Encoding: chunked") + chunk * 17)
        assert found.startswith(b"HTTP/1.1 413 ")

    def test_the_body_of_a_get_is_not_waited_for(self, hasty):
        found, after = answer_to(
            hasty, b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        )
        assert found.startswith(b"HTTP/1.1 200 ")
        assert after < 2
