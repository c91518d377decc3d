"""What the gateway needs from outside, and how a route gets at it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from flask import current_app, g

from services.gateway.counts import QueueCounts
from services.gateway.published import PublishedCatalog
from services.gateway.turns import READERS, Turns
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.data_files import DataFile, DataRoot
from shared.jobs import fleet
from shared.jobs.database import Database
from shared.jobs.queue import Ringer

EXTENSION = "palimpsest"


@dataclass(frozen=True)
class StreamTimes:
    """How event streams behave, in seconds."""

    poll: float = 0.5  # between two looks at SQL
    heartbeat: float = 10.0  # silence after which a comment is sent
    longest: float = 120.0  # a stream ends itself then: a reader that is gone unseen holds its slot no longer


@dataclass(frozen=True)
class GatewayDeps:
    """The job store, the artifacts, the bell and the settings."""

    db: Database
    artifacts: ArtifactStore
    ringer: Ringer
    settings: Settings
    streams: StreamTimes = field(default_factory=StreamTimes)


@dataclass(frozen=True)
class Gateway:
    """The dependencies of one app, and the little it keeps in memory between requests."""

    deps: GatewayDeps
    catalog: PublishedCatalog
    stream_slots: threading.BoundedSemaphore
    counts: QueueCounts
    planning: Turns = field(default_factory=lambda: Turns("planning"))
    reading: Turns = field(default_factory=lambda: Turns("reading data files for", READERS))

    @classmethod
    def of(cls, deps: GatewayDeps) -> Gateway:
        slots = threading.BoundedSemaphore(deps.settings.max_events)
        return cls(deps, PublishedCatalog(deps.db), slots, QueueCounts(lambda: fleet.stage_counts(deps.db)))


def gateway() -> Gateway:
    """The gateway that serves this request."""
    return cast(Gateway, current_app.extensions[EXTENSION])


def db() -> Database:
    """The job store."""
    return gateway().deps.db


def identify(files: Sequence[DataFile]) -> Mapping[str, str]:
    """By path, the digests of files of the data root. To be called outside of the turn to plan: it may take minutes.

    Raises:
        InvalidRequest: one is not there, or cannot be identified.
        TransientError: files are read for others, and too many wait already.
    """
    if not files:
        return {}
    with gateway().reading.turn():
        return DataRoot(gateway().deps.settings.data_root).digests(files)


def tenant() -> str:
    """Whose request this is (`services.gateway.auth` has set it)."""
    return cast(str, g.tenant)
