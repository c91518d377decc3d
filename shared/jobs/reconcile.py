"""Recovery that needs no living owner: expire leases, finish cancels, count the wake-ups that are
due.

Any number of reconcilers may run: rows are taken with SKIP LOCKED, or changed only while they still
need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from sqlalchemy import Connection, Update, func, select, update

from shared.errors import TransientError
from shared.jobs.attempts import compute_max_backoff, record_lost_attempt
from shared.jobs.control import cancel_remaining_jobs
from shared.jobs.database import Database
from shared.jobs.states import State
from shared.jobs.tables import IS_CANCELLING, audits, jobs, paused_stages

CLOCK_TOLERANCE_S = 1.0  # by which two readings of one clock may differ
ROWS_PER_TRANSACTION = 500  # rows changed in one transaction, so that nobody waits long for a lock
MAX_ROWS = 10_000  # rows changed in one call
LEASES_PER_TRANSACTION = 100  # an attempt that was lost takes several statements


class ExpiryGuard:
    """Decides whether expired leases can be trusted. Keep one instance per reconciler process.

    A lease says that its holder is dead only if the holder could have renewed it. While the machine
    slept, the job store was away or took no writes, or its clock was set, nobody could; a
    reconciler sees that as a gap between its own looks, by the store's clock. After one, and after
    its start, it waits one lease, in which live workers renew.
    """

    def __init__(self, lease_s: float, interval_s: float) -> None:
        """`lease_s`: validity of a lease; `interval_s`: time between two rounds."""
        self._lease_s = lease_s
        # shorter ones leave a holder time enough to renew
        self._max_gap_s = lease_s / 2 + interval_s
        self._last_look: float | None = None
        self._trusted_since = 0.0
        # the clock may have been, since what depends on it was last put right
        self.clock_set_back = True

    def may_expire(self, now: float) -> bool:
        """Call at every look, with the store's time once the store has let this reconciler
        write."""
        if self._last_look is None or not 0 <= now - self._last_look <= self._max_gap_s:
            self._trusted_since = now
        self.clock_set_back |= self._last_look is not None and now < self._last_look
        self._last_look = now
        return now - self._trusted_since >= self._lease_s

    def reset(self) -> None:
        """The store accepted no write, so no renewal either, and may return with a different
        clock."""
        self._last_look, self.clock_set_back = None, True


def expire_leases(
    db: Database,
    guard: ExpiryGuard,
    max_lost_attempts: int,
    backoff_s: float = 0.0,
    limit: int = LEASES_PER_TRANSACTION,
) -> list[str]:
    """End the attempts whose lease has expired, if the guard allows it; returns the job ids. At
    most `limit` in one transaction."""

    def expire(connection: Connection) -> list[str]:
        expired = select(jobs).where(jobs.c.state == State.RUNNING, jobs.c.lease_until < db.now)
        rows = list(
            connection.execute(
                expired.order_by(jobs.c.lease_until).limit(limit).with_for_update(skip_locked=True)
            )
        )
        # Read last: by now this transaction has waited for the store's locks as long as the
        # renewals have.
        if not guard.may_expire(float(connection.execute(select(db.now)).scalar_one())):
            return []
        for row in rows:
            record_lost_attempt(
                db,
                connection,
                row,
                f"worker {row.worker} stopped renewing its lease",
                max_lost_attempts,
                backoff_s,
            )
        return [r.id for r in rows]

    try:
        return db.run_transaction(expire)
    except TransientError:
        guard.reset()
        raise


def expire_all_leases(
    db: Database, guard: ExpiryGuard, max_lost_attempts: int, backoff_s: float = 0.0
) -> Iterator[list[str]]:
    """As `expire_leases`, until none is left or a round of a reconciler has had enough: when a whole
    rack is lost, its jobs do not come back a hundred per round."""
    for _ in range(MAX_ROWS // LEASES_PER_TRANSACTION):
        limit = LEASES_PER_TRANSACTION
        expired = expire_leases(db, guard, max_lost_attempts, backoff_s, limit)
        yield expired
        if len(expired) < limit:
            return


def clamp_future_times(db: Database, lease_s: float, backoff_s: float) -> int:
    """No lease and no pause may end later than one that begins now: what does was given by a clock
    that has been set back since, and would hold the job of a dead attempt for as long. Returns how
    many were shortened."""
    left_s = (jobs.c.not_before - db.now).label("left")
    pausing = select(jobs.c.id, jobs.c.lost_count, left_s).where(
        jobs.c.state == State.QUEUED, jobs.c.not_before.is_not(None)
    )
    late = (jobs.c.state == State.RUNNING, jobs.c.lease_until > db.now + 2 * lease_s)
    with db.read() as connection:  # mostly there is nothing to write
        leases = connection.execute(select(jobs.c.id).where(*late).limit(1)).first()
        too_long_ids = [
            r.id
            for r in connection.execute(pausing)
            if r.left > compute_max_backoff(r.lost_count, backoff_s) + CLOCK_TOLERANCE_S
        ]
    if leases is None and not too_long_ids:
        return 0

    def shorten(connection: Connection) -> int:
        changed = connection.execute(
            update(jobs).where(*late).values(lease_until=db.now + lease_s)
        ).rowcount
        for start in range(0, len(too_long_ids), 500):
            still = jobs.c.id.in_(too_long_ids[start : start + 500]) & (
                jobs.c.state == State.QUEUED
            )
            changed += connection.execute(
                update(jobs).where(still).values(not_before=None)
            ).rowcount
        return int(changed)

    return db.run_transaction(shorten)


def shift_future_queue_times(db: Database) -> int:
    """No job may have been queued later than now: what was, by a clock that has been set back
    since, would stand behind all that comes in until the clock is there again. Such jobs keep their
    order among themselves. Returns how many were changed; call it again until there are none, for
    one call takes seconds at most.

    Looks through all queued jobs: to be done when the clock was set back.
    """
    future = (jobs.c.state == State.QUEUED, jobs.c.queued_at > db.now)
    with db.read() as connection:
        ahead_s = connection.execute(
            select(func.max(jobs.c.queued_at) - db.now).where(*future)
        ).scalar_one()
        ids = list(
            connection.execute(
                select(jobs.c.id).where(*future).order_by(jobs.c.id).limit(MAX_ROWS)
            ).scalars()
        )
    if ahead_s is None or ahead_s <= CLOCK_TOLERANCE_S:
        return 0
    shifted = {"queued_at": jobs.c.queued_at - ahead_s, "rank": jobs.c.rank - ahead_s}
    changed = 0
    for start in range(0, len(ids), ROWS_PER_TRANSACTION):
        # what was queued meanwhile, or put right by another reconciler, is of the present
        these = (
            update(jobs)
            .where(jobs.c.id.in_(ids[start : start + ROWS_PER_TRANSACTION]), *future)
            .values(**shifted)
        )
        changed += db.run_transaction(partial(_execute_update, these))
    return changed


def _execute_update(statement: Update, connection: Connection) -> int:
    return int(connection.execute(statement).rowcount)


def finish_cancels(db: Database) -> None:
    """Go on with cancelled audits whose jobs are not all cancelled yet: the process that began
    may have died."""
    with db.read() as connection:
        audit_ids = list(connection.execute(select(audits.c.id).where(IS_CANCELLING)).scalars())
    for audit in audit_ids:
        cancel_remaining_jobs(db, audit)


def count_claimable(db: Database, limits: Mapping[str, int]) -> dict[str, int]:
    """How many jobs of each stage could be claimed now, counted up to what is `enough` for that
    stage. Paused stages are left out."""
    counts = {}
    with db.read() as connection:
        paused = set(connection.execute(select(paused_stages.c.stage)).scalars())
        for stage, limit in limits.items():
            if stage in paused:
                continue
            ready = jobs.c.not_before.is_(None) | (jobs.c.not_before <= db.now)
            claimable = (
                select(jobs.c.id)
                .where(jobs.c.stage == stage, jobs.c.state == State.QUEUED, ready)
                .limit(limit)
            )
            counts[stage] = int(
                connection.execute(
                    select(func.count()).select_from(claimable.subquery())
                ).scalar_one()
            )
    return counts
