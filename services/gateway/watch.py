"""Who follows which job. One task of a process asks the job store for all of them: an open stream waits on the
event loop and holds neither a thread nor a connection of the database."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from shared.jobs.database import Database
from shared.jobs.news import News, news
from shared.jobs.records import Event
from shared.jobs.states import TERMINAL

log = structlog.get_logger()

PAGE = 200  # events that are read at once


class Reader:
    """A place in one job's events. It is asked for again only once its page has been taken."""

    def __init__(self, job_id: str, after: int) -> None:
        self.job_id, self.after = job_id, after
        self.over = False  # nothing follows what has been taken
        self._page: list[Event] = []
        self._full = False
        self._told = asyncio.Event()

    @property
    def waiting(self) -> bool:
        return not self._told.is_set()

    def tell(self, found: News | None) -> None:
        """What one look brought; None: there is no such job any more."""
        page = [e for e in found.events if e.seq > self.after] if found else []
        self._full = found is not None and len(found.events) == PAGE
        self.over = self.over or found is None or (found.state in TERMINAL and not self._full)
        if page or self.over:
            self._page = page
            self._told.set()

    def end(self) -> None:
        """Let it end; its reader resumes elsewhere."""
        self.over = True
        self._told.set()

    async def page(self, seconds: float) -> tuple[list[Event], bool]:
        """Events as they come, and whether as many wait behind them; none if nothing happens for `seconds`."""
        try:
            await asyncio.wait_for(self._told.wait(), seconds)
        except TimeoutError:
            return [], False
        page, self._page = self._page, []
        if page:
            self.after = page[-1].seq
        if not self.over:
            self._told.clear()
        return page, self._full


class Watch:
    """All readers of a process. Used on the event loop only."""

    def __init__(self, db: Database, poll: float) -> None:
        """`poll`: seconds between two looks at the job store."""
        self._db, self._poll = db, poll
        self._readers: set[Reader] = set()
        self._thread = ThreadPoolExecutor(1, "watch")
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._stopped = False

    def open(self, job_id: str, after: int) -> Reader:
        """Follow a job from event `after` + 1 on."""
        reader = Reader(job_id, after)
        if self._stopped:
            reader.end()
            return reader
        self._readers.add(reader)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return reader

    def close(self, reader: Reader) -> None:
        self._readers.discard(reader)

    def hurry(self) -> None:
        """Look again at once: somebody has read a full page."""
        self._hurry.set()

    def stop(self) -> None:
        """End all readers, and each that comes after."""
        self._stopped = True
        for reader in self._readers:
            reader.end()

    async def _run(self) -> None:
        away = False
        while self._readers:
            waiting = [r for r in self._readers if r.waiting]
            self._hurry.clear()
            try:
                found = await self._look(waiting)
                for reader in waiting:
                    reader.tell(found.get(reader.job_id))
                away = False
            except Exception as error:  # a look that fails is made again; meanwhile streams send their heartbeats
                if not away:
                    log.warning("events cannot be read; trying again", streams=len(waiting), error=str(error))
                away = True
            try:
                await asyncio.wait_for(self._hurry.wait(), self._poll)
            except TimeoutError:
                continue

    async def _look(self, waiting: list[Reader]) -> dict[str, News]:
        seen: dict[str, int] = {}
        for reader in waiting:
            seen[reader.job_id] = min(reader.after, seen.get(reader.job_id, reader.after))
        return await asyncio.get_running_loop().run_in_executor(self._thread, news, self._db, seen, PAGE)
