"""Both clients against a server that is no gateway, or a bad one: bounded, and with an error that
says what to do."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.client import (
    AnswerTooLarge,
    ApiError,
    AsyncClient,
    Client,
    DigestMismatch,
    Unreachable,
)

MAX_BYTES = 2**20
DATA = b"as it should be" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
STREAM = {"Content-Type": "text/event-stream"}
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers every GET as `answer` does; `requests` has the headers of each."""

    def __init__(self) -> None:
        self.answer: Answer
        self.requests: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append({**self.headers, ":path": self.path})
                with suppress(OSError):  # the client may have had enough
                    outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(params=[Client, AsyncClient])
def ask(request: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a method of a client; a generator is read to its end."""
    for module in ("sync_client", "async_client"):
        monkeypatch.setattr(f"services.client.{module}.MAX_ANSWER_BYTES", MAX_BYTES)

    async def ask_async(method: str, arguments: tuple[Any, ...]) -> Any:
        async with AsyncClient(server.url, "t", retry_for_s=60) as client:
            result = getattr(client, method)(*arguments)
            return await result if inspect.isawaitable(result) else [item async for item in result]

    def ask(method: str, *arguments: Any) -> Any:
        if request.param is AsyncClient:
            return asyncio.run(ask_async(method, arguments))
        with Client(server.url, "t", retry_for_s=60) as client:
            result = getattr(client, method)(*arguments)
            return list(result) if inspect.isgenerator(result) else result

    return ask


def answer(
    headers: dict[str, str], *chunks: bytes, status: int = 200, forever: bytes = b""
) -> Answer:
    """These bytes; then, if there are such, others without end."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(chunk)
        while forever:
            handler.wfile.write(forever)

    return write


def in_turn(*answers: Answer) -> Answer:
    """One after another, one a request."""
    remaining = iter(answers)

    def write(handler: BaseHTTPRequestHandler) -> None:
        next(remaining)(handler)

    return write


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_without_end_is_cut(ask, server, status):
    server.answer = answer({}, b'{"x": "', status=status, forever=b"x" * 65536)
    with pytest.raises(AnswerTooLarge, match="is this the right address"):
        ask("get_job", "job_1")
    assert len(server.requests) == 1


def test_a_line_of_events_without_end_is_cut(ask, server):
    server.answer = answer(STREAM, b"data: ", forever=b"x" * 65536)
    with pytest.raises(AnswerTooLarge):
        ask("stream_events", "job_1")
    assert len(server.requests) == 1


def test_a_compressed_answer_is_refused(ask, server):
    body = gzip.compress(b"x" * (64 * MAX_BYTES))
    server.answer = answer({"Content-Encoding": "gzip"}, body)
    for call in (("get_job", "job_1"), ("fetch", SHA256), ("stream_events", "job_1")):
        with pytest.raises(ApiError, match="compressed"):
            ask(*call)
    assert {request["Accept-Encoding"] for request in server.requests} == {"identity"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/html"}, b"<p>"),
        (STREAM, b"data: <p>\n\n"),
        (STREAM, b'data: {"seq": []}\n\n'),
    ],
)
def test_a_stream_of_something_else_is_an_error_and_is_not_asked_for_again(
    ask, server, headers, body
):
    server.answer = answer(headers, body)
    with pytest.raises(ApiError, match="right address"):
        ask("stream_events", "job_1")
    assert len(server.requests) == 1


def test_a_stream_goes_on_after_its_last_whole_event(ask, server):
    def event(seq: int) -> bytes:
        return b'id: %d\ndata: {"seq": %d, "at": "t", "kind": "k"}\n\n' % (seq, seq)

    def cut(handler: BaseHTTPRequestHandler) -> None:
        answer({**STREAM, "Content-Length": "10000"}, event(1), event(2), event(3)[:20])(handler)

    server.answer = in_turn(
        cut, answer(STREAM, b": nothing new\n\n", event(3)), answer({}, status=204)
    )
    assert [e.seq for e in ask("stream_events", "job_1")] == [1, 2, 3]
    assert [request["Last-Event-ID"] for request in server.requests] == ["0", "2", "3"]


def test_a_download_that_breaks_is_fetched_again_and_checked(ask, server, tmp_path: Path):
    cut = answer({"Content-Length": str(len(DATA))}, DATA[:100])
    whole = answer({"Content-Length": str(len(DATA))}, DATA)
    server.answer = in_turn(cut, whole, cut, cut, whole)
    assert ask("fetch", SHA256) == DATA
    assert ask("fetch_to", tmp_path / "kept", SHA256).read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_other_bytes_are_not_kept_and_not_asked_for_again(ask, server, tmp_path: Path):
    server.answer = answer({}, DATA[:-1])
    with pytest.raises(DigestMismatch):
        ask("fetch_to", tmp_path, SHA256)
    assert (list(tmp_path.iterdir()), len(server.requests)) == ([], 1)


def test_a_submission_is_sent_again_under_the_same_key(ask, server):
    handled: list[str] = []

    def post(handler: BaseHTTPRequestHandler) -> None:
        handled.append(handler.headers["Idempotency-Key"])
        handler.rfile.read(int(handler.headers["Content-Length"]))
        if len(handled) < 3:
            handler.close_connection = True  # accepted, and the answer was lost
        else:
            answer({}, b'{"id": "job_1", "stage": "train", "state": "queued"}')(handler)

    server.answer = post
    server._http.RequestHandlerClass.do_POST = server._http.RequestHandlerClass.do_GET  # type: ignore[attr-defined]
    assert ask("submit_job", "train").id == "job_1"
    assert len(handled) == 3
    assert len(set(handled)) == 1


def test_what_may_not_be_sent_twice_is_sent_once(ask, server):
    def post(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    server.answer = post
    server._http.RequestHandlerClass.do_POST = server._http.RequestHandlerClass.do_GET  # type: ignore[attr-defined]
    with pytest.raises(Unreachable):
        ask("retry", "job_1")
    assert len(server.requests) == 1
