"""Subscriptions to the events of jobs. One task per process polls the job store for all of them: an
open stream waits on the event loop and uses neither a thread nor a database connection."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from shared.jobs.database import Database
from shared.jobs.keys import list_valid
from shared.jobs.records import Event
from shared.jobs.states import TERMINAL
from shared.jobs.updates import JobUpdate, fetch_updates

log = structlog.get_logger()

PAGE_SIZE = 200  # events per read
KEY_CHECK_S = 3.0  # between two looks whether the keys of streams are still valid


class Subscription:
    """A position in one job's events. It is polled again only once its last page has been read."""

    def __init__(self, job_id: str, after: int, key: str | None = None) -> None:
        self.job_id, self.after, self.key = job_id, after, key
        self.is_over = False  # no event follows those that were read
        self._events: list[Event] = []
        self._has_more = False
        self._delivered = asyncio.Event()

    @property
    def is_waiting(self) -> bool:
        return not self._delivered.is_set()

    def deliver(self, news_item: JobUpdate | None) -> None:
        """Deliver the result of one poll; None if the job no longer exists."""
        events = [e for e in news_item.events if e.seq > self.after] if news_item else []
        self._has_more = news_item is not None and len(news_item.events) == PAGE_SIZE
        self.is_over = (
            self.is_over
            or news_item is None
            or (news_item.state in TERMINAL and not self._has_more)
        )
        if events or self.is_over:
            self._events = events
            self._delivered.set()

    def end(self) -> None:
        """End it; its client resumes elsewhere."""
        self.is_over = True
        self._delivered.set()

    async def read_page(self, timeout_s: float) -> tuple[list[Event], bool]:
        """Wait for events; returns them, none after `timeout_s`, and whether more are already
        stored."""
        try:
            await asyncio.wait_for(self._delivered.wait(), timeout_s)
        except TimeoutError:
            return [], False
        events, self._events = self._events, []
        if events:
            self.after = events[-1].seq
        if not self.is_over:
            self._delivered.clear()
        return events, self._has_more


class EventPoller:
    """All subscriptions of a process. Used on the event loop only."""

    def __init__(self, db: Database, poll_s: float) -> None:
        """`poll_s`: seconds between two queries of the job store."""
        self._db, self._poll_s = db, poll_s
        self._subscriptions: set[Subscription] = set()
        self._executor = ThreadPoolExecutor(1, "watch")
        self._task: asyncio.Task[None] | None = None
        self._poll_requested = asyncio.Event()
        self._stopped = False

    def subscribe(self, job_id: str, after: int, key: str | None = None) -> Subscription:
        """Follow a job from event `after` + 1 on, as long as the key of this id is valid."""
        subscription = Subscription(job_id, after, key)
        if self._stopped:
            subscription.end()
            return subscription
        self._subscriptions.add(subscription)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll_loop())
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def poll_now(self) -> None:
        """Poll again at once: a full page has been read."""
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
                news_by_job = await self._read_news(waiting)
                for subscription in waiting:
                    subscription.deliver(news_by_job.get(subscription.job_id))
                if clock() >= next_key_check:
                    await self._end_invalid()
                    next_key_check = clock() + KEY_CHECK_S
                is_failing = False
            except Exception as error:  # polled again; meanwhile streams send their heartbeats
                if not is_failing:
                    log.warning(
                        "reading events failed; retrying", streams=len(waiting), error=str(error)
                    )
                is_failing = True
            try:
                await asyncio.wait_for(self._poll_requested.wait(), self._poll_s)
            except TimeoutError:
                continue

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

    async def _read_news(self, waiting: list[Subscription]) -> dict[str, JobUpdate]:
        last_seqs: dict[str, int] = {}
        for subscription in waiting:
            last_seqs[subscription.job_id] = min(
                subscription.after, last_seqs.get(subscription.job_id, subscription.after)
            )
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, fetch_updates, self._db, last_seqs, PAGE_SIZE
        )
