"""What nobody is alive to do: put lost attempts back, finish cancels, count what should be rung.

Any number of reconcilers may run: rows are taken with SKIP LOCKED, or changed only while they still need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import Connection, Update, func, select, update

from shared.errors import TransientError
from shared.jobs.claims import charge, longest_pause
from shared.jobs.control import cancel_rest
from shared.jobs.database import Database
from shared.jobs.states import State
from shared.jobs.tables import audits, jobs

SLACK_S = 1.0  # by which two readings of one clock may differ
SLICE = 500  # rows changed in one transaction, so that nobody waits long for a lock
MOST = 10_000  # rows changed in one call


class Watch:
    """Whether leases that have run out may be believed. Keep one for as long as the reconciler lives.

    A lease says that its holder is dead only if the holder could have renewed it. While the machine slept, the job
    store was away or took no writes, or its clock was set, nobody could; a reconciler sees that as a gap between its
    own looks, by the store's clock. After one, and after its start, it waits one lease, in which whoever lives renews.
    """

    def __init__(self, lease: float, interval: float) -> None:
        """`lease`: seconds that a claim holds; `interval`: seconds between two looks."""
        self._lease = lease
        self._longest = lease / 2 + interval  # shorter ones leave a holder time enough to renew
        self._looked: float | None = None
        self._since = 0.0
        self.set_back = True  # the clock may have been, since what depends on it was last put right

    def may_expire(self, now: float) -> bool:
        """Call at every look, with the store's time once the store has let this reconciler write."""
        if self._looked is None or not 0 <= now - self._looked <= self._longest:
            self._since = now
        self.set_back |= self._looked is not None and now < self._looked
        self._looked = now
        return now - self._since >= self._lease

    def start_anew(self) -> None:
        """The store took no write: nor did it take anybody's renewal, and it may come back with another clock."""
        self._looked, self.set_back = None, True


def expire_leases(db: Database, watch: Watch, max_lost: int, backoff: float = 0.0, limit: int = 100) -> list[str]:
    """Jobs whose lease ran out lose their attempt, if the watch lets them; returns their ids. At most `limit` in one
    transaction."""

    def work(connection: Connection) -> list[str]:
        gone = select(jobs).where(jobs.c.state == State.RUNNING, jobs.c.lease_until < db.now)
        rows = list(
            connection.execute(gone.order_by(jobs.c.lease_until).limit(limit).with_for_update(skip_locked=True))
        )
        # Read last: by now this transaction has waited for the store's locks as long as the renewals have.
        if not watch.may_expire(float(connection.execute(select(db.now)).scalar_one())):
            return []
        for row in rows:
            charge(db, connection, row, f"worker {row.worker} stopped renewing its lease", max_lost, backoff)
        return [r.id for r in rows]

    try:
        return db.retrying(work)
    except TransientError:
        watch.start_anew()
        raise


def bound_times(db: Database, lease: float, backoff: float) -> int:
    """No lease and no pause may end later than one that begins now: what does was given by a clock that has been set
    back since, and would hold the job of a dead attempt for as long. Returns how many were shortened."""
    left = (jobs.c.not_before - db.now).label("left")
    pausing = select(jobs.c.id, jobs.c.lost_count, left).where(
        jobs.c.state == State.QUEUED, jobs.c.not_before.is_not(None)
    )
    late = (jobs.c.state == State.RUNNING, jobs.c.lease_until > db.now + 2 * lease)
    with db.read() as connection:  # mostly there is nothing to write
        leases = connection.execute(select(jobs.c.id).where(*late).limit(1)).first()
        over = [r.id for r in connection.execute(pausing) if r.left > longest_pause(r.lost_count, backoff) + SLACK_S]
    if leases is None and not over:
        return 0

    def work(connection: Connection) -> int:
        changed = connection.execute(update(jobs).where(*late).values(lease_until=db.now + lease)).rowcount
        for start in range(0, len(over), 500):
            still = jobs.c.id.in_(over[start : start + 500]) & (jobs.c.state == State.QUEUED)
            changed += connection.execute(update(jobs).where(still).values(not_before=None)).rowcount
        return int(changed)

    return db.retrying(work)


def bound_ages(db: Database) -> int:
    """No job may have been queued later than now: what was, by a clock that has been set back since, would stand
    behind all that comes in until the clock is there again. Such jobs keep their order among themselves. Returns how
    many were changed; call it again until there are none, for one call takes seconds at most.

    Looks through all queued jobs: to be done when the clock was set back.
    """
    future = (jobs.c.state == State.QUEUED, jobs.c.queued_at > db.now)
    with db.read() as connection:
        ahead = connection.execute(select(func.max(jobs.c.queued_at) - db.now).where(*future)).scalar_one()
        ids = list(connection.execute(select(jobs.c.id).where(*future).order_by(jobs.c.id).limit(MOST)).scalars())
    if ahead is None or ahead <= SLACK_S:
        return 0
    shifted = {"queued_at": jobs.c.queued_at - ahead, "rank": jobs.c.rank - ahead}
    changed = 0
    for start in range(0, len(ids), SLICE):
        # what was queued meanwhile, or put right by another reconciler, is of the present
        these = update(jobs).where(jobs.c.id.in_(ids[start : start + SLICE]), *future).values(**shifted)
        changed += db.retrying(partial(_change, these))
    return changed


def _change(statement: Update, connection: Connection) -> int:
    return int(connection.execute(statement).rowcount)


def finish_cancels(db: Database) -> None:
    """Go on with cancelled audits whose jobs are not all cancelled yet: whoever began it may have died."""
    with db.read() as connection:
        begun = list(connection.execute(select(audits.c.id).where(audits.c.cancelling)).scalars())
    for audit in begun:
        cancel_rest(db, audit)


def count_claimable(db: Database, enough: Mapping[str, int]) -> dict[str, int]:
    """How many jobs of each stage could be claimed now, counted up to what is `enough` for that stage."""
    counts = {}
    with db.read() as connection:
        for stage, most in enough.items():
            ready = jobs.c.not_before.is_(None) | (jobs.c.not_before <= db.now)
            some = select(jobs.c.id).where(jobs.c.stage == stage, jobs.c.state == State.QUEUED, ready).limit(most)
            counts[stage] = int(connection.execute(select(func.count()).select_from(some.subquery())).scalar_one())
    return counts
