"""What past jobs took: the latest of each kind that a plan asks for, by index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text

from shared.jobs.cost_keys import CostKeys
from shared.jobs.database import Database
from shared.jobs.mapping import slices
from shared.jobs.records import JobCost, PlannedJob
from shared.jobs.tables import jobs

PAST_JOBS = 15  # of one kind that an estimate rests on, at most: the latest
MAX_MACHINES = 8  # kinds of machines that are asked for


class Basis(StrEnum):
    """How like a planned job the past jobs are that its estimate rests on, the closest first."""

    EQUAL = "equal"  # but for seeds, code and data
    SIMILAR = "similar"  # other methods made their inputs
    OTHER_SETTINGS = "other_settings"  # only stage and method are the same: a guess


class CostKind(NamedTuple):
    """Which past jobs to look for: those with one of two keys, or else those of a method."""

    equal: str
    similar: str
    stage: str
    method: str | None


class PastCosts(NamedTuple):
    """What the latest past jobs of one kind took."""

    basis: Basis
    costs: tuple[JobCost, ...]


def describe_machine(device: str, threads: int) -> str:
    """The kind of machine on which times can be compared."""
    return f"{device}, {threads} {'thread' if threads == 1 else 'threads'}"


def find_parent_cost_keys(
    db: Database, tenant: str, planned: Sequence[PlannedJob]
) -> dict[str, CostKeys]:
    """By id, the keys of the stored jobs from which planned ones take their inputs."""
    own = {job.request_key for job in planned}
    ids = sorted({i.parent for job in planned for i in job.inputs if i.parent} - own)
    keys: dict[str, CostKeys] = {}
    if ids:
        columns = (jobs.c.id, jobs.c.equal_cost_key, jobs.c.similar_cost_key)
        with db.read() as connection:
            for batch in slices(ids):
                query = select(*columns).where(
                    jobs.c.tenant == tenant,
                    jobs.c.id.in_(batch),
                    jobs.c.equal_cost_key.is_not(None),
                )
                keys |= {row[0]: CostKeys(*row[1:]) for row in connection.execute(query)}
    return keys


_COLUMNS = "run_s, cpu_s, memory_bytes, device_memory_bytes"
# In a subquery, for SQLite has no LIMIT in the parts of a UNION. Every part walks one index.
_PART = """SELECT * FROM (SELECT {n} AS n, {columns} FROM jobs
    WHERE tenant = :tenant AND {match} AND ran_on = :machine_{m} AND run_s IS NOT NULL
    ORDER BY finished_at DESC LIMIT {limit}) AS part_{n}_{m}"""


def find_past_costs(
    db: Database, tenant: str, kinds: Iterable[CostKind], machines: Mapping[str, Sequence[str]]
) -> dict[CostKind, PastCosts]:
    """For each kind of job, what its tenant's latest past jobs took: of those with equal settings
    if there are any, else of similar ones, else of the same method. One without any is left out.

    Args:
        machines: by stage, the kinds of machine that may run it, as `describe_machine` says it.
    """
    past: dict[CostKind, PastCosts] = {}
    wanted = list(dict.fromkeys(kinds))
    with db.read() as connection:
        for basis, match in (
            (Basis.EQUAL, _match_equal),
            (Basis.SIMILAR, _match_similar),
            (Basis.OTHER_SETTINGS, _match_method),
        ):
            missing = [kind for kind in wanted if kind not in past]
            by_match: dict[tuple[Any, ...], list[CostKind]] = {}
            for kind in missing:
                by_match.setdefault((kind.stage, *match(kind).items()), []).append(kind)
            asked = [(match(alike[0]), alike) for alike in by_match.values()]
            for batch in slices(asked):
                costs = _find_latest(
                    connection,
                    tenant,
                    [conditions for conditions, _ in batch],
                    [machines.get(alike[0].stage, ())[:MAX_MACHINES] for _, alike in batch],
                )
                for n, latest in costs.items():
                    past |= dict.fromkeys(batch[n][1], PastCosts(basis, tuple(latest)))
    return past


def _match_equal(kind: CostKind) -> dict[str, str | None]:
    return {"equal_cost_key": kind.equal}


def _match_similar(kind: CostKind) -> dict[str, str | None]:
    return {"similar_cost_key": kind.similar}


def _match_method(kind: CostKind) -> dict[str, str | None]:
    return {"stage": kind.stage, "method": kind.method}


_PARTS = 100  # in one statement


def _find_latest(
    connection: Connection,
    tenant: str,
    asked: Sequence[Mapping[str, str | None]],
    machines: Sequence[Sequence[str]],
) -> dict[int, list[JobCost]]:
    """By place in `asked`, the costs of the latest jobs whose columns have these values."""
    names = list(dict.fromkeys(one for some in machines for one in some))
    parts, values = [], dict[str, Any](tenant=tenant)
    for n, (conditions, some) in enumerate(zip(asked, machines, strict=True)):
        terms = []
        for column, value in conditions.items():
            terms.append(f"{column} IS NULL" if value is None else f"{column} = :{column}_{n}")
        parts += [(n, names.index(one), " AND ".join(terms), conditions) for one in some]
    latest: dict[int, list[JobCost]] = {}
    for start in range(0, len(parts), _PARTS):
        statement, bound = [], dict(values)
        for n, m, match, conditions in parts[start : start + _PARTS]:
            statement.append(_PART.format(n=n, m=m, columns=_COLUMNS, match=match, limit=PAST_JOBS))
            bound[f"machine_{m}"] = names[m]
            bound |= {f"{c}_{n}": value for c, value in conditions.items() if value is not None}
        for row in connection.execute(text(" UNION ALL ".join(statement)), bound):
            latest.setdefault(row.n, []).append(JobCost(*row[1:]))
    return latest
