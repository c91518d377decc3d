"""A client that means harm: it opens connections to a gateway and keeps them busy with next to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.support.waiting import PATIENCE

HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: gateway\r\nX-Slow: "
WHOLE_REQUEST = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"


@dataclass
class Attack:
    """While it is open: silent connections (idle ones after an answer, and half-sent heads, in turn), bodies that
    come one byte at a time, and event streams. What the gateway closes is opened again."""

    port: int
    silent: int = 0
    bodies: int = 0
    streams: int = 0
    stream_heads: Sequence[bytes] = ()  # whole requests that open a stream, taken in turn
    between_bytes: float = 2.0  # seconds
    standing: dict[str, int] = field(default_factory=lambda: {"silent": 0, "bodies": 0, "streams": 0})
    heard: dict[int, bytes] = field(default_factory=dict)  # what each stream brought

    def __enter__(self) -> Attack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._soft = soft, hard
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._attack = asyncio.run_coroutine_threadsafe(self._run(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._attack.cancel()
        asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._soft)

    @property
    def all_there(self) -> bool:
        """Whether every connection stands at this moment."""
        wanted = {"silent": self.silent, "bodies": self.bodies, "streams": self.streams}
        return self.standing == wanted

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(self.silent):
                group.create_task(self._again(self._half if n % 2 else self._idle))
            for _ in range(self.bodies):
                group.create_task(self._again(self._body))
            for n in range(self.streams):
                group.create_task(self._again(partial(self._stream, n)))

    async def _settle(self) -> None:
        mine = asyncio.current_task()
        # again and again: a task that is just being answered may not hear that it is cancelled
        while others := [t for t in asyncio.all_tasks() if t is not mine]:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1)

    async def _again(self, what: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            try:
                await what(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.05)
            finally:
                writer.transport.abort()

    @contextlib.contextmanager
    def _stands(self, kind: str) -> Iterator[None]:
        self.standing[kind] += 1
        try:
            yield
        finally:
            self.standing[kind] -= 1

    async def _half(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HALF_A_HEAD)
        with self._stands("silent"):
            await reader.read(1)

    async def _idle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE_REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        with self._stands("silent"):
            await reader.read()

    async def _body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n")
        with self._stands("bodies"):
            for _ in range(1000):
                writer.write(b"{")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), self.between_bytes)
                    return

    async def _stream(self, n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.stream_heads[n % len(self.stream_heads)])
        if b" 200 " not in await reader.readline():
            await asyncio.sleep(0.2)
            return
        with self._stands("streams"):
            while chunk := await reader.read(65536):
                self.heard[n] = self.heard.get(n, b"") + chunk
