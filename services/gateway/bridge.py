"""Flask on an ASGI server: what waits for the network waits on the event loop, only what works has a thread.

A request gets a thread once it is all there, and for as long as it takes to answer it. So a client that is slow to
send, slow to read, or follows a job holds a socket and nothing else. A body has a deadline; a head has the
server's. Each probe has threads of its own, so that it answers whatever the others wait for.
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

from flask import Flask
from werkzeug.wrappers import Response

from services.gateway.auth import OPEN
from services.gateway.bodies import MAX_BYTES
from services.gateway.deps import EXTENSION, Gateway
from services.gateway.environ import make_environ, set_body
from services.gateway.problems import problem
from services.gateway.streams import FOLLOW, OFFERED, Follow, go_on
from services.gateway.watch import Watch

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Environ = dict[str, Any]
Wsgi = Callable[..., Iterable[bytes]]

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})  # bodies of other methods mean nothing and are not read
UNASKED_BYTES = 16 << 10  # of a body, read before anybody has looked at the token
AT_ONCE_BYTES = 256 << 10  # of an answer, taken in one go
PROBE_THREADS = 2


class Rest:
    """What follows of a long answer; a thread takes one chunk after the other."""

    def __init__(self, result: Iterable[bytes]) -> None:
        self._result, self._chunks = result, iter(result)
        self._taking = threading.Lock()  # a client can hang up while a chunk is being made

    def take(self) -> bytes | None:
        """The next chunk that is not empty; None at the end."""
        with self._taking:
            return next((chunk for chunk in self._chunks if chunk), None)

    def close(self) -> None:
        close: Callable[[], None] | None = getattr(self._result, "close", None)
        with self._taking:
            if close is not None:
                close()


@dataclass(frozen=True)
class Answer:
    """What the application answered; `rest` is None if `first` is all of it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    first: bytes
    rest: Rest | None


class Bridge:
    """The ASGI application around the gateway's Flask application."""

    def __init__(self, app: Flask, threads: int) -> None:
        """`threads`: how many requests are worked on at once, beside the probes."""
        self._app = app
        self._deps = cast(Gateway, app.extensions[EXTENSION]).deps
        self._watch = Watch(self._deps.db, self._deps.streams.poll)
        self._threads = ThreadPoolExecutor(threads, "request")
        self._probes = {path: ThreadPoolExecutor(PROBE_THREADS, path) for path in OPEN}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(make_environ(scope), receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Until the process ends. Streams end as soon as it is told to: the server waits for them."""
        loop = asyncio.get_running_loop()

        def end(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._watch.stop)

        # The loop learns of signals by a descriptor, so these handlers come beside its own, not in their place.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._deps.ringer.close()
        self._deps.db.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, environ: Environ, receive: Receive, send: Send) -> None:
        app: Wsgi = self._app
        if environ["REQUEST_METHOD"] in WITH_BODY:
            app = await self._take_body(environ, receive) or app
        try:
            answer = await self._work(environ, _run, app, environ)
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            if answer.rest is None and FOLLOW not in environ:
                await send({"type": "http.response.body", "body": answer.first})
            else:
                await _while_there(receive, self._send_on(environ, answer, send))
        finally:
            if FOLLOW in environ:
                environ[FOLLOW].slot.free()

    async def _work(self, environ: Environ, work: Callable[..., T], *arguments: Any) -> T:
        threads = self._probes.get(environ["PATH_INFO"], self._threads)
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    async def _take_body(self, environ: Environ, receive: Receive) -> Response | None:
        """Read the body into the environ, or say why not. What is large is read only for those with the token."""
        timeout, length = self._deps.settings.body_timeout_s, environ.get("CONTENT_LENGTH", "")
        size = int(length) if length.isdecimal() else None
        if size is None or size > UNASKED_BYTES:
            refused = await self._work(environ, self._ask_token, environ)
            if refused is not None:
                return refused
        body = None
        if size is None or size <= MAX_BYTES:
            try:
                async with asyncio.timeout(timeout):
                    body = await _read(receive)
            except TimeoutError:
                return self._refuse(environ, 408, f"the body was not there within {timeout:g} s: send it faster")
            except EOFError:
                return self._refuse(environ, 400, "the body broke off, or its chunks are malformed")
        if body is None:
            return self._refuse(environ, 413, f"a body may have {MAX_BYTES} bytes")
        set_body(environ, body)
        return None

    def _ask_token(self, environ: Environ) -> Response | None:
        """The answer to whoever has no token; None for those who have it."""
        with self._app.request_context(environ):
            refusal = self._app.preprocess_request()
            return None if refusal is None else self._last(self._app.make_response(refusal))

    def _refuse(self, environ: Environ, status: int, why: str) -> Response:
        with self._app.request_context(environ):
            return self._last(problem(status, why))

    def _last(self, response: Any) -> Response:
        """An answer that ends the connection: what comes next on it may be what is left of the body."""
        response.headers["Connection"] = "close"
        return self._app.process_response(response)

    async def _send_on(self, environ: Environ, answer: Answer, send: Send) -> None:
        """Send a long answer; it waits here, without a thread, while the client reads."""

        async def more(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        await more(answer.first)
        if answer.rest is not None:
            try:
                while (chunk := await self._work(environ, answer.rest.take)) is not None:
                    await more(chunk)
            finally:
                await self._work(environ, answer.rest.close)
        follow: Follow | None = environ.get(FOLLOW)
        if follow is not None:
            async with aclosing(go_on(self._watch, follow, self._deps.streams)) as chunks:
                async for chunk in chunks:
                    await more(chunk)
        await send({"type": "http.response.body", "body": b""})


def _run(app: Wsgi, environ: Environ) -> Answer:
    """Call a WSGI application, and take its answer whole if it is short."""
    environ[OFFERED] = True
    head: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        head[:] = status, headers

    rest = Rest(app(environ, start_response))
    first, chunk = b"", rest.take()
    while chunk is not None:
        first += chunk
        chunk = rest.take() if len(first) < AT_ONCE_BYTES else None
    status, headers = head
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if len(first) < AT_ONCE_BYTES:
        rest.close()
        return Answer(int(status[:3]), raw, first, None)
    return Answer(int(status[:3]), raw, first, rest)


async def _read(receive: Receive) -> bytes | None:
    """A whole body; None if it is larger than bodies may be.

    Raises:
        EOFError: the client hung up, or sent what is no body.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise EOFError
        body += message.get("body", b"")
        if len(body) > MAX_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _while_there(receive: Receive, sending: Coroutine[Any, Any, None]) -> None:
    """Run `sending` until it is done, or the client has hung up."""

    async def hang_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(sending), asyncio.create_task(hang_up())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
