"""Whether the key that a long response is sent to is still valid: asked again every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.errors import TransientError
from shared.jobs.database import Database
from shared.jobs.keys import list_valid

KEY_KEY = "palimpsest.key"  # in the WSGI environ: the id of the request's key, None for the token
KEY_CHECK_S = 3.0


class KeyEnded(Exception):
    """The key was revoked, has expired, or is of a tenant that was disabled."""


def is_valid(db: Database, key: str) -> bool:
    """Whether a key is valid, as far as is known: while the job store does not answer, what was
    accepted goes on."""
    try:
        return bool(list_valid(db, {key}))
    except TransientError:
        return True


async def run_while_valid(
    sending: Awaitable[None], ask: Callable[[], Awaitable[bool]] | None
) -> None:
    """Run `sending`, even if it stands still because nobody reads, until it is done or its key has
    ended.

    Args:
        ask: whether the key is still valid; None of the token, which does not end.

    Raises:
        KeyEnded: it is not.
    """
    task = asyncio.ensure_future(sending)
    try:
        while ask is not None:
            await asyncio.wait([task], timeout=KEY_CHECK_S)
            if task.done():
                break
            if not await ask():
                raise KeyEnded("the key of this request is no longer valid")
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
