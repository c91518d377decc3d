"""Subscriptions to what happens in the job store. One task per process polls it for all of them: an
open stream waits on the event loop and uses neither a thread nor a database connection."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from shared.jobs.database import Database
from shared.jobs.keys import list_valid

log = structlog.get_logger()

KEY_CHECK_S = 3.0  # between two looks whether the keys of streams are still valid


class Subscription(ABC):
    """Somebody's place in what happens, as long as a key is valid (None: the token is no key).

    It is polled again only once what it was delivered has been read.
    """

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.is_over = False  # nothing follows what was read
        self.has_more = False  # more than what was read is already stored
        self._delivered = asyncio.Event()

    @classmethod
    @abstractmethod
    def fetch(cls, db: Database, waiting: Sequence[Any]) -> Mapping[Any, Any]:
        """The news of these subscriptions of this class, by `topic`. Runs in a thread."""

    @property
    @abstractmethod
    def topic(self) -> Any:
        """What it follows."""

    @abstractmethod
    def accept(self, news: Any) -> bool:
        """Take the news of one poll, None if what it follows is gone; returns whether there is
        something to read."""

    @abstractmethod
    def take(self) -> bytes:
        """What was delivered since the last call, in the format of a stream."""

    @property
    def is_waiting(self) -> bool:
        return not self._delivered.is_set()

    def deliver(self, news: Any) -> None:
        """Deliver the result of one poll."""
        if self.accept(news) or self.is_over:
            self._delivered.set()

    def end(self) -> None:
        """End it; its client resumes elsewhere."""
        self.is_over = True
        self._delivered.set()

    async def read(self, timeout_s: float) -> bytes:
        """Wait for news; returns it as `take` does, nothing after `timeout_s`."""
        try:
            await asyncio.wait_for(self._delivered.wait(), timeout_s)
        except TimeoutError:
            return b""
        if not self.is_over:
            self._delivered.clear()
        return self.take()


class StreamPoller:
    """All subscriptions of a process. Used on the event loop only."""

    def __init__(self, db: Database, poll_s: float) -> None:
        """`poll_s`: seconds between two queries of the job store."""
        self._db, self._poll_s = db, poll_s
        self._subscriptions: set[Subscription] = set()
        self._executor = ThreadPoolExecutor(1, "watch")
        self._task: asyncio.Task[None] | None = None
        self._poll_requested = asyncio.Event()
        self._stopped = False

    def subscribe(self, subscription: Subscription) -> None:
        """Poll for it from now on."""
        if self._stopped:
            subscription.end()
            return
        self._subscriptions.add(subscription)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll_loop())

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def poll_now(self) -> None:
        """Poll again at once: somebody has read, and there is more."""
        self._poll_requested.set()

    def stop(self) -> None:
        """End all subscriptions, and every later one."""
        self._stopped = True
        for subscription in self._subscriptions:
            subscription.end()

    async def _poll_loop(self) -> None:
        is_failing = False
        clock = asyncio.get_running_loop().time
        next_key_check = clock() + KEY_CHECK_S
        while self._subscriptions:
            waiting = [s for s in self._subscriptions if s.is_waiting]
            self._poll_requested.clear()
            try:
                for kind in {type(s) for s in waiting}:
                    await self._poll(kind, [s for s in waiting if type(s) is kind])
                if clock() >= next_key_check:
                    await self._end_invalid()
                    next_key_check = clock() + KEY_CHECK_S
                is_failing = False
            except Exception as error:  # polled again; meanwhile streams send their heartbeats
                if not is_failing:
                    log.warning(
                        "reading news failed; retrying", streams=len(waiting), error=str(error)
                    )
                is_failing = True
            try:
                await asyncio.wait_for(self._poll_requested.wait(), self._poll_s)
            except TimeoutError:
                continue

    async def _poll(self, kind: type[Subscription], waiting: Sequence[Subscription]) -> None:
        news = await asyncio.get_running_loop().run_in_executor(
            self._executor, kind.fetch, self._db, waiting
        )
        for subscription in waiting:
            subscription.deliver(news.get(subscription.topic))

    async def _end_invalid(self) -> None:
        """End the subscriptions of keys that have expired or were revoked."""
        followed = {s.key for s in self._subscriptions if s.key is not None}
        if not followed:
            return
        valid = await asyncio.get_running_loop().run_in_executor(
            self._executor, list_valid, self._db, followed
        )
        for subscription in self._subscriptions:
            if subscription.key in followed - valid:
                subscription.end()
