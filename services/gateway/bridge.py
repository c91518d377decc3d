"""Flask behind an ASGI server: network waits happen on the event loop, and only running requests
use a thread.

A request gets a thread once it has arrived completely, until its response is computed. So a client
that is slow to send, slow to read, or follows a job costs a socket and nothing else. Bodies have a
deadline, heads have that of the server. Each probe has its own threads, so that it responds even if
all others are busy.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar, cast

from flask import Flask, request
from werkzeug.wrappers import Response

from services.gateway.auth import MAX_PUBLIC_BODY_BYTES, METHODS_WITH_BODY, PUBLIC_PATHS
from services.gateway.deps import (
    EXTENSION_KEY,
    UPLOAD_KEY,
    Gateway,
    current_gateway,
    current_store,
)
from services.gateway.event_streams import (
    CONTINUATION_KEY,
    STREAMING_KEY,
    StreamContinuation,
    continue_stream,
)
from services.gateway.json_body import MAX_BODY_BYTES
from services.gateway.key_watch import KEY_KEY, is_valid, run_while_valid
from services.gateway.problems import make_problem
from services.gateway.stream_poller import StreamPoller
from services.gateway.uploads import IncomingUpload, read_upload_head
from services.gateway.wsgi_environ import make_environ, set_body

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Environ = dict[str, Any]
Wsgi = Callable[..., Iterable[bytes]]

MAX_BUFFERED_BYTES = 256 << 10  # of a response, read in one go
PIECE_BYTES = 1 << 20  # of an upload, written in one go
PROBE_THREADS = 2
UPLOAD_ROUTE = ("POST", "/v1/artifacts")


class ResponseStream:
    """The rest of a long response; a thread reads it chunk by chunk."""

    def __init__(self, result: Iterable[bytes]) -> None:
        self._result, self._chunks = result, iter(result)
        self._lock = threading.Lock()  # a client can disconnect while a chunk is computed

    def read_chunk(self) -> bytes | None:
        """The next chunk that is not empty; None at the end."""
        with self._lock:
            return next((chunk for chunk in self._chunks if chunk), None)

    def close(self) -> None:
        close: Callable[[], None] | None = getattr(self._result, "close", None)
        with self._lock:
            if close is not None:
                close()


@dataclass(frozen=True)
class WsgiResponse:
    """The application's response; `body_rest` is None if `body_start` is all of it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body_start: bytes
    body_rest: ResponseStream | None


