"""The sentences of the verdict card, for the person who signs: what an attacker gets who holds and
knows what, whether the samples were forgotten, and what defenses are worth. No plugin is named."""

from __future__ import annotations

from collections.abc import Sequence

from shared.reporting.evaluations import is_adaptive
from shared.reporting.findings import retains_utility
from shared.reporting.forgetting import TOO_LITTLE, find_way, shows_too_little
from shared.reporting.forgetting_words import summarise_forgetting
from shared.reporting.formatting import count_of, format_probability
from shared.reporting.kinds import find_kind
from shared.reporting.models import Level, Missing, Row
from shared.reporting.notes import find_unattacked_defenses
from shared.reporting.releases import (
    Methods,
    Release,
    decide_level,
    find_leaking_kind,
    find_same_attack,
    find_same_release,
    find_strongest,
    find_undefended,
    group_by_attack,
)
from shared.reporting.threat_models import describe_attacker, measure_knowledge
from shared.roles import Role

Rows = Sequence[Row]
MAX_SENTENCES = 4


def find_headline_row(level: Level, methods: Methods) -> Row:
    """The row that the card begins with: the strongest leak, one that no defense reduced if there
    is one; without a leak, the row of the attacker who held and knew most."""
    rows = [row for options in methods for release in options for row in release.rows]
    leak = find_strongest(
        [
            row
            for options in methods
            if level != "leaks" or decide_level(options) == "leaks"
            for release in options
            for row in release.rows
        ]
    )
    return leak or max(rows, key=_rank_attacker)


def _rank_attacker(row: Row) -> tuple[int, int]:
    kind = find_kind(row.metrics)
    return measure_knowledge(row), kind.severity if kind else 0


def write_card(level: Level, methods: Methods, missing: Sequence[Missing], row: Row) -> list[str]:
    """Two to four sentences.

    Args:
        row: of `find_headline_row`.
    """
    rows = [row for options in methods for release in options for row in release.rows]
    forgotten = summarise_forgetting(rows)
    if row.finding.outcome == "leak":
        sentences = [
            _describe_leak(rows, row),
            _reconcile(forgotten, row, rows),
            _describe_extent(methods, rows),
            _describe_gaps(rows, missing),
            _describe_utility(rows) if level == "inconclusive" else None,
        ]
    elif level == "no_leak_seen":
        sentences = [
            f"No leak was seen, even for {describe_attacker(row)}.",
            _describe_unseen(methods),
            forgotten,
            _describe_uncredited(rows),
        ]
    else:
        unforgotten = [r for options in methods for r in options if shows_too_little(r.rows)]
        open_ = (
            f"These measurements do not show whether {_name_attacker(row)} can recover deleted "
            "samples."
        )
        sentences = (
            [forgotten, _describe_consequence(unforgotten, methods), open_]
            if unforgotten
            else [open_, forgotten]
        )
        sentences += [
            _describe_gaps(rows, missing),
            _describe_utility(rows),
            _describe_uncredited(rows),
        ]
    return [sentence for sentence in sentences if sentence][:MAX_SENTENCES]


def _describe_leak(rows: Rows, row: Row) -> str:
    """What the attacker of the strongest leak gets, over all its seeds."""
    kind = find_leaking_kind(row)
    if row.defense.method not in ("none", "not stated"):
        start = "Despite a defense, "
    elif any(other.defense.method not in ("none", "not stated") for other in rows):
        start = "Without a defense, "
    else:
        start = ""
    success = kind.describe_success(find_same_attack(rows, row))
    p = row.finding.p_corrected
    certainty = "" if p is None else f" (p {format_probability(p)} after correction)"
    return _capitalise(f"{start}{_name_attacker(row)} {success}{certainty}.")


def _name_attacker(row: Row) -> str:
    """The attacker as the subject of a verb: a description with commas ends with one."""
    attacker = describe_attacker(row)
    return f"{attacker}," if "," in attacker else attacker


def _reconcile(forgotten: str, row: Row, rows: Rows) -> str:
    """The sentence about forgetting after a leak: a model can have forgotten what its difference
    to the one before gives away."""
    way = find_way(find_same_release(rows, row))
    compares = Role.ORIGINAL in row.threat_model.get("observes", [])
    if way is None or way.state in TOO_LITTLE or not compares:
        return forgotten
    return f"Taken alone, {forgotten[0].lower()}{forgotten[1:]}"


