"""What was made of some uploads: jobs, audits and artifacts, as far as rows tell.

A job belongs to it if it reads one of the uploads, takes an output of a job that does, or was given
one of their artifacts by its digest. An audit belongs to it if it has such a job or names an upload.
An artifact belongs to it unless the tenant also has it from elsewhere: from a job that does not
belong, or as another upload. Bytes of other tenants are theirs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, or_, select

from shared.jobs.mapping import slices
from shared.jobs.removal import list_checkpoints
from shared.jobs.tables import (
    UPLOAD_ORIGIN,
    artifacts,
    audit_jobs,
    audits,
    job_artifacts,
    job_inputs,
    jobs,
)
from shared.uploaded_files import PREFIX

_UPLOADED_FILE = re.compile(f"{PREFIX}([0-9a-f]{{64}})")


@dataclass(frozen=True)
class Derivation:
    """What belongs to some uploads of a tenant, the uploads included.

    `shared` are artifacts of these jobs that the tenant also has from elsewhere; they are not among
    `artifacts`. `checkpoints` are digests of states that attempts have saved.
    """

    jobs: frozenset[str]
    audits: frozenset[str]
    artifacts: frozenset[str]
    shared: frozenset[str]
    checkpoints: frozenset[str]


def find_derivation(connection: Connection, tenant: str, digests: Collection[str]) -> Derivation:
    """Everything that was made of these uploads.

    Looks once through the tenant's jobs, because the files of data sets are named inside JSON.
    """
    return _Search(connection, tenant, digests).run()


class _Search:
    """Follows the rows until nothing is added."""

    def __init__(self, connection: Connection, tenant: str, digests: Collection[str]) -> None:
        self._connection, self._tenant = connection, tenant
        self._uploads = frozenset(digests)
        self._jobs: set[str] = set()
        self._outputs: set[str] = set()  # whatever these jobs have made
        # by digest, the jobs whose data sets read it as a file
        self._file_readers = self._list_file_readers()

    def run(self) -> Derivation:
        new = self._find_readers(self._uploads) | self._find_naming(jobs, jobs.c.params)
        followed: frozenset[str] = self._uploads
        while new:
            self._jobs |= new
            self._outputs |= self._list_outputs(new)
            children = self._find_children(new)
            own, _ = self._split_artifacts()
            new = (children | self._find_readers(own - followed)) - self._jobs
            followed |= own
        own, shared = self._split_artifacts()
        return Derivation(
            frozenset(self._jobs),
            self._find_audits(),
            own,
            shared,
            frozenset(list_checkpoints(self._connection, self._jobs)),
        )

    def _select(self, column: Any, by: Any, values: Iterable[str], *where: Any) -> set[Any]:
        """The values of a column in the rows where `by` is one of `values`."""
        selected: set[Any] = set()
        for batch in slices(sorted(values)):
            query = select(column).where(by.in_(batch), *where)
            selected |= set(self._connection.execute(query).scalars())
        return selected

    def _list_file_readers(self) -> Mapping[str, set[str]]:
        query = select(jobs.c.id, jobs.c.data).where(
            jobs.c.tenant == self._tenant, jobs.c.data.contains(PREFIX)
        )
        readers: dict[str, set[str]] = {}
        for job_id, data in self._connection.execute(query):
            for sha256 in _UPLOADED_FILE.findall(data):
                readers.setdefault(sha256, set()).add(job_id)
        return readers

    def _find_readers(self, digests: Collection[str]) -> set[str]:
        """Jobs that read these bytes, as inputs or as files."""
        mine = jobs.c.tenant == self._tenant
        read: set[str] = set()
        for batch in slices(sorted(digests)):
            query = select(job_inputs.c.job).join(jobs, jobs.c.id == job_inputs.c.job)
            inputs = query.where(job_inputs.c.sha256.in_(batch), mine)
            read |= set(self._connection.execute(inputs).scalars())
        return read.union(*(self._file_readers.get(sha256, ()) for sha256 in digests))

    def _find_naming(self, table: Table, text: Any) -> set[str]:
        """Ids of the rows whose text names an upload."""
        naming: set[str] = set()
        for batch in slices(sorted(self._uploads)):
            named = or_(*(text.contains(sha256) for sha256 in batch))
            query = select(table.c.id).where(table.c.tenant == self._tenant, named)
            naming |= set(self._connection.execute(query).scalars())
        return naming

    def _find_children(self, parents: Collection[str]) -> set[str]:
        return self._select(job_inputs.c.job, job_inputs.c.parent, parents)

    def _list_outputs(self, job_ids: Collection[str]) -> set[str]:
        """What these jobs have made; also what they have made differently since."""
        mine = artifacts.c.tenant == self._tenant
        return self._select(job_artifacts.c.sha256, job_artifacts.c.job, job_ids) | self._select(
            artifacts.c.sha256, artifacts.c.origin, job_ids, mine
        )

    def _split_artifacts(self) -> tuple[frozenset[str], frozenset[str]]:
        """What the tenant has from these jobs and uploads only, and what it also has from
        elsewhere."""
        candidates = self._outputs | self._uploads
        kept: set[str] = set()
        for batch in slices(sorted(candidates)):
            makers = select(job_artifacts.c.sha256, job_artifacts.c.job).where(
                job_artifacts.c.tenant == self._tenant, job_artifacts.c.sha256.in_(batch)
            )
            kept |= {s for s, job in self._connection.execute(makers) if job not in self._jobs}
        is_upload = artifacts.c.origin == UPLOAD_ORIGIN
        mine = artifacts.c.tenant == self._tenant
        others = candidates - self._uploads
        kept |= self._select(artifacts.c.sha256, artifacts.c.sha256, others, mine, is_upload)
        return frozenset(candidates - kept), frozenset(kept)

    def _find_audits(self) -> frozenset[str]:
        named = self._find_naming(audits, audits.c.spec)
        return frozenset(named | self._select(audit_jobs.c.audit, audit_jobs.c.job, self._jobs))
