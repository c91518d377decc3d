"""The rows that an audit asked for, held against the evaluations that came."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.choices import Choice
from shared.jobs.spec import AuditSpec
from shared.reporting.evaluations import Found
from shared.reporting.models import Method, Missing

Bucket = tuple[int, str, str, str | None]
# (kind, choice, parameters of its stage) -> all parameters of the choice.
Complete = Callable[[str, Choice, Mapping[str, Any]], Mapping[str, Any]]


def as_given(_kind: str, choice: Choice, _stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a choice, where its defaults are not known."""
    return choice.params


@dataclass(frozen=True)
class Cell:
    """One evaluation that should be there; without an attack it is the utility of a release."""

    seed: int
    unlearning: Choice
    defense: Choice
    attack: Choice | None

    @property
    def choices(self) -> list[Choice]:
        return [choice for choice in (self.unlearning, self.defense, self.attack) if choice]

    @property
    def bucket(self) -> Bucket:
        return self.seed, self.unlearning.name, self.defense.name, self.attack.name if self.attack else None

    @property
    def given(self) -> int:
        """Number of parameters that the audit names: the more, the fewer evaluations can be meant."""
        return sum(len(choice.params) for choice in self.choices)

    def fits(self, found: Found) -> bool:
        """Whether an evaluation of the same bucket has the parameters that the audit names.

        An evaluation tells all parameters, an audit those that differ from their defaults; null is one that
        was left open.
        """
        methods = [found.unlearning, found.defense, found.attack]
        pairs = zip(self.choices, (m for m in methods if m), strict=True)
        return all(
            value is None or method.params.get(name) == value
            for choice, method in pairs
            for name, value in choice.params.items()
        )


def cells(spec: AuditSpec, complete: Complete = as_given, counterless: Collection[str] = ()) -> Iterator[Cell]:
    """In the order of the report: by unlearning, defense, attack, seed. Utility comes before the attacks.

    A choice that is named twice is one job, and so one cell; so is the attacker who knows a defense, where that is of
    no use (`counterless`), with the one who does not.
    """

    def distinct(kind: str, choices: Sequence[Choice], stage: Mapping[str, Any]) -> list[Choice]:
        found: dict[tuple[str, str], Choice] = {}
        for choice in choices:
            found.setdefault((choice.name, json.dumps(complete(kind, choice, stage), sort_keys=True)), choice)
        return list(found.values())

    def against(defense: Choice, attack: Choice) -> Choice:
        dropped = {"adaptive"} if defense.name in counterless else set[str]()
        return Choice(name=attack.name, params={n: v for n, v in attack.params.items() if n not in dropped})

    for unlearning in distinct("unlearning", spec.unlearning, spec.forget):
        for defense in distinct("defense", spec.defenses, spec.defend):
            for attack in (None, *distinct("attack", [against(defense, attack) for attack in spec.attacks], {})):
                for seed in dict.fromkeys(spec.seeds):
                    yield Cell(seed, unlearning, defense, attack)


def arrange(
    spec: AuditSpec, found: Sequence[Found], complete: Complete = as_given
) -> tuple[list[Found], list[Missing]]:
    """The evaluations in the order of the audit, each once, those it did not ask for last; and what is missing."""
    # of a defense that left no evaluation nothing is known: then all that the audit names is missing
    counterless = {one.defense.method for one in found if one.defense.counterless}
    wanted = list(cells(spec, complete, counterless))
    places = _matched(wanted, found)
    asked = [found[places[i]] for i in range(len(wanted)) if i in places]
    others = [found[i] for i in range(len(found)) if i not in set(places.values())]
    ordered = {one.sha256: one for one in [*asked, *sorted(others, key=lambda one: one.sha256)]}
    made = [(w.seed, w.unlearning, w.defense) for i, w in enumerate(wanted) if i in places]
    missing = [
        Missing(
            seed=cell.seed,
            unlearning=_method(cell.unlearning),
            defense=_method(cell.defense),
            attack=_method(cell.attack) if cell.attack else None,
            why=_why(cell, (cell.seed, cell.unlearning, cell.defense) in made),
        )
        for i, cell in enumerate(wanted)
        if i not in places
    ]
    return list(ordered.values()), missing


def _matched(wanted: Sequence[Cell], found: Sequence[Found]) -> dict[int, int]:
    """Place of a cell -> place of its evaluation, as many as can be (augmenting paths within a bucket).

    Cells that name most parameters choose first, and keep a place once they have one.
    """
    buckets: dict[Bucket, list[int]] = defaultdict(list)
    for i, one in enumerate(found):
        attack = one.attack.method if one.attack else None
        bucket = one.evaluation.seed, one.unlearning.method, one.defense.method, attack
        buckets[bucket].append(i)
    holder: dict[int, int] = {}

    def place(cell: int, tried: set[int]) -> bool:
        for i in buckets[wanted[cell].bucket]:
            if i in tried or not wanted[cell].fits(found[i]):
                continue
            tried.add(i)
            if i not in holder or place(holder[i], tried):
                holder[i] = cell
                return True
        return False

    for cell in sorted(range(len(wanted)), key=lambda i: -wanted[i].given):
        place(cell, set())
    return {cell: i for i, cell in holder.items()}


def _method(choice: Choice) -> Method:
    return Method(method=choice.name, params=choice.params)


def _why(cell: Cell, released: bool) -> str:
    if cell.attack is None:
        return "the utility of these released models was not evaluated: a job before it failed or was cancelled"
    if released:
        return "the attack or its evaluation failed or was cancelled; other evaluations of these models are here"
    return "nothing came of these released models: unlearning, defense or all that follows failed or was cancelled"
