"""What `plan` collects its jobs with: each one once, under its request key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from shared.catalog import NUMBERED_ROLE, CheckedJob, check_roles
from shared.catalog_entry import CatalogEntry
from shared.errors import InvalidRequest
from shared.jobs.mapping import to_json
from shared.jobs.records import Input, PlannedJob
from shared.wiring import Wiring

# parameters of all jobs of one audit: each job is stored with its own
MAX_STORED_BYTES = 32 * 2**20


class Source(NamedTuple):
    """Where a role comes from: what a planned job makes under `role`."""

    job: str  # its request key
    role: str


class Asset(NamedTuple):
    """Where a role comes from: an artifact that is there already, such as an upload."""

    sha256: str


Providers = Mapping[str, Source | Asset]


class KeyTemplate(NamedTuple):
    """What of the canonical JSON under a request key does not depend on inputs and seed: before,
    between and after."""

    before: str
    between: str
    after: str


@dataclass(frozen=True, eq=False)
class JobTemplate:
    """A stage with its method and parameters, validated: what all its jobs have in common, whatever
    their seed."""

    entry: CatalogEntry
    wiring: Wiring
    method: CatalogEntry | None
    checked: CheckedJob
    # of the files of the data root that its jobs read, once they are identified
    data_digests: Mapping[str, str]
    params_json: str  # canonical
    key_template: KeyTemplate
    supplied_roles: frozenset[str]  # roles that its jobs are given where there are any

    @property
    def params(self) -> Mapping[str, Any]:
        return self.checked.params

    @property
    def on_demand_roles(self) -> tuple[str, ...]:
        """Roles that are made for it on demand."""
        return (
            *self.checked.needs,
            *(role for role in self.wiring.optional_needs if role in self.checked.uses),
        )

    @classmethod
    def build(
        cls, entry: CatalogEntry, wiring: Wiring, method: CatalogEntry | None, checked: CheckedJob
    ) -> JobTemplate:
        """A setting whose data files are not identified yet."""
        # A stage's own optional roles are supplied; a method's are not: what an attacker is given
        # is a choice.
        supplied, params_json = frozenset({*checked.needs, *entry.uses}), to_json(checked.params)
        key_template = build_key_template(
            entry.name, method.name if method else None, checked, params_json, {}
        )
        return cls(entry, wiring, method, checked, {}, params_json, key_template, supplied)

    def with_digests(self, digests: Mapping[str, str]) -> JobTemplate:
        """The same with its data files, of all that were identified."""
        data = {
            file.path: digests[file.path]
            for file in self.checked.data_files
            if file.path in digests
        }
        if not data:
            return self
        method = self.method.name if self.method else None
        text = build_key_template(self.entry.name, method, self.checked, self.params_json, data)
        return replace(self, data_digests=data, key_template=text)


def build_planned_job(
    key: str,
    stage: str,
    method: str | None,
    checked: CheckedJob,
    seed: int,
    inputs: tuple[Input, ...],
    no_cache: bool,
    data_digests: Mapping[str, str],
) -> PlannedJob:
    """The job that was checked, under its request key."""
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
        no_cache,
        checked.run_when,
        data_digests,
    )


def build_key_template(
    stage: str,
    method: str | None,
    checked: CheckedJob,
    params_json: str,
    data_digests: Mapping[str, str],
) -> KeyTemplate:
    """`params_json` is the canonical JSON of all parameters."""
    files = f'"data":{to_json(dict(data_digests))},' if data_digests else ""
    return KeyTemplate(
        f'{{"code":{to_json(checked.code)},{files}"inputs":',
        f',"method":{to_json(method)},"params":{params_json},"seed":',
        f',"stage":{to_json(stage)}}}',
    )


def compute_request_key(template: KeyTemplate, seed: int, sources: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of all that a job depends on.

    `sources` is by role the digest of an artifact, or [request key, role] of the job that makes it.
    """
    canonical_json = (
        f"{template.before}{to_json(sources)}{template.between}{seed:d}{template.after}"
    )
    return hashlib.sha256(canonical_json.encode()).hexdigest()


class Planner:
    """Collects jobs, each once."""

    def __init__(self, no_cache: bool) -> None:
        self.no_cache = no_cache
        self.jobs: dict[str, PlannedJob] = {}
        self.stored_bytes = 0  # of their parameters

    def add(
        self,
        template: JobTemplate,
        seed: int,
        providers: Providers,
        extra_roles: frozenset[str] = frozenset(),
    ) -> dict[str, Source]:
        """Plan one job fed from `providers`; returns its outputs. `extra_roles`: roles to supply if
        the method uses them."""
        roles = (
            template.supplied_roles | extra_roles.intersection(template.checked.uses)
            if extra_roles
            else template.supplied_roles
        )
        return self.add_with_sources(
            template,
            seed,
            {
                role: source
                for role, source in providers.items()
                if role in roles or NUMBERED_ROLE.sub("", role) in template.checked.many
            },
        )

    def add_with_sources(
        self, template: JobTemplate, seed: int, sources: Providers
    ) -> dict[str, Source]:
        """Plan one job that is fed exactly this.

        Raises:
            InvalidRequest: a role is missing, or more than `MAX_STORED_BYTES` bytes of parameters
                in all.
        """
        checked, stage, method = (
            template.checked,
            template.entry.name,
            template.method.name if template.method else None,
        )
        check_roles(checked, stage, method, sources)
        key = compute_request_key(
            template.key_template,
            seed,
            {r: s.sha256 if isinstance(s, Asset) else s for r, s in sources.items()},
        )
        if key not in self.jobs:
            self.stored_bytes += len(template.params_json)
            check_stored_size(self.stored_bytes)
            inputs = tuple(_build_input(role, s) for role, s in sorted(sources.items()))
            self.jobs[key] = build_planned_job(
                key, stage, method, checked, seed, inputs, self.no_cache, template.data_digests
            )
        return {role: Source(key, role) for role in checked.produces}

    def get_params(self, source: Source) -> Mapping[str, Any]:
        """All parameters of the job that supplies it."""
        return self.jobs[source.job].params


def _build_input(role: str, source: Source | Asset) -> Input:
    if isinstance(source, Asset):
        return Input(role, sha256=source.sha256)
    return Input(role, parent=source.job, parent_role=None if source.role == role else source.role)


def check_stored_size(total_bytes: int) -> None:
    """Refuse an audit whose jobs would hold more parameters than may be stored.

    Raises:
        InvalidRequest: with the figure.
    """
    if total_bytes > MAX_STORED_BYTES:
        raise InvalidRequest(
            f"every job is stored with its parameters, which take at least {total_bytes:,} bytes "
            f"in this grid, above the limit of {MAX_STORED_BYTES:,}: split the audit, or shorten "
            "the parameters"
        )
