"""What happened to many jobs since each was last looked at: one question for all who follow
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select

from shared.jobs.database import Database
from shared.jobs.mapping import build_event
from shared.jobs.records import Event
from shared.jobs.states import State
from shared.jobs.tables import events, jobs

IDS_PER_STATEMENT = 500  # databases bound how many values a statement takes


@dataclass(frozen=True)
class JobUpdate:
    """A job's state, and then its events after the one that was asked for."""

    state: State
    events: list[Event]


def fetch_updates(db: Database, last_seqs: Mapping[str, int], limit: int) -> dict[str, JobUpdate]:
    """By job id, its news after the event `seen` names: at most `limit` events of each.

    A statement tells which of 500 jobs have any; only those cost another. Jobs that do not exist
    are left out. The ids are not checked against a tenant: the caller has done that.

    Raises:
        TransientError: the job store does not answer.
    """
    updates: dict[str, JobUpdate] = {}
    remaining_ids = iter(last_seqs)
    with db.read() as connection:
        while ids := list(islice(remaining_ids, IDS_PER_STATEMENT)):
            query = select(jobs.c.id, jobs.c.state, jobs.c.event_seq).where(jobs.c.id.in_(ids))
            # the state first: an end that is seen here has its event in the pages that follow
            for job_id, state, last_seq in connection.execute(query).all():
                page: list[Event] = []
                if last_seq > last_seqs[job_id]:
                    after = (events.c.job == job_id) & (events.c.seq > last_seqs[job_id])
                    rows = connection.execute(
                        select(events).where(after).order_by(events.c.seq).limit(limit)
                    )
                    page = [build_event(row) for row in rows]
                updates[job_id] = JobUpdate(State(state), page)
    return updates
