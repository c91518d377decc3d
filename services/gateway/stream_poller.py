"""Subscriptions to what happens in the job store. One task per process polls it for all of them: an
open stream waits on the event loop and uses neither a thread nor a database connection."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection, Mapping, Sequence
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
        self._unchecked: set[Subscription] = set()  # whose keys were not looked up since they came
        self._failing: set[str] = set()  # steps
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
        self._unchecked.add(subscription)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll_loop())

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        self._unchecked.discard(subscription)

    def poll_now(self) -> None:
        """Poll again at once: somebody has read, and there is more."""
        self._poll_requested.set()

    def stop(self) -> None:
        """End all subscriptions, and every later one."""
        self._stopped = True
        for subscription in self._subscriptions:
            subscription.end()

    async def _poll_loop(self) -> None:
        clock = asyncio.get_running_loop().time
        next_key_check = clock() + KEY_CHECK_S
        while self._subscriptions:
            self._poll_requested.clear()
            # Before anything is delivered, and whether or not that fails. A new one's key was
            # accepted from memory.
            is_due = clock() >= next_key_check
            to_check = set(self._subscriptions if is_due else self._unchecked)
            if await self._attempt("checking keys", self._end_invalid(to_check)) and is_due:
                next_key_check = clock() + KEY_CHECK_S
            waiting = [s for s in self._subscriptions if s.is_waiting]
            for kind in {type(s) for s in waiting}:
                polled = [s for s in waiting if type(s) is kind]
                await self._attempt(f"reading {kind.__name__}", self._poll(kind, polled))
            try:
                await asyncio.wait_for(self._poll_requested.wait(), self._poll_s)
            except TimeoutError:
                continue

    async def _attempt(self, step: str, running: Awaitable[None]) -> bool:
        """Whether a step succeeded. One that has failed is tried again in the next round; meanwhile,
        streams send their heartbeats."""
        try:
            await running
        except Exception as error:
            if step not in self._failing:
                log.warning("a step of event streams failed; retrying", step=step, error=str(error))
            self._failing.add(step)
            return False
        self._failing.discard(step)
        return True

    async def _poll(self, kind: type[Subscription], waiting: Sequence[Subscription]) -> None:
        news = await asyncio.get_running_loop().run_in_executor(
            self._executor, kind.fetch, self._db, waiting
        )
        for subscription in waiting:
            subscription.deliver(news.get(subscription.topic))

    async def _end_invalid(self, subscriptions: Collection[Subscription]) -> None:
        """End those of these subscriptions whose keys have expired or were revoked."""
        followed = {s.key for s in subscriptions if s.key is not None}
        if followed:
            valid = await asyncio.get_running_loop().run_in_executor(
                self._executor, list_valid, self._db, followed
            )
            for subscription in subscriptions:
                if subscription.key in followed - valid:
                    subscription.end()
        self._unchecked.difference_update(subscriptions)
