"""A slowloris client: it opens connections to a gateway and keeps them busy with almost no data."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.support.waiting import TIMEOUT_S

PARTIAL_HEAD = b"GET /livez HTTP/1.1\r\nHost: gateway\r\nX-Slow: "
COMPLETE_REQUEST = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"


@dataclass
class Slowloris:
    """While it is open: silent connections (idle ones after an answer, and half-sent heads, in
    turn), bodies that come one byte at a time, and event streams. What the gateway closes is opened
    again."""

    port: int
    silent_count: int = 0
    body_count: int = 0
    stream_count: int = 0
    stream_requests: Sequence[bytes] = ()  # whole requests that open a stream, taken in turn
    byte_interval_s: float = 2.0  # seconds
    open_counts: dict[str, int] = field(
        default_factory=lambda: {"silent": 0, "bodies": 0, "streams": 0}
    )
    received: dict[int, bytes] = field(default_factory=dict)  # what each stream brought

    def __enter__(self) -> Slowloris:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._file_limits = soft, hard
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._future = asyncio.run_coroutine_threadsafe(self._run(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._future.cancel()
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._file_limits)

    @property
    def is_complete(self) -> bool:
        """Whether every connection stands at this moment."""
        expected = {
            "silent": self.silent_count,
            "bodies": self.body_count,
            "streams": self.stream_count,
        }
        return self.open_counts == expected

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(self.silent_count):
                group.create_task(
                    self._reconnect_forever(self._send_partial_head if n % 2 else self._stay_idle)
                )
            for _ in range(self.body_count):
                group.create_task(self._reconnect_forever(self._drip_body))
            for n in range(self.stream_count):
                group.create_task(self._reconnect_forever(partial(self._read_stream, n)))

    async def _cancel_all(self) -> None:
        mine = asyncio.current_task()
        # again and again: a task that is just being answered may not hear that it is cancelled
        while others := [t for t in asyncio.all_tasks() if t is not mine]:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1)

    async def _reconnect_forever(
        self, behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.2)
                continue
            try:
                await behave(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.05)
            finally:
                writer.transport.abort()

    @contextlib.contextmanager
    def _count_open(self, kind: str) -> Iterator[None]:
        self.open_counts[kind] += 1
        try:
            yield
        finally:
            self.open_counts[kind] -= 1

    async def _send_partial_head(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(PARTIAL_HEAD)
        with self._count_open("silent"):
            await reader.read(1)

    async def _stay_idle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(COMPLETE_REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        with self._count_open("silent"):
            await reader.read()

    async def _drip_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n")
        with self._count_open("bodies"):
            for _ in range(1000):
                writer.write(b"{")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), self.byte_interval_s)
                    return

    async def _read_stream(
        self, n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(self.stream_requests[n % len(self.stream_requests)])
        if b" 200 " not in await reader.readline():
            await asyncio.sleep(0.2)
            return
        with self._count_open("streams"):
            while chunk := await reader.read(65536):
                self.received[n] = self.received.get(n, b"") + chunk
