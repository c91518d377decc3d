"""The pure function audit -> jobs, with identical jobs made once.

The *plan key* of a job is a Merkle hash: stage, method, all parameters, seed, code digest, and for each
input the plan key of the job or the digest of the artifact it comes from. It is known before anything runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from shared.catalog import Catalog
from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.jobs.planner import (
    NOTHING,
    EvaluatedRow,
    Planner,
    Providers,
    Source,
    is_adaptive,
    key_text,
    plan_key,
    planned_job,
    require_stored,
)
from shared.jobs.records import Input, PlannedJob
from shared.jobs.rows import to_json
from shared.jobs.spec import MAX_JOBS, AuditSpec
from shared.jobs.sweep import swept
from shared.roles import Role

MAX_PARAM_BYTES = 256 * 2**10  # of one audit or job as it is posted
SEEDS = 2**31


def plan_job(
    catalog: Catalog,
    stage: str,
    method: str | None,
    params: Mapping[str, Any],
    seed: int,
    inputs: tuple[Input, ...],
    *,
    parent_keys: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> PlannedJob:
    """One job.

    Args:
        parent_keys: plan key of each `Input.parent` that is a job id; a parent not in it is a plan key.

    Raises:
        InvalidRequest: see `Catalog.check`; or more than `MAX_PARAM_BYTES` bytes of parameters.
    """
    require_posted(len(to_json(params)), "params")
    checked, keys = catalog.check(stage, method, params, [i.role for i in inputs]), parent_keys or {}
    sources = {
        i.role: [keys.get(i.parent, i.parent), i.parent_role or i.role] if i.parent else i.sha256 for i in inputs
    }
    key = plan_key(key_text(stage, method, checked, to_json(checked.params)), seed, sources)
    return planned_job(key, stage, method, checked, seed, inputs, fresh)


def plan(spec: AuditSpec, catalog: Catalog) -> list[PlannedJob]:
    """All jobs of an audit, parents before children.

    Choices that are equal once defaults are filled in are one: naming a method or a seed twice asks for nothing more.
    How many jobs there are is known after the first seed, as each seed makes as many: so what is refused for its size
    costs no more than what is accepted.

    Raises:
        InvalidRequest: the first thing that is wrong, by its path in the audit; or more than `MAX_PARAM_BYTES` bytes
            of choices and parameters, `MAX_JOBS` jobs or `MAX_STORED_BYTES` bytes of parameters in all jobs.
    """
    require_posted(len(spec.model_dump_json().encode()), "")
    _require_said_once(spec)
    spec = swept(spec, catalog)
    planner = Planner(catalog, spec.fresh)
    base = _base(planner, spec)
    grid = _Grid(planner, spec)
    shared, shared_bytes = len(planner.jobs), planner.stored_bytes
    rows = _seed(planner, spec, grid, grid.seeds[0], base)
    each, each_bytes = len(planner.jobs) - shared, planner.stored_bytes - shared_bytes
    _require_jobs(shared + each * len(grid.seeds) + 1 + planner.self_tested)
    require_stored(shared_bytes + each_bytes * len(grid.seeds))
    for seed in grid.seeds[1:]:
        rows += _seed(planner, spec, grid, seed, base)
    told = spec.model_dump(mode="json", exclude={"fresh", "priority", "time_limit"})
    planner.report(told, sorted(rows, key=lambda row: (row.place, grid.seeds.index(row.seed))))
    return list(planner.jobs.values())


def require_posted(size: int, field: str) -> None:
    """Refuse more parameters than a request may hold: validating them takes about 3 ms a kB.

    Raises:
        InvalidRequest: with the figure.
    """
    if size > MAX_PARAM_BYTES:
        raise InvalidRequest(f"{size:,} bytes of parameters: at most {MAX_PARAM_BYTES:,}", field)


def _require_said_once(spec: AuditSpec) -> None:
    """Refuse what a stage is given by the audit, and would not take from its own parameters."""
    for stage, names in (("pretrain", ("dataset", "model")), ("train", ("dataset",))):
        for name in names:
            if name in getattr(spec, stage):
                raise InvalidRequest(f"the audit itself names its {name}: leave this one out", f"{stage}.{name}")


def _require_jobs(count: int, at_least: str = "") -> None:
    if count > MAX_JOBS:
        raise InvalidRequest(
            f"this grid makes {at_least}{count:,} jobs, and an audit may have no more than {MAX_JOBS:,} jobs: split it"
        )


def _base(planner: Planner, spec: AuditSpec) -> dict[str, Source]:
    """Plan what all seeds share."""
    pretrain = {**spec.pretrain, "dataset": spec.dataset.model_dump(), "model": spec.model.model_dump()}
    with _blame({"params.dataset": "dataset", "params.model": "model", "params": "pretrain"}):
        base = planner.add("pretrain", pretrain, spec.pretrain_seed, {})
    with _blame({"params": "evaluate"}):
        judged = planner.needs_judge(spec.evaluate)
    if judged:  # what was attacked must not judge, and what judges must see as well: the same training, another seed
        base[Role.JUDGE] = planner.add("pretrain", pretrain, (spec.pretrain_seed + 1) % SEEDS, {})[Role.BASE]
    return base


class _Grid:
    """What an audit compares, each choice once and with its place in the audit."""

    def __init__(self, planner: Planner, spec: AuditSpec) -> None:
        self.seeds = list(dict.fromkeys(spec.seeds))
        self.unlearning = planner.distinct("unlearn", spec.forget, enumerate(spec.unlearning))
        self.defenses = planner.distinct("defend", spec.defend, enumerate(spec.defenses))
        self.attacks = [  # by place of the defense, as they are made on that one
            planner.distinct("attack", NOTHING, [(a, planner.against(c, d)) for a, c in enumerate(spec.attacks)])
            for d in spec.defenses
        ]
        self.recipes: dict[tuple[int, int], dict[str, Any]] = {}  # of training, by places of both methods
        # each attack is evaluated, each release made and evaluated
        each = sum(len(self.attacks[d]) + 2 for d, *_ in self.defenses)
        _require_jobs(len(self.seeds) * len(self.unlearning) * each, "at least ")


def _seed(planner: Planner, spec: AuditSpec, grid: _Grid, seed: int, base: Providers) -> list[EvaluatedRow]:
    """Plan all that is made with one seed; returns its rows."""
    rows: list[EvaluatedRow] = []
    for u, unlearning, _ in grid.unlearning:
        for d, defense, _ in grid.defenses:
            with _blame({"params.dataset": "dataset", "params": "train"}):
                trained = {**base, **planner.add("train", _recipe(planner, spec, grid, u, d), seed, base)}
            with _blame_choice("unlearning", u, unlearning, "forget", spec.forget):
                unlearned = trained | planner.add("unlearn", spec.forget, seed, trained, unlearning)
            if seed == grid.seeds[0]:  # what is checked here is the same for all
                _check_unlearned(planner, spec, unlearning, f"unlearning.{u}", unlearned)
            with _blame_choice("defenses", d, defense, "defend", spec.defend):
                released = unlearned | planner.add("defend", spec.defend, seed, unlearned, defense)
            released[Role.UNLEARNED] = released[Role.RELEASED]  # what is released is what an attacker gets to see
            rows += _evaluations(planner, spec, seed, released, (u, d), grid)
    return rows


def _recipe(planner: Planner, spec: AuditSpec, grid: _Grid, u: int, d: int) -> Mapping[str, Any]:
    """Parameters of the stage train for one pair of methods, which have the last word on what is theirs."""
    if (u, d) not in grid.recipes:
        unlearning, defense = spec.unlearning[u], spec.defenses[d]
        with _blame_choice("unlearning", u, unlearning, "forget", spec.forget):
            ways = planner.trained_for("unlearn", unlearning)
        with _blame_choice("defenses", d, defense, "defend", spec.defend):
            ways |= planner.trained_for("defend", defense)
        for name, value in ways.items():
            if spec.train.get(name, value) != value:
                raise InvalidRequest(
                    f"train.{name} is {spec.train[name]!r}, but a method of this audit needs {value!r}: leave it out "
                    "here, and give it to the method",
                    f"params.{name}",
                )
        grid.recipes[u, d] = {**spec.train, **ways, "dataset": spec.dataset.model_dump()}
    return grid.recipes[u, d]


def _check_unlearned(planner: Planner, spec: AuditSpec, unlearning: Choice, field: str, unlearned: Providers) -> None:
    """Refuse at once what the worker would refuse of training, forget sets and method together."""
    _check_forget_sets(planner.params(unlearned[Role.TRAINING_SET]), planner.params(unlearned[Role.FORGET_SETS]))
    if spec.p_values:
        planner.check_repeatable("unlearn", unlearning, field, spec.forget)
    planner.check_retain(unlearning, field, unlearned[Role.TRAINING_SET], unlearned[Role.FORGET_SETS])


def _check_forget_sets(train: Mapping[str, Any], unlearn: Mapping[str, Any]) -> None:
    """Refuse at once what the worker would refuse: forget sets are disjoint parts of the training set."""
    n, deletions, k, own = train["size"], unlearn["deletions"], unlearn["size"], unlearn.get("indices")
    if own is not None:
        if beyond := [place for row in own for place in row if place >= n]:
            raise InvalidRequest(f"there is no sample {beyond[0]} in a training set of {n}", "forget.indices")
        return
    if unlearn.get("forget") == "class":
        return  # how many a class has is known when the training set is drawn
    if k > n:
        raise InvalidRequest(f"a training set of {n} has no forget set of {k}", "forget.size")
    if deletions * k > n:
        raise InvalidRequest(
            f"{deletions} disjoint forget sets of {k} need a training set of at least {deletions * k}, not {n}: "
            "raise train.size or lower forget.deletions",
            "forget.deletions",
        )


def _several(forget: Mapping[str, Any]) -> bool:
    """Whether a deletion forgets several samples, or a share of a class, which may be several."""
    own = forget.get("indices")
    return len(own[0]) > 1 if own else forget["size"] > 1 or forget.get("forget") == "class"


def _evaluations(
    planner: Planner, spec: AuditSpec, seed: int, released: Providers, release: tuple[int, int], grid: _Grid
) -> list[EvaluatedRow]:
    """Plan what is asked of one released model: its utility, and every attack with its evaluation.

    Args:
        release: places of its unlearning method and its defense.
    """
    with _blame({"params": "evaluate"}):
        made = planner.add("evaluate", spec.evaluate, seed, released)
    rows = [EvaluatedRow(seed, *release, None, False, {Role.EVALUATION: made[Role.EVALUATION]})]
    # An attacker that is not told how many samples, of how many classes, were forgotten takes it to be one of one.
    several = frozenset({Role.COUNTS} if _several(planner.params(released[Role.FORGET_SETS])) else ())
    for a, attack, also in grid.attacks[release[1]]:
        seen = _fetched(released, attack)
        with _blame({"params": f"attacks.{a}.params", "method": f"attacks.{a}.name", "inputs": f"attacks.{a}"}):
            needed = planner.needed(attack)
        for role, stage, params in (
            (Role.PROBES, "probe", spec.probe),
            (Role.CANDIDATES, "candidates", spec.candidates),
        ):
            if role in needed:
                with _blame({"params": stage, "stage": f"attacks.{a}"}):
                    seen = {**seen, **planner.add(stage, params, seed, released)}
        if Role.PROBES in needed:
            with _blame({"params": "probe"}):
                planner.check_probes(seen[Role.PROBES], spec.dataset)
        with _blame({"params": f"attacks.{a}.params", "method": f"attacks.{a}.name", "inputs": f"attacks.{a}"}):
            attacked = planner.add("attack", NOTHING, seed, seen, attack, several)
            if spec.p_values and Role.ANSWERS in attacked:
                planner.check_repeatable("attack", attack, "")
        if spec.p_values and Role.ANSWERS in attacked:
            with _blame({"params": "shadow"}):
                attacked |= planner.add("shadow", spec.shadow, seed, {**seen, **attacked})
        with _blame({"params": "evaluate"}):
            # the truth, and what nulls are made of; what the models are worth is told once for all attacks
            truth = {role: source for role, source in seen.items() if role != Role.TRAINING_SET}
            made = planner.add("evaluate", spec.evaluate, seed, {**truth, **attacked})
        adaptive_too = not is_adaptive(attack) and any(is_adaptive(spec.attacks[place]) for place in also)
        rows.append(EvaluatedRow(seed, *release, a, adaptive_too, made))
    return rows


def _fetched(released: Providers, attack: Choice) -> Providers:
    """What the attacker gets of the release: who knows that each fetch differs fetches as often as is assumed."""
    often = is_adaptive(attack) and Role.FETCHED in released
    return {**released, Role.UNLEARNED: released[Role.FETCHED]} if often else released


def _blame_choice(
    where: str, place: int, choice: Choice, stage: str, params: Mapping[str, Any]
) -> AbstractContextManager[None]:
    """Blame for one of a list of methods, whose stage has parameters of its own under `stage`."""
    own = {f"params.{name}": f"{stage}.{name}" for name in params if name not in choice.params}
    path = f"{where}.{place}"
    return _blame({**own, "params": f"{path}.params", "method": f"{path}.name", "inputs": path})


@contextmanager
def _blame(paths: Mapping[str, str]) -> Iterator[None]:
    """Rewrite the path of an error from within one job to where it stands in the audit (longest match)."""
    try:
        yield
    except InvalidRequest as error:
        for own, there in sorted(paths.items(), key=lambda p: -len(p[0])):
            if error.field == own or error.field.startswith(own + "."):
                field = there + error.field[len(own) :]
                raise InvalidRequest(error.message.replace(f"{error.field}: ", f"{field}: ", 1), field) from error
        raise
