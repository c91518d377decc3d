"""What a row needs said beside its numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.reporting.evaluations import identity, knows, unaware
from shared.reporting.findings import forgets, useful
from shared.reporting.kinds import kinds, main_metric
from shared.reporting.models import Row, Score
from shared.reporting.numbers import number, scored

Attacked = tuple[int, tuple[str, str], tuple[str, str]]


class Beside(NamedTuple):
    """A row, the row of the same attack on the undefended models, and those of the same attack on the same release."""

    row: Row
    undefended: Row | None
    alike: Sequence[Row] = ()


def annotate(rows: Sequence[Row]) -> list[Row]:
    """The rows with their notes."""
    undefended = {attacked(row): row for row in rows if row.defense.method == "none"}
    alike = defaultdict[tuple[Attacked, tuple[str, str]], list[Row]](list)
    for row in rows:
        alike[attacked(row), identity(row.defense)].append(row)
    made = []
    for row in rows:
        beside = Beside(row, undefended.get(attacked(row)), alike[attacked(row), identity(row.defense)])
        told = [text for rule in RULES if (text := rule(beside))]
        made.append(row.model_copy(update={"note": " ".join(told) or None}))
    return made


def unknown_defenses(rows: Sequence[Row]) -> list[str]:
    """Defenses that were attacked by nobody who knows them, though that may be of use."""
    used = dict.fromkeys(row.defense.method for row in rows if not row.defense.counterless)
    used.pop("not stated", None)
    return [name for name in used if not any(knows(r.attack) and r.defense.method == name for r in rows)]


def attacked(row: Row) -> Attacked:
    """Rows with equal keys differ in the defense and in knowing it only, and have the same deletions."""
    return row.seed, identity(row.unlearning), identity(unaware(row.attack))


def apart(better: Score, worse: Score) -> bool:
    """Whether the attack scores clearly less in `worse`: the 95 % intervals do not overlap."""
    if better.low is None or better.high is None or worse.low is None or worse.high is None:
        return False
    return worse.high < better.low if better.higher_is_better else worse.low > better.high


def _forgets_nothing(beside: Beside) -> str | None:
    utility, unlearning = beside.row.utility, beside.row.unlearning
    if utility is None or forgets(utility):
        return None
    told = (
        f"forget accuracy {number(utility.forget_accuracy)}, the original's {number(utility.original_forget_accuracy)}"
    )
    if unlearning.exact:
        return f"Exact unlearning that does not show ({told}): the model tells these classes without the samples."
    return f"It did not unlearn visibly ({told})."


def _useless(beside: Beside) -> str | None:
    utility = beside.row.utility
    if utility is None:
        return "The utility of these released models is not known, so a low score here counts for nothing."
    if useful(utility):
        return None
    return (
        f"The released models lost their use (test accuracy {number(utility.test_accuracy)}, the original's "
        f"{number(utility.original_test_accuracy)}): leaking less that way is no win."
    )


def _defense(beside: Beside) -> str | None:
    row, undefended = beside.row, beside.undefended
    if row.defense.method in ("none", "not stated"):
        return None
    name = main_metric(row.metrics)
    if undefended is None or name is None or name not in undefended.metrics:
        return "The same attack on the undefended models is not here, so what the defense did cannot be told."
    now, before = row.metrics[name], undefended.metrics[name]
    if undefended.finding.outcome == "not_seen":
        return f"There was no leak to lower: without a defense the attack was already at the null ({scored(before)})."
    if now.mean == before.mean or (now.mean > before.mean) == now.higher_is_better:
        return f"The defense did not lower the score: {scored(now)}, without it {scored(before)}.{_too_weak(row)}"
    if not apart(before, now):
        return (
            f"Lower than without a defense ({scored(before)}), but the two 95 % intervals overlap: at n = {now.n} "
            f"that is no difference shown.{_too_weak(row)}"
        )
    if row.finding.outcome == "not_seen":
        return _by_whom(beside)
    return f"The defense lowered the score (without it {scored(before)}), but not to the null.{_too_weak(row)}"


def _by_whom(beside: Beside) -> str:
    """What an attack that was brought down to its null says of the defense."""
    row = beside.row
    if knows(row.attack):
        return "Lowered, also against an attacker who knows the defense, by the one counter that is known here."
    if row.defense.counterless:
        return "Lowered. No way to make use of knowing this defense is known here."
    knowing = next((one for one in beside.alike if knows(one.attack)), None)
    if knowing is None:
        return "Lowered, against an attacker who does not know the defense; one who knows it may still succeed."
    name = main_metric(knowing.metrics)
    got = f" gets {scored(knowing.metrics[name])}" if name else ""
    stands = {"leak": "and it leaks", "inconclusive": "which is not decided", "not_seen": "and no leak was seen there"}
    told = stands[knowing.finding.outcome]
    return f"Lowered, against an attacker who does not know the defense; one who knows it{got}, {told}."


def _fetched(beside: Beside) -> str | None:
    draws = beside.row.defense.params.get("draws")
    if not knows(beside.row.attack) or not isinstance(draws, int) or draws < 2:
        return None
    return f"This attacker averages {draws} fetches of the release, which assumes that each has noise of its own."


def _too_weak(row: Row) -> str:
    """Why a chosen strength was not a higher one."""
    strength = row.defense.strength
    if strength is None or row.finding.outcome != "leak":
        return ""
    return f" Its {strength.name} {strength.value:g} is {strength.why}; against this attack that is too weak."


def _of_kind(beside: Beside) -> str | None:
    return " ".join(text for kind in kinds() if (text := kind.note(beside.row))) or None


RULES: tuple[Callable[[Beside], str | None], ...] = (_forgets_nothing, _useless, _defense, _of_kind, _fetched)
