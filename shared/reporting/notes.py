"""Notes that accompany the numbers of a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.reporting.evaluations import is_adaptive, method_key, without_adaptive
from shared.reporting.findings import retains_utility, shows_forgetting
from shared.reporting.formatting import format_number, format_score
from shared.reporting.kinds import find_main_metric, list_kinds
from shared.reporting.models import Row, Score

AttackKey = tuple[int, tuple[str, str], tuple[str, str]]


class NoteInputs(NamedTuple):
    """A row, the same attack's row on the undefended models, and its rows on the same release."""

    row: Row
    undefended: Row | None
    same_attack: Sequence[Row] = ()


def annotate(rows: Sequence[Row]) -> list[Row]:
    """The rows with their notes."""
    undefended = {attack_key(row): row for row in rows if row.defense.method == "none"}
    same_attack = defaultdict[tuple[AttackKey, tuple[str, str]], list[Row]](list)
    for row in rows:
        same_attack[attack_key(row), method_key(row.defense)].append(row)
    annotated = []
    for row in rows:
        inputs = NoteInputs(
            row,
            undefended.get(attack_key(row)),
            same_attack[attack_key(row), method_key(row.defense)],
        )
        sentences = [text for rule in RULES if (text := rule(inputs))]
        annotated.append(row.model_copy(update={"note": " ".join(sentences) or None}))
    return annotated


def find_unattacked_defenses(rows: Sequence[Row]) -> list[str]:
    """Defenses that were not attacked adaptively, though an adaptive attack may succeed."""
    used = dict.fromkeys(
        row.defense.method for row in rows if not row.defense.lacks_adaptive_attack
    )
    used.pop("not stated", None)
    return [
        name
        for name in used
        if not any(is_adaptive(r.attack) and r.defense.method == name for r in rows)
    ]


def attack_key(row: Row) -> AttackKey:
    """Rows with equal keys have the same deletions and differ only in the defense and in
    `adaptive`."""
    return row.seed, method_key(row.unlearning), method_key(without_adaptive(row.attack))


def intervals_disjoint(before: Score, after: Score) -> bool:
    """Whether the attack scores significantly less `after`: the 95 % intervals do not overlap."""
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return False
    return after.high < before.low if before.higher_is_better else after.low > before.high


def _note_forgetting(inputs: NoteInputs) -> str | None:
    utility, unlearning = inputs.row.utility, inputs.row.unlearning
    if utility is None or utility.forget_accuracy is None or shows_forgetting(utility):
        return None
    accuracies = (
        f"forget accuracy {format_number(utility.forget_accuracy)}, the original's "
        f"{format_number(utility.original_forget_accuracy)}"
    )
    if unlearning.exact:
        return (
            f"Unlearning is exact but not visible ({accuracies}): the model classifies these "
            "samples correctly without having seen them."
        )
    return f"Unlearning is not visible ({accuracies})."


def _note_utility(inputs: NoteInputs) -> str | None:
    utility = inputs.row.utility
    if inputs.row.unscored is not None:
        return None
    if utility is None or utility.test_accuracy is None:
        return "The utility of the released models is unknown, so a low score is meaningless."
    if retains_utility(utility):
        return None
    return (
        "The released models are no longer useful (test accuracy "
        f"{format_number(utility.test_accuracy)}, original "
        f"{format_number(utility.original_test_accuracy)}): a lower score is meaningless."
    )


def _note_defense(inputs: NoteInputs) -> str | None:
    row, undefended = inputs.row, inputs.undefended
    if row.defense.method in ("none", "not stated"):
        return None
    name = find_main_metric(row.metrics)
    if undefended is None or name is None or name not in undefended.metrics:
        return (
            "The same attack on the undefended models is missing, so the effect of the defense "
            "is unknown."
        )
    now, before = row.metrics[name], undefended.metrics[name]
    if undefended.finding.outcome == "not_seen":
        return (
            "There was no leak to reduce: none was seen without a defense either "
            f"({format_score(before)})."
        )
    if now.mean == before.mean or (now.mean > before.mean) == now.higher_is_better:
        return (
            f"The defense did not reduce the score: {format_score(now)}, without it "
            f"{format_score(before)}.{_explain_too_weak(row)}"
        )
    if not intervals_disjoint(before, now):
        return (
            f"Lower than without a defense ({format_score(before)}), but the two 95 % intervals "
            f"overlap: at n = {now.n} the difference is not significant.{_explain_too_weak(row)}"
        )
    if row.finding.outcome == "not_seen":
        return _describe_reduction(inputs)
    return (
        f"The defense reduced the score (without it {format_score(before)}), but not to the "
        f"baseline.{_explain_too_weak(row)}"
    )


def _describe_reduction(inputs: NoteInputs) -> str:
    """What an attack reduced to its baseline implies about the defense."""
    row = inputs.row
    if is_adaptive(row.attack):
        return "Reduced, also against the adaptive attack that is implemented for this defense."
    if row.defense.lacks_adaptive_attack:
        return "Reduced. No adaptive attack on this defense is known."
    adaptive = next((one for one in inputs.same_attack if is_adaptive(one.attack)), None)
    if adaptive is None:
        return (
            "Reduced for an attacker unaware of the defense; an adaptive attacker may still "
            "succeed."
        )
    name = find_main_metric(adaptive.metrics)
    score_text = f" still scores {format_score(adaptive.metrics[name])}" if name else ""
    outcome_words = {
        "leak": "(leak)",
        "inconclusive": "(inconclusive)",
        "not_seen": "(no leak seen)",
    }
    outcome_text = outcome_words[adaptive.finding.outcome]
    return (
        f"Reduced for an attacker unaware of the defense; an adaptive attacker{score_text} "
        f"{outcome_text}."
    )


def _note_averaging(inputs: NoteInputs) -> str | None:
    releases_averaged = inputs.row.defense.params.get("releases_averaged")
    if (
        not is_adaptive(inputs.row.attack)
        or not isinstance(releases_averaged, int)
        or releases_averaged < 2
    ):
        return None
    return (
        f"This attacker averages {releases_averaged} releases, assuming independent noise in each."
    )


def _explain_too_weak(row: Row) -> str:
    """Why no higher strength was chosen."""
    strength = row.defense.strength
    if strength is None or row.finding.outcome != "leak":
        return ""
    return (
        f" Its {strength.name} {strength.value:g} is {strength.reason}; it is too weak against "
        "this attack."
    )


def _note_kind(inputs: NoteInputs) -> str | None:
    return " ".join(text for kind in list_kinds() if (text := kind.write_note(inputs.row))) or None


RULES: tuple[Callable[[NoteInputs], str | None], ...] = (
    _note_forgetting,
    _note_utility,
    _note_defense,
    _note_kind,
    _note_averaging,
)
