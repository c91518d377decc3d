"""Where a new job's inputs can come from, given one job: itself, or what it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from shared.catalog import Catalog
from shared.errors import InvalidRequest
from shared.jobs.database import Database
from shared.jobs.mapping import load_job, load_jobs, slices
from shared.jobs.records import Input, Job
from shared.jobs.states import State
from shared.jobs.tables import jobs

SHOWN = 3  # sources of a role that a message names


@dataclass(frozen=True)
class Relations:
    """What wirings say of outputs, for a job of one stage."""

    # what is made -> what it takes the place of, for those who come after
    replaces: Mapping[str, str]
    from_unreplaced: bool  # whether the new job starts from what no such output has replaced
    twins: frozenset[str]  # roles that come of another model: its own inputs are nobody else's

    @classmethod
    def from_catalog(cls, catalog: Catalog, stage: str) -> Relations:
        """Of the wirings of a catalog. A stage that makes a stand-in itself starts from the
        unchanged."""
        wirings = {e.name: e.wiring for e in catalog if e.kind == "stage" and e.wiring is not None}
        own = wirings.get(stage)
        return cls(
            replaces={
                str(stand_in): str(role)
                for w in wirings.values()
                for stand_in, role in w.replaces.items()
            },
            from_unreplaced=own is not None and bool(own.replaces),
            twins=frozenset(role for wiring in wirings.values() for role in wiring.twins),
        )


class Lineage:
    """Where each role of a new job comes from: load the jobs in `pending_ids` and pass them to
    `add_level()` until there are none; `inputs` is complete then.

    The nearest source counts. At one job, what it makes goes before what it was given.
    """

    def __init__(self, job_id: str, roles: Iterable[str], relations: Relations) -> None:
        """`roles` are those that the new job needs, or uses if they are there."""
        self.pending_ids = [job_id]
        self.inputs: dict[str, Input] = {}
        self._relations = relations
        self._open_roles = dict.fromkeys(roles)
        self._seen = {job_id}

    def add_level(self, jobs_asked_for: Iterable[Job]) -> None:
        """The jobs that were asked for, all at the same distance. They are looked at one after the
        other: of a report they are thousands.

        Raises:
            InvalidRequest: two of them supply the same role from different sources.
        """
        produced: dict[str, dict[Input, None]] = {role: {} for role in self._open_roles}
        given: dict[str, dict[Input, None]] = {role: {} for role in self._open_roles}
        parent_ids: dict[str, None] = {}
        for job in jobs_asked_for:
            for offers, sources in (
                (self._outputs_of(job), produced),
                (self._inputs_of(job), given),
            ):
                for role in self._open_roles:
                    if role in offers:
                        sources[role][offers[role]] = None
            parent_ids |= dict.fromkeys(
                i.parent for i in job.inputs if i.parent and i.role not in self._relations.twins
            )
        for sources in (produced, given):
            for role in list(self._open_roles):
                if len(sources[role]) > 1:
                    raise InvalidRequest(
                        f"{role} could come from {_some_of(sources[role])}: name the one to use",
                        f"inputs.{role}",
                    )
                if sources[role]:
                    self.inputs[role] = next(iter(sources[role]))
                    del self._open_roles[role]
        self.pending_ids = (
            [job_id for job_id in parent_ids if job_id not in self._seen]
            if self._open_roles
            else []
        )
        self._seen.update(self.pending_ids)

    def _outputs_of(self, job: Job) -> dict[str, Input]:
        """What the job makes; once it has succeeded, what it has made."""
        produced_roles = (
            [a.role for a in job.artifacts] if job.state is State.SUCCEEDED else job.produces
        )
        offers = {role: Input(role, job.id, role) for role in produced_roles}
        replaces = {} if self._relations.from_unreplaced else self._relations.replaces
        return {
            role: Input(role, job.id, stand_in)
            for stand_in, role in replaces.items()
            if stand_in in produced_roles
        } | offers

    def _inputs_of(self, job: Job) -> dict[str, Input]:
        """What the job was given; to a job that starts from the unchanged, no stand-ins."""
        by_role = {i.role: i for i in job.inputs}
        if self._relations.from_unreplaced:
            return {
                role: i
                for role, i in by_role.items()
                if self._relations.replaces.get(i.parent_role or "") != role
            }
        return by_role


def _some_of(sources: Iterable[Input]) -> str:
    """The first few in words, and how many others there are."""
    names = sorted(str(source.parent or source.sha256) for source in sources)
    rest = [f"{len(names) - SHOWN:,} others"] if len(names) > SHOWN else []
    return " and ".join([*names[:SHOWN], *rest])


def _load(connection: Connection, tenant: str, ids: Sequence[str]) -> Iterator[Job]:
    for some in slices(ids):
        rows = connection.execute(
            select(jobs).where(jobs.c.id.in_(some), jobs.c.tenant == tenant)
        ).all()
        yield from load_jobs(connection, rows)


def find_inputs(
    db: Database, tenant: str, job_id: str, catalog: Catalog, stage: str, roles: Iterable[str]
) -> tuple[Job, dict[str, Input]]:
    """The job, and by role the inputs that a job of `stage` can have from it or from what it was
    made of. A role that none of them supplies is left out.

    Raises:
        NotFound: no such job of this tenant.
        InvalidRequest: two jobs at the same distance could supply a role.
    """
    lineage = Lineage(job_id, roles, Relations.from_catalog(catalog, stage))
    with db.read() as connection:
        start = load_job(connection, job_id, tenant)
        lineage.add_level([start])
        while lineage.pending_ids:
            lineage.add_level(_load(connection, tenant, lineage.pending_ids))
    return start, lineage.inputs
