"""What `plan` collects its jobs with: each one once, under its plan key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from shared.catalog import CheckedJob, check_roles
from shared.catalog_entry import Entry
from shared.errors import InvalidRequest
from shared.jobs.records import Input, PlannedJob
from shared.jobs.rows import to_json
from shared.wiring import Wiring

MAX_STORED_BYTES = 32 * 2**20  # parameters of all jobs of one audit: each job is stored with its own


class Source(NamedTuple):
    """Where a role comes from: what a planned job makes under `role`."""

    job: str  # its plan key
    role: str


Providers = Mapping[str, Source]


class KeyText(NamedTuple):
    """What of the canonical JSON under a plan key does not depend on inputs and seed: before, between and after."""

    before: str
    between: str
    after: str


@dataclass(frozen=True, eq=False)
class Setting:
    """A stage with its method and parameters, validated: what all its jobs have in common, whatever their seed."""

    entry: Entry
    wiring: Wiring
    method: Entry | None
    checked: CheckedJob
    data: Mapping[str, str]  # of the files of the data root that its jobs read, once they are identified
    params_json: str  # canonical
    key_text: KeyText
    supplied: frozenset[str]  # roles that its jobs are given where there are any

    @property
    def params(self) -> Mapping[str, Any]:
        return self.checked.params

    @property
    def wanted(self) -> tuple[str, ...]:
        """Roles that are made for it on demand."""
        return (*self.checked.needs, *(role for role in self.wiring.asks_for if role in self.checked.uses))

    @classmethod
    def of(cls, entry: Entry, wiring: Wiring, method: Entry | None, checked: CheckedJob) -> Setting:
        """A setting whose data files are not identified yet."""
        # A stage's own optional roles are supplied; a method's are not: what an attacker is given is a choice.
        supplied, params_json = frozenset({*checked.needs, *entry.uses}), to_json(checked.params)
        text = key_text(entry.name, method.name if method else None, checked, params_json, {})
        return cls(entry, wiring, method, checked, {}, params_json, text, supplied)

    def identified(self, digests: Mapping[str, str]) -> Setting:
        """The same with its data files, of all that were identified."""
        data = {file.path: digests[file.path] for file in self.checked.data_files if file.path in digests}
        if not data:
            return self
        method = self.method.name if self.method else None
        text = key_text(self.entry.name, method, self.checked, self.params_json, data)
        return replace(self, data=data, key_text=text)


def planned_job(
    key: str,
    stage: str,
    method: str | None,
    checked: CheckedJob,
    seed: int,
    inputs: tuple[Input, ...],
    fresh: bool,
    data: Mapping[str, str],
) -> PlannedJob:
    """The job that was checked, under its plan key."""
    return PlannedJob(
        key,
        stage,
        method,
        checked.params,
        seed,
        inputs,
        checked.plugins,
        checked.produces,
        checked.code,
        fresh,
        checked.tolerant,
        data,
    )


def key_text(stage: str, method: str | None, checked: CheckedJob, params_json: str, data: Mapping[str, str]) -> KeyText:
    """`params_json` is the canonical JSON of all parameters."""
    files = f'"data":{to_json(dict(data))},' if data else ""
    return KeyText(
        f'{{"code":{to_json(checked.code)},{files}"inputs":',
        f',"method":{to_json(method)},"params":{params_json},"seed":',
        f',"stage":{to_json(stage)}}}',
    )


def plan_key(text: KeyText, seed: int, sources: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of all that a job depends on.

    `sources` is by role the digest of an artifact, or [plan key, role] of the job that makes it.
    """
    whole = f"{text.before}{to_json(sources)}{text.between}{seed:d}{text.after}"
    return hashlib.sha256(whole.encode()).hexdigest()


class Planner:
    """Collects jobs, each once."""

    def __init__(self, fresh: bool) -> None:
        self.fresh = fresh
        self.jobs: dict[str, PlannedJob] = {}
        self.stored_bytes = 0  # of their parameters

    def add(
        self, setting: Setting, seed: int, providers: Providers, also: frozenset[str] = frozenset()
    ) -> dict[str, Source]:
        """Plan one job fed from `providers`; returns its outputs. `also`: roles to supply if the method uses them."""
        wanted = setting.supplied | also.intersection(setting.checked.uses) if also else setting.supplied
        return self.add_fed(setting, seed, {role: source for role, source in providers.items() if role in wanted})

    def add_fed(self, setting: Setting, seed: int, fed: Providers) -> dict[str, Source]:
        """Plan one job that is fed exactly this.

        Raises:
            InvalidRequest: a role is missing, or more than `MAX_STORED_BYTES` bytes of parameters in all.
        """
        checked, stage, method = setting.checked, setting.entry.name, setting.method.name if setting.method else None
        check_roles(checked, stage, method, fed)
        key = plan_key(setting.key_text, seed, fed)
        if key not in self.jobs:
            self.stored_bytes += len(setting.params_json)
            require_stored(self.stored_bytes)
            inputs = tuple(
                Input(role, parent=s.job, parent_role=None if s.role == role else s.role)
                for role, s in sorted(fed.items())
            )
            self.jobs[key] = planned_job(key, stage, method, checked, seed, inputs, self.fresh, setting.data)
        return {role: Source(key, role) for role in checked.produces}

    def params(self, source: Source) -> Mapping[str, Any]:
        """All parameters of the job that supplies it."""
        return self.jobs[source.job].params


def require_stored(total_bytes: int) -> None:
    """Refuse an audit whose jobs would hold more parameters than may be stored.

    Raises:
        InvalidRequest: with the figure.
    """
    if total_bytes > MAX_STORED_BYTES:
        raise InvalidRequest(
            f"every job is stored with its parameters: at least {total_bytes:,} bytes in this grid, above "
            f"{MAX_STORED_BYTES:,}: split it, or give shorter parameters"
        )
