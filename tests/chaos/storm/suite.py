"""The storm of the suite: every kind of fault once, on a whole served system with clients from
outside; then deliberate damage to what it stored, which the same oracle has to find."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from shared.jobs.database import Database
from shared.jobs.tables import events, job_inputs, jobs, workers
from tests.chaos.storm.faults import deck
from tests.chaos.storm.oracle import Finding
from tests.chaos.storm.report import describe_summary
from tests.chaos.storm.run import Judged, weathered
from tests.chaos.storm.settings import SUITE, Piece

# on a machine ten times busier; `make chaos` holds the bound of 90 s on a usual one
BUSY_RECOVERY_S = 300.0


def check_storm(folder: Path, store: str) -> None:
    """A storm in which every kind of fault comes once."""
    with weathered(folder / "storm", Piece(7, store, SUITE, rounds=1)) as judged:
        history = judged.history()
        line, findings = judged.judge(history)
        assert not findings, "\n".join([describe_summary(line), *map(str, findings)])
        assert {kind.name for kind in deck(store)} <= set(line["faults"])
        assert all(s is not None and s <= BUSY_RECOVERY_S for _, s in line["recovery_s"]), (
            judged.slowest(history)
        )
        assert line["states"]["succeeded"] >= 20
        for damage, wanted in DAMAGE.items():
            before, findings = findings, damaged(judged, damage)
            new = Counter(f.kind for f in findings) - Counter(f.kind for f in before)
            assert new[wanted] > 0, f"{damage.__name__} was not noticed"


def damaged(judged: Judged, damage: Callable[[Connection, str], None]) -> list[Finding]:
    """What is found after this was done to a job that had succeeded, on which none depends."""
    db = Database(judged.system.store.url)
    parents = select(job_inputs.c.parent).where(job_inputs.c.parent.is_not(None))
    whole = (jobs.c.state == "succeeded") & (jobs.c.stage == "sleep") & (jobs.c.lost_count == 0)
    with db.write() as connection:
        query = (
            select(jobs.c.id).where(whole, jobs.c.id.not_in(parents)).order_by(jobs.c.id).limit(1)
        )
        damage(connection, connection.execute(query).scalar_one())
    db.close()
    return judged.judge(judged.history())[1]


def delete_a_job(connection: Connection, job: str) -> None:
    connection.execute(delete(jobs).where(jobs.c.id == job))


def charge_a_job(connection: Connection, job: str) -> None:
    connection.execute(update(jobs).where(jobs.c.id == job).values(lost_count=1))


def leave_a_job_held(connection: Connection, job: str) -> None:
    connection.execute(update(jobs).where(jobs.c.id == job).values(state="paused"))


def let_a_job_succeed_twice(connection: Connection, job: str) -> None:
    last = connection.execute(
        select(func.max(events.c.seq)).where(events.c.job == job)
    ).scalar_one()
    data = json.dumps({"from": "running", "to": "succeeded", "because": "done"})
    connection.execute(
        insert(events).values(job=job, seq=last + 1, at=0.0, kind="state", data=data)
    )


def make_two_jobs_of_one(connection: Connection, job: str) -> None:
    row: dict[str, Any] = dict(
        connection.execute(select(jobs).where(jobs.c.id == job)).mappings().one()
    )
    connection.execute(insert(jobs).values({**row, "id": "job_" + "0" * 20, "dedup_key": None}))


def leave_a_worker_drained(connection: Connection, _job: str) -> None:
    connection.execute(update(workers).values(drain=True))


DAMAGE: dict[Callable[[Connection, str], None], str] = {
    charge_a_job: "charged",
    let_a_job_succeed_twice: "unexpected",
    delete_a_job: "lost",
    make_two_jobs_of_one: "doubled",
    leave_a_job_held: "stuck",
    leave_a_worker_drained: "stuck",
}