def _describe_unseen(methods: Methods) -> str:
    """What the weakest of the attacks' results does not exclude."""
    rows = [row for options in methods for release in options for row in release.rows]
    fewest = min(group_by_attack(rows), key=lambda group: sum(row.deletions for row in group))
    kind = find_kind(fewest[0].metrics)
    text = kind.describe_unseen(fewest) if kind else None
    start = "This does not prove that nothing leaks"
    return f"{start}: {text[0].lower()}{text[1:]}" if text else f"{start}."


def _describe_consequence(unforgotten: Sequence[Release], methods: Methods) -> str:
    """What it means for the attacks that too little was unlearned."""
    if len(unforgotten) == sum(len(options) for options in methods):
        return "That no attack finds them therefore shows nothing."
    return "Where they were not forgotten, it shows nothing that no attack finds the samples."


def _describe_extent(methods: Methods, rows: Rows) -> str | None:
    """After which unlearning methods leaks were found, and what the defenses are worth."""
    leaking = [options for options in methods if any(release.leaking for release in options)]
    clauses = []
    if len(methods) > 1:
        others = [options for options in methods if options not in leaking]
        exact = others and all(options[0].unlearning.exact for options in others)
        exact = exact and not any(options[0].unlearning.exact for options in leaking)
        clauses.append(
            f"leaks were found after {count_of(len(leaking), len(methods), 'unlearning methods')}"
            + (
                ", none after exact unlearning (training again without the samples)"
                if exact
                else ""
            )
        )
    if any(len(options) > 1 or options[0] is not find_undefended(options) for options in leaking):
        clauses.append(_describe_defenses(leaking, rows))
    return _capitalise(f"{'; '.join(clauses)}.") if clauses else None


def _describe_defenses(leaking: Methods, rows: Rows) -> str:
    """Whether a defense is credited: only if attackers who know it were stopped too."""
    pairs = [
        (release, find_undefended(options))
        for options in leaking
        for release in options
        if release.defense.method != "none"
    ]
    credited = [r for r, undefended in pairs if undefended and r.is_credited_against(undefended)]
    uncredited = [r for r, undefended in pairs if undefended and r.leaks_less_than(undefended)]
    if credited:
        informed_clause = (
            "; no attack that uses knowledge of this defense is known"
            if all(release.defense.lacks_adaptive_attack for release in credited)
            else ", even with attackers who know the defense"
        )
        return f"{_count_releases(credited, pairs)} showed no leak{informed_clause}"
    if uncredited:
        some_tried = any(is_adaptive(row.attack) for release in uncredited for row in release.rows)
        gap = "did not try every attack that leaked" if some_tried else "were not tried"
        return (
            f"{_count_releases(uncredited, pairs)} showed no leak with attackers who do not know "
            f"the defense, but those who know it {gap}, so no defense is credited"
        )
    if any(_fails_when_known(release) for release, _ in pairs):
        return "the defense fails against attackers who know it"
    only = len({release.defense.method for release, _ in pairs}) == 1
    name, pronoun = (
        ("the defense that was", "it") if only else ("none of the defenses that were", "them")
    )
    untried = find_unattacked_defenses(rows)
    return f"{name} tried is {'not ' if only else ''}shown to prevent leaks" + (
        f", and attackers who know {pronoun} were not tried" if untried else ""
    )


def _count_releases(some: Sequence[Release], pairs: Sequence[object]) -> str:
    if len(pairs) == 1:
        return "the defended variant"
    return count_of(len(some), len(pairs), "defended variants")


def _fails_when_known(release: Release) -> bool:
    """Whether only attackers who know the defense find a leak."""
    return bool(release.leaking) and all(is_adaptive(row.attack) for row in release.leaking)


def _describe_uncredited(rows: Rows) -> str | None:
    if not find_unattacked_defenses(rows):
        return None
    return "Attackers who know the defense were not tried, so no defense is credited."


def _describe_gaps(rows: Rows, missing: Sequence[Missing]) -> str | None:
    undecided = sum(row.finding.outcome == "inconclusive" for row in rows)
    parts = [
        f"{count} {'is' if count == 1 else 'are'} {word}"
        for count, word in ((len(missing), "missing"), (undecided, "inconclusive"))
        if count
    ]
    if not parts:
        return None
    if len(rows) + len(missing) == 1:
        return "The only result is inconclusive and may be a leak."
    leaks = "a leak" if len(missing) + undecided == 1 else "leaks"
    return f"Of {len(rows) + len(missing)} results, {' and '.join(parts)}, which may be {leaks}."


def _describe_utility(rows: Rows) -> str | None:
    if all(retains_utility(row.utility) for row in rows):
        return None
    return (
        "Some released models are no longer useful, or their accuracy is not known: that they show "
        "no leak is meaningless."
    )


def _capitalise(text: str) -> str:
    return text[0].upper() + text[1:]