class AsgiBridge:
    """The ASGI application around the gateway's Flask application."""

    def __init__(self, app: Flask, threads: int) -> None:
        """`threads`: how many requests are handled at once, besides the probes."""
        self._app = app
        gateway = cast(Gateway, app.extensions[EXTENSION_KEY])
        self._deps, self._request_counts = gateway.deps, gateway.monitor.request_counts
        self._poller = StreamPoller(self._deps.db, self._deps.stream_timing.poll_s)
        self._request_pool = ThreadPoolExecutor(threads, "request")
        self._probe_pools = {path: ThreadPoolExecutor(PROBE_THREADS, path) for path in PUBLIC_PATHS}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._handle_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._handle_request(make_environ(scope), receive, send)

    async def _handle_lifespan(self, receive: Receive, send: Send) -> None:
        """Serve the lifespan protocol. A signal ends all streams at once, as the server waits for
        them."""
        loop = asyncio.get_running_loop()

        def stop_streams(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._poller.stop)

        # The loop gets signals through a descriptor: these handlers run in addition to its own.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop_streams)
        await receive()
        self._request_counts.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._request_counts.close()
        self._deps.wakeup_sender.close()
        self._deps.db.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _handle_request(self, environ: Environ, receive: Receive, send: Send) -> None:
        app: Wsgi = self._app
        try:
            if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == UPLOAD_ROUTE:
                app = await self._receive_upload(environ, receive) or app
            elif environ["REQUEST_METHOD"] in METHODS_WITH_BODY:
                app = await self._read_body_into(environ, receive) or app
            answer = await self._run_in_thread(environ, _call_wsgi, app, environ)
            await send(
                {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
            )
            if answer.body_rest is None and CONTINUATION_KEY not in environ:
                await send({"type": "http.response.body", "body": answer.body_start})
            else:
                await _run_until_disconnect(receive, self._send_rest(environ, answer, send))
        finally:
            if CONTINUATION_KEY in environ:
                environ[CONTINUATION_KEY].slot.release()
            if UPLOAD_KEY in environ:
                await self._run_in_thread(environ, environ[UPLOAD_KEY].close)

    async def _run_in_thread(
        self, environ: Environ, function: Callable[..., T], *arguments: Any
    ) -> T:
        pool = self._probe_pools.get(environ["PATH_INFO"], self._request_pool)
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)

    async def _read_body_into(self, environ: Environ, receive: Receive) -> Response | None:
        """Read the body into the environ, or return the error response. Large bodies are read only
        with a token."""
        timeout_s, length = self._deps.settings.body_timeout_s, environ.get("CONTENT_LENGTH", "")
        size = int(length) if length.isdecimal() else None
        if size is None or size > MAX_PUBLIC_BODY_BYTES:
            rejection = await self._run_in_thread(environ, self._check_token, environ)
            if rejection is not None:
                return rejection
        body = None
        if size is None or size <= MAX_BODY_BYTES:
            try:
                async with asyncio.timeout(timeout_s):
                    body = await _read_body(receive)
            except TimeoutError:
                return await self._reject(
                    environ, 408, f"the body did not arrive within {timeout_s:g} s"
                )
            except EOFError:
                return await self._reject(
                    environ, 400, "the body is incomplete, or its chunks are malformed"
                )
        if body is None:
            return await self._reject(
                environ, 413, f"the body is larger than {MAX_BODY_BYTES} bytes"
            )
        set_body(environ, body)
        return None

    async def _receive_upload(self, environ: Environ, receive: Receive) -> Response | None:
        """Receive an upload into a draft in the environ, or return the error response."""
        rejection = await self._run_in_thread(environ, self._open_upload, environ)
        if rejection is not None:
            return rejection
        upload: IncomingUpload = environ[UPLOAD_KEY]
        timeout_s = self._deps.settings.body_timeout_s
        try:
            while True:
                async with asyncio.timeout(timeout_s):
                    piece, is_last = await _read_piece(receive)
                if piece:
                    await self._run_in_thread(environ, upload.write, piece)
                if is_last:
                    break
        except TimeoutError:
            answer = await self._reject(
                environ, 408, f"the next MiB of the upload did not arrive within {timeout_s:g} s"
            )
        except EOFError:
            answer = await self._reject(
                environ,
                400,
                "the body is incomplete, or its chunks are malformed: nothing was kept",
            )
        except Exception as error:
            answer = await self._run_in_thread(environ, self._handle_error, environ, error)
        else:
            set_body(environ, b"")
            return None
        await self._run_in_thread(environ, upload.close)  # whoever is refused finds nothing kept
        return answer

    def _open_upload(self, environ: Environ) -> Response | None:
        """Check the head of an upload, and open its draft in the environ."""
        with self._app.request_context(environ):
            try:
                rejection = self._app.preprocess_request()
                if rejection is not None:
                    return self._close_connection(self._app.make_response(rejection))
                limiter = current_gateway().upload_limiter
                head = read_upload_head(request, limiter.max_bytes)
                environ[UPLOAD_KEY] = limiter.open(current_store(), head)
            except Exception as error:
                return self._handle_error(environ, error)
        return None

    def _handle_error(self, environ: Environ, error: Exception) -> Response:
        """The application's answer to an error that came up outside it."""
        with self._app.request_context(environ):
            return self._close_connection(
                self._app.make_response(self._app.handle_user_exception(error))
            )

    def _check_token(self, environ: Environ) -> Response | None:
        """The error response if the request has no valid key or may not do this; None if it may."""
        with self._app.request_context(environ):
            try:
                rejection = self._app.preprocess_request()
            except Exception as error:
                return self._handle_error(environ, error)
            return (
                None
                if rejection is None
                else self._close_connection(self._app.make_response(rejection))
            )

    async def _reject(self, environ: Environ, status: int, detail: str) -> Response:
        """The response to a request that did not arrive as it should. In a thread: whatever follows
        a response may write to the job store."""

        def make_rejection() -> Response:
            with self._app.request_context(environ):
                return self._close_connection(make_problem(status, detail))

        return await self._run_in_thread(environ, make_rejection)

    def _close_connection(self, response: Any) -> Response:
        """Make the response end the connection: what follows on it may be the rest of the body."""
        response.headers["Connection"] = "close"
        return self._app.process_response(response)

    async def _send_rest(self, environ: Environ, answer: WsgiResponse, send: Send) -> None:
        """Send a long response; no thread waits while the client reads.

        Raises:
            KeyEnded: the key has ended before the response.
        """

        async def send_chunk(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        async def send_body() -> None:
            rest = answer.body_rest
            try:
                await send_chunk(answer.body_start)
                while (
                    rest is not None
                    and (chunk := await self._run_in_thread(environ, rest.read_chunk)) is not None
                ):
                    await send_chunk(chunk)
            finally:
                if rest is not None:
                    await self._run_in_thread(environ, rest.close)

        key = environ.get(KEY_KEY)

        async def ask() -> bool:
            return await self._run_in_thread(environ, is_valid, self._deps.db, key)

        # whoever reads slowly would go on reading for days
        await run_while_valid(send_body(), None if key is None else ask)
        continuation: StreamContinuation | None = environ.get(CONTINUATION_KEY)
        if continuation is not None:
            async with aclosing(
                continue_stream(self._poller, continuation.subscription, self._deps.stream_timing)
            ) as chunks:
                async for chunk in chunks:
                    await send_chunk(chunk)
        await send({"type": "http.response.body", "body": b""})


def _call_wsgi(app: Wsgi, environ: Environ) -> WsgiResponse:
    """Call a WSGI application and read its response, all of it if it is short."""
    environ[STREAMING_KEY] = True
    head: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        head[:] = status, headers

    rest = ResponseStream(app(environ, start_response))
    first, chunk = b"", rest.read_chunk()
    while chunk is not None:
        first += chunk
        chunk = rest.read_chunk() if len(first) < MAX_BUFFERED_BYTES else None
    status, headers = head
    raw_headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
    ]
    if len(first) < MAX_BUFFERED_BYTES:
        rest.close()
        return WsgiResponse(int(status[:3]), raw_headers, first, None)
    return WsgiResponse(int(status[:3]), raw_headers, first, rest)


async def _read_body(receive: Receive) -> bytes | None:
    """Read a body; None if it is too large.

    Raises:
        EOFError: the client disconnected, or sent something else.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise EOFError
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _read_piece(receive: Receive) -> tuple[bytes, bool]:
    """The next part of an upload, of at least `PIECE_BYTES` unless it is the last.

    Raises:
        EOFError: the client disconnected, or sent something else.
    """
    piece = bytearray()
    while len(piece) < PIECE_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            raise EOFError
        piece += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(piece), True
    return bytes(piece), False


async def _run_until_disconnect(receive: Receive, sending: Coroutine[Any, Any, None]) -> None:
    """Run `sending` until it is done or the client has disconnected."""

    async def wait_for_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(sending), asyncio.create_task(wait_for_disconnect())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
