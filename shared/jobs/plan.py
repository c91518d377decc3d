"""The pure function audit -> jobs, with identical jobs made once.

The *request key* of a job is a Merkle hash: stage, method, all parameters, seed, code digest, and
for each input the request key of the job or the digest of the artifact it comes from. It is known
before anything runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.catalog import NUMBERED_ROLE, Catalog, CheckedJob, check_roles
from shared.data_files import IdentifyFiles, reject_data_files
from shared.errors import InvalidRequest
from shared.forget_sets import KINDS, PLACES, check_form
from shared.jobs.brought import explain_lacking, list_brought_weights
from shared.jobs.error_paths import map_error_fields
from shared.jobs.feasibility import check_forget_sets, forgets_multiple
from shared.jobs.inheritance import merge_data
from shared.jobs.mapping import to_json
from shared.jobs.pipeline import GridCell
from shared.jobs.planner import (
    Asset,
    JobTemplate,
    Planner,
    Source,
    build_key_template,
    build_planned_job,
    check_stored_size,
    compute_request_key,
)
from shared.jobs.records import Input, PlannedJob
from shared.jobs.resolve import ResolvedAudit, is_adaptive, resolve_audit
from shared.jobs.spec import (
    MAX_JOBS,
    AuditSpec,
    PlannedMeasurement,
    PlannedRetention,
    PlannedRow,
)
from shared.roles import Role
from shared.wiring import ModelOrigin, Scope

MAX_PARAM_BYTES = 256 * 2**10  # of one audit or job as it is posted
SEED_COUNT = 2**31


def plan_job(
    catalog: Catalog,
    stage: str,
    method: str | None,
    params: Mapping[str, Any],
    seed: int,
    inputs: tuple[Input, ...],
    *,
    parent_request_keys: Mapping[str, str] | None = None,
    parent_params: Mapping[str, Mapping[str, Any]] | None = None,
    no_cache: bool = False,
    identify_files: IdentifyFiles = reject_data_files,
) -> PlannedJob:
    """One job whose inputs, where they are named by digest, have no data files behind them.

    Args:
        parent_request_keys: request key of each `Input.parent` that is a job id; a parent not in it
            is a request key.
        parent_params: all parameters of each parent, as far as they are known.
        identify_files: gives the digests of files of the data root.

    Raises:
        InvalidRequest: as `check_posted` and `plan_checked`.
    """
    checked = check_posted(catalog, stage, method, params)
    data_digests = identify_files(checked.data_files)
    return plan_checked(
        checked,
        stage,
        method,
        seed,
        inputs,
        parent_request_keys=parent_request_keys,
        parent_params=parent_params,
        no_cache=no_cache,
        data=data_digests,
    )


def check_posted(
    catalog: Catalog, stage: str, method: str | None, params: Mapping[str, Any]
) -> CheckedJob:
    """A job as it was posted: bounded first, then validated.

    Raises:
        InvalidRequest: more than `MAX_PARAM_BYTES` bytes of parameters; forget sets in a form that
            means nothing here; or see `Catalog.describe`.
    """
    check_request_size(len(to_json(params)), "params")
    _require_form(catalog, stage, params)
    return catalog.describe(stage, method, params)


def plan_checked(
    checked: CheckedJob,
    stage: str,
    method: str | None,
    seed: int,
    inputs: tuple[Input, ...],
    *,
    parent_request_keys: Mapping[str, str] | None = None,
    parent_params: Mapping[str, Mapping[str, Any]] | None = None,
    no_cache: bool = False,
    data: Mapping[str, str],
    behind: Mapping[str, Mapping[str, str]] | None = None,
) -> PlannedJob:
    """One job that `check_posted` let pass.

    Args:
        parent_request_keys, parent_params: as `plan_job`.
        data: what identifies the data files that it reads.
        behind: for each input that is named by its digest, by role, the data files behind it; none
            where left out.

    Raises:
        InvalidRequest: a role is missing or not taken, a data file is needed in two versions, or
            the training set cannot hold the forget sets.
    """
    check_roles(checked, stage, method, [i.role for i in inputs])
    keys = parent_request_keys or {}
    if Role.FORGET_SETS in checked.produces:
        _check_deletions(checked.params, inputs, parent_params or {})
    sources = {
        i.role: [keys.get(i.parent, i.parent), i.parent_role or i.role] if i.parent else i.sha256
        for i in inputs
    }
    # The key of a parent covers what is behind it; that of bytes does not.
    read = merge_data(data, sorted((behind or {}).items()))
    key = compute_request_key(
        build_key_template(stage, method, checked, to_json(checked.params), read), seed, sources
    )
    return build_planned_job(key, stage, method, checked, seed, inputs, no_cache, read)


def _require_form(catalog: Catalog, stage: str, params: Mapping[str, Any]) -> None:
    """Refuse forget sets in a form that means nothing here, and show the right one.

    Raises:
        InvalidRequest: see `check_form`; or there is no such stage.
    """
    if Role.FORGET_SETS in catalog.get("stage", stage, "stage").produces:
        with map_error_fields({field: f"params.{field}" for field in ("class", PLACES, *KINDS)}):
            check_form(params)


def _check_deletions(
    unlearn: Mapping[str, Any],
    inputs: tuple[Input, ...],
    parent_params: Mapping[str, Mapping[str, Any]],
) -> None:
    """Hold forget sets against the training set, where the job that makes it is known."""
    parent = next((i.parent for i in inputs if i.role == Role.TRAINING_SET and i.parent), None)
    train = parent_params.get(parent or "", {})
    if "size" in train and unlearn.keys() >= {"deletions", "size"}:
        check_forget_sets(train, unlearn, "params")


def plan(
    spec: AuditSpec, catalog: Catalog, identify_files: IdentifyFiles = reject_data_files
) -> list[PlannedJob]:
    """All jobs of an audit, parents before children.

    Args:
        identify_files: gives the digests of files of the data root, asked once for all files.

    Raises:
        InvalidRequest: as `resolve_posted`, `identify_files` and `plan_resolved`.
    """
    audit = resolve_posted(spec, catalog)
    return plan_resolved(audit, identify_files(audit.files))


def resolve_posted(spec: AuditSpec, catalog: Catalog) -> ResolvedAudit:
    """An audit as it was posted: bounded first, then validated. Its `files` are still to be
    identified.

    Choices that are equal once defaults are filled in are one: naming a method or a seed twice asks
    for nothing more.

    Raises:
        InvalidRequest: the first thing that is wrong, by its path in the audit; or more than
            `MAX_PARAM_BYTES` bytes of choices and parameters, or far more than `MAX_JOBS` jobs.
    """
    check_request_size(len(spec.model_dump_json().encode()), "")
    return resolve_audit(spec, catalog, lambda count: _check_job_count(count, "at least "))


def plan_resolved(
    audit: ResolvedAudit, data: Mapping[str, str], retention: PlannedRetention | None = None
) -> list[PlannedJob]:
    """All jobs of an audit, parents before children.

    How many jobs there are is known after the first seed, as each seed makes as many: so what is
    refused for its size costs no more than what is accepted.

    Args:
        data: by path what identifies the files of the audit.
        retention: for how long the service keeps what it makes, for the report to say.

    Raises:
        InvalidRequest: two methods do not go together; or more than `MAX_JOBS` jobs or
            `MAX_STORED_BYTES` bytes of parameters in all jobs.
    """
    return _AuditPlanner(audit.with_digests(data), retention).plan_jobs()


def check_request_size(size_bytes: int, field: str) -> None:
    """Refuse more parameters than a request may hold: validating them takes about 3 ms a kB.

    Raises:
        InvalidRequest: with the figure.
    """
    if size_bytes > MAX_PARAM_BYTES:
        raise InvalidRequest(
            f"{size_bytes:,} bytes of parameters are above the limit of {MAX_PARAM_BYTES:,}", field
        )


def _check_job_count(count: int, at_least: str = "") -> None:
    if count > MAX_JOBS:
        raise InvalidRequest(
            f"this grid makes {at_least}{count:,} jobs, but an audit can have at most "
            f"{MAX_JOBS:,}: split it"
        )


@dataclass(frozen=True)
class _Branch:
    """What one scope has to offer: where each role comes from, and the branch that it grew from."""

    scope: Scope
    seed: int | None = None
    cell: GridCell = field(default_factory=GridCell)
    providers: dict[str, Source | Asset] = field(default_factory=dict)
    parent: _Branch | None = None

    def branch_off(
        self, scope: Scope, seed: int | None = None, cell: GridCell | None = None
    ) -> _Branch:
        """A branch of the next scope, with all that this one has."""
        return _Branch(
            scope,
            self.seed if seed is None else seed,
            cell or self.cell,
            dict(self.providers),
            self,
        )

    def find_scope(self, scope: Scope) -> _Branch:
        """This branch, or the one of that scope that it grew from."""
        return self if self.scope is scope or self.parent is None else self.parent.find_scope(scope)


class _AuditPlanner:
    """Walks through an audit's scopes and plans the stages of each."""

    def __init__(self, audit: ResolvedAudit, retention: PlannedRetention | None) -> None:
        self.audit, self.spec, self.pipeline = audit, audit.spec, audit.pipeline
        self.retention = retention
        self.planner = Planner(audit.spec.no_cache)
        self.rows: list[tuple[PlannedRow, dict[str, Source]]] = []
        self.measurements: list[tuple[PlannedMeasurement, dict[str, Source]]] = []
        self.forgetting: list[dict[str, Source]] = []  # each says itself of which release it is

    def plan_jobs(self) -> list[PlannedJob]:
        planner, seeds = self.planner, self.audit.seeds
        base = self._plan_base()
        shared, shared_bytes = len(planner.jobs), planner.stored_bytes
        self._plan_seed(base, seeds[0])
        per_seed, per_seed_bytes = len(planner.jobs) - shared, planner.stored_bytes - shared_bytes
        _check_job_count(shared + per_seed * len(seeds) + self._count_closing_jobs())
        check_stored_size(shared_bytes + per_seed_bytes * len(seeds))
        for seed in seeds[1:]:
            self._plan_seed(base, seed)
        self._require_some_attack()
        self._plan_report(base)
        if not planner.jobs:  # it would read as if it had succeeded
            raise InvalidRequest(
                "this audit has no jobs: each published stage runs only if another stage needs it"
            )
        return list(planner.jobs.values())

    def _require_some_attack(self) -> None:
        """Refuse an audit none of whose attacks can be made: its report would say nothing."""
        attacked = [row for row, _ in self.rows if row.attack is not None]
        reasons = [row.not_planned for row in attacked if row.not_planned]
        if reasons and len(reasons) == len(attacked):
            raise InvalidRequest(reasons[0], f"attacks.{attacked[0].attack}")

    def _plan_base(self) -> _Branch:
        """Plan what all seeds share."""
        base = _Branch(Scope.AUDIT)
        self._plan_scope(base)
        for role in sorted(self.audit.needed_roles & self.pipeline.makers.keys()):
            if Scope.AUDIT in self.pipeline.wirings[self.pipeline.makers[role]].scopes:
                self._plan_on_demand(role, base)
        return base

    def _plan_seed(self, base: _Branch, seed: int) -> None:
        """Plan all that is made with one seed."""
        branch = base.branch_off(Scope.SEED, seed=seed)
        self._plan_scope(branch)
        for u, *_ in self.audit.unlearning:
            for d, *_ in self.audit.defenses:
                release = branch.branch_off(Scope.RELEASE, cell=GridCell(u, d))
                release.providers.update(list_brought_weights(self.spec, u))
                self._plan_scope(release)
                for a, attack, _ in self.audit.attacks[d]:
                    attacked = release.branch_off(Scope.ATTACK, cell=GridCell(u, d, a))
                    # what is published, as who knows the defense gets to see it
                    if is_adaptive(attack):
                        for wiring in self.pipeline.wirings.values():
                            self._apply_replacements(wiring.replaces_for_adaptive, attacked)
                    self._plan_scope(attacked)

    def _plan_scope(self, branch: _Branch) -> None:
        """Plan the stages of the branch's scope; what they make is there from then on."""
        for stage in self.pipeline.stages[branch.scope]:
            wiring = self.pipeline.wirings[stage]
            if not self.audit.is_enabled(stage, branch.cell):
                continue
            available = branch.providers.keys() | self.pipeline.makers.keys()
            is_optional = wiring.flag or wiring.models is ModelOrigin.BROUGHT
            if is_optional and not available >= {*self.pipeline.entries[stage].needs}:
                continue  # it runs wherever it can be made; of models, not all may be brought
            if not self._has_any(wiring.any_of.get(branch.scope, ()), available):
                continue
            if self.spec.is_brought and wiring.methods == "attacks":
                template = self.audit.get_template(stage, branch.cell)
                can_be_made = {role for role in available if self._can_be_made(role, branch)}
                if (reason := explain_lacking(template, can_be_made)) is not None:
                    self._leave_out(branch, reason)
                    return
            outputs = self._plan_job(stage, branch)
            branch.providers.update(outputs)
            self._apply_replacements(wiring.replaces, branch)
            if wiring.reported:
                self._add_report_entry(stage, branch, outputs)

    def _can_be_made(self, role: str, branch: _Branch) -> bool:
        """Whether a role is there, or whoever makes it on demand has what that takes."""
        if role in branch.providers:
            return True
        available = branch.providers.keys() | self.pipeline.makers.keys()
        return available >= {*self.pipeline.entries[self.pipeline.makers[role]].needs}

    @staticmethod
    def _has_any(roles: Collection[str], available: Collection[str]) -> bool:
        return not roles or any(role in available for role in roles)

    def _leave_out(self, branch: _Branch, reason: str) -> None:
        """Note for the report an attack that cannot be made of the models that were brought."""
        cell = branch.cell
        assert branch.seed is not None
        assert cell.unlearning is not None
        assert cell.defense is not None
        row = PlannedRow(
            seed=branch.seed,
            unlearning=cell.unlearning,
            defense=cell.defense,
            attack=cell.attack,
            evaluation="",
            not_planned=reason,
        )
        self.rows.append((row, {}))

    def _plan_job(self, stage: str, branch: _Branch, next_seed: bool = False) -> dict[str, Source]:
        """Plan one job of a stage, and those that make on demand what it needs."""
        template = self.audit.get_template(stage, branch.cell)
        wiring = template.wiring
        for role in template.on_demand_roles:
            self._plan_on_demand(role, branch)
        seed = branch.seed
        if seed is None:
            seed = (getattr(self.spec, wiring.seed) + next_seed) % SEED_COUNT if wiring.seed else 0
        withheld = wiring.withheld.get(branch.scope, ())
        providers = {
            role: source for role, source in branch.providers.items() if role not in withheld
        }
        path = (
            f"{wiring.methods}.{getattr(branch.cell, _SINGULAR[wiring.methods])}"
            if wiring.methods
            else ""
        )
        with map_error_fields({"inputs": path} if path else {}):
            return self.planner.add(
                template, seed, providers, self._select_multi_sample_roles(template, branch)
            )

    def _plan_on_demand(self, role: str, branch: _Branch) -> None:
        """Have a role made on demand, if a stage does that: from what its own scope has to
        offer."""
        maker = self.pipeline.makers.get(role)
        if maker is None or role in branch.providers:
            return
        wiring = self.pipeline.wirings[maker]
        twin = next((output for wanted, output in wiring.twins.items() if wanted == role), None)
        outputs = self._plan_job(
            maker, branch.find_scope(wiring.scopes[0]), next_seed=twin is not None
        )
        branch.providers.update({role: outputs[twin]} if twin else outputs)

    def _select_multi_sample_roles(self, template: JobTemplate, branch: _Branch) -> frozenset[str]:
        """What an attacker is given about the deletions; without it, the attacker assumes one
        sample of one class each."""
        roles = template.wiring.multi_sample_roles
        # without the truth, the sizes alone are known
        source = branch.providers.get(Role.FORGET_SETS) or branch.providers.get(Role.DELETION_SIZES)
        if (
            not roles
            or not isinstance(source, Source)
            or not forgets_multiple(self.planner.get_params(source))
        ):
            return frozenset()
        return frozenset(roles)

    @staticmethod
    def _apply_replacements(replacements: Mapping[Role, Role], branch: _Branch) -> None:
        for stand_in, role in replacements.items():
            if stand_in in branch.providers:
                branch.providers[role] = branch.providers[stand_in]

    def _add_report_entry(self, stage: str, branch: _Branch, outputs: dict[str, Source]) -> None:
        """Note for the report what a stage has made for it."""
        cell = branch.cell
        if Role.FORGETTING in outputs:
            self.forgetting.append({Role.FORGETTING: outputs[Role.FORGETTING]})
            return
        if (
            Role.EVALUATION not in outputs
            or branch.seed is None
            or cell.unlearning is None
            or cell.defense is None
        ):
            measurement = PlannedMeasurement(
                stage=stage, seed=branch.seed, **cell._asdict(), metrics=""
            )
            kept = (Role.METRICS, Role.COMPARISON)
            self.measurements.append(
                (measurement, {role: outputs[role] for role in kept if role in outputs})
            )
            return
        if cell.attack is None:  # what a release is worth has no pictures
            outputs = {Role.EVALUATION: outputs[Role.EVALUATION]}
        row = PlannedRow(
            seed=branch.seed,
            unlearning=cell.unlearning,
            defense=cell.defense,
            attack=cell.attack,
            adaptive_too=self._is_adaptive_too(cell),
            evaluation="",
        )
        self.rows.append((row, outputs))

    def _is_adaptive_too(self, cell: GridCell) -> bool:
        """Whether the audit asks for the attacker who knows the defense as well, and he is the same
        there."""
        if cell.attack is None or cell.defense is None:
            return False
        choice = next(c for c in self.audit.attacks[cell.defense] if c.position == cell.attack)
        return not is_adaptive(choice.choice) and any(
            is_adaptive(self.spec.attacks[a]) for a in choice.positions
        )

    def _count_closing_jobs(self) -> int:
        """How many jobs come after all others."""
        stages = self.pipeline.stages[Scope.REPORT]
        roles = (
            r
            for s in stages
            for r in self.pipeline.wirings[s].optional_needs
            if r in self.pipeline.entries[s].uses
        )
        return len(stages) + len(
            {self.pipeline.makers[role] for role in roles if role in self.pipeline.makers}
        )

    def _plan_report(self, base: _Branch) -> None:
        """Plan the jobs that report on all others: rows in the order of the audit, and inputs of
        which there are many numbered."""
        seeds = self.audit.seeds
        numbers: dict[str, int] = {}
        numbered: dict[str, Source] = {}

        def number(outputs: Mapping[str, Source], role: str) -> str:
            n = numbers.setdefault(outputs[role].job, len(numbers) + 1)
            numbered.update({f"{each}_{n}": source for each, source in outputs.items()})
            return f"{role}_{n}"

        self.rows.sort(key=lambda entry: (entry[0].report_position, seeds.index(entry[0].seed)))
        rows = [
            row.model_copy(update={"evaluation": number(outputs, Role.EVALUATION)})
            if outputs
            else row
            for row, outputs in self.rows
        ]
        measured = [
            one.model_copy(update={"metrics": number(outputs, Role.METRICS)})
            for one, outputs in self.measurements
        ]
        for outputs in self.forgetting:
            number(outputs, Role.FORGETTING)
        left_out = {"no_cache", "priority", "time_limit"}
        if not self.spec.declared:
            left_out.add("declared")
        params: dict[str, Any] = {
            "audit": self.spec.model_dump(mode="json", exclude=left_out),
            "rows": [
                row.model_dump(exclude=None if row.not_planned else {"not_planned"}) for row in rows
            ],
        }
        if measured:
            params["measurements"] = [one.model_dump() for one in measured]
        closing = base.branch_off(Scope.REPORT)
        for stage in self.pipeline.stages[Scope.REPORT]:
            template = self.audit.build_closing_template(stage, params | self._tell_of(stage))
            for role in template.on_demand_roles:
                self._plan_on_demand(role, closing)
            sources = {
                role: closing.providers[role]
                for role in template.supplied_roles
                if role in closing.providers
            }
            # of what a reported stage makes, only these are for the report
            reported = {
                role: source
                for role, source in numbered.items()
                if NUMBERED_ROLE.sub("", role) in template.checked.many
            }
            self.planner.add_with_sources(template, 0, reported | sources)

    def _tell_of(self, stage: str) -> dict[str, Any]:
        """What only some of these stages want to know."""
        if self.retention is None or "retention" not in self.pipeline.entries[stage].properties:
            return {}
        return {"retention": self.retention.model_dump()}


_SINGULAR = {"unlearning": "unlearning", "defenses": "defense", "attacks": "attack"}
