"""The verdict in words, by the rules of `findings`: the card, and details by release."""

from __future__ import annotations

from collections.abc import Sequence

from shared.reporting.card import MAX_SENTENCES, find_headline_row, write_card
from shared.reporting.evaluations import method_key
from shared.reporting.findings import retains_utility, shows_forgetting, undoes_unlearning
from shared.reporting.forgetting import describe_forgetting
from shared.reporting.formatting import (
    Names,
    format_number,
    join_words,
    list_attacks,
    pluralise,
)
from shared.reporting.kinds import list_kinds
from shared.reporting.models import Level, Missing, NotBrought, Row, SelfTest, Verdict
from shared.reporting.not_tested import list_not_tested
from shared.reporting.notes import find_unattacked_defenses
from shared.reporting.releases import (
    Methods,
    Release,
    decide_level,
    find_leaking_kind,
    find_strongest,
    find_undefended,
    group_releases,
)
from shared.reporting.threat_models import describe_attacker, measure_knowledge
from shared.reporting.unscored import summarise_unscored, without_truth

Rows = Sequence[Row]
WORST_FIRST: tuple[Level, ...] = ("leaks", "inconclusive", "reduced", "no_leak_seen")
NOTHING_MEASURED = "Nothing was measured: no evaluation of an attack finished."


def conclude(
    rows: Rows,
    missing: Sequence[Missing],
    self_test: SelfTest | None = None,
    not_brought: Sequence[NotBrought] = (),
) -> Verdict:
    """The audit's verdict. Code that fails its self-test decides nothing, nor does anything without
    a truth."""
    if not rows:
        verdict = Verdict(level="inconclusive", headline=NOTHING_MEASURED, sentences=[])
    elif without_truth(rows):
        verdict = _conclude_without_truth(rows, not_brought)
    else:
        verdict = _conclude_from_rows(rows, missing)
    verdict = verdict.model_copy(
        update={
            "not_tested": list_not_tested(rows),
            "details": [*verdict.details, *_write_closing(rows, missing)],
        }
    )
    if self_test is None or self_test.passed:
        return verdict
    return verdict.model_copy(
        update={
            "level": "inconclusive",
            "passed": [],
            "headline": "The code that produced this report failed its self-test, so none of "
            "these results are reliable.",
            "sentences": [
                f"Without the self-test the verdict would be: {verdict.headline}",
                *verdict.sentences[: MAX_SENTENCES - 2],
            ],
        }
    )


def _conclude_without_truth(rows: Rows, not_brought: Sequence[NotBrought]) -> Verdict:
    """Nothing is decided, whatever came back."""
    row = max(rows, key=measure_knowledge)
    attacker, names = describe_attacker(row), Names(rows)
    needed = [one.what for one in not_brought]
    compared = (
        "Attacks ran, and what they returned is below. It was not compared with the deleted samples, "
        "because they were not brought"
    )
    if any(one.unscored and one.unscored.images for one in rows):
        compared += (
            "; a picture alone proves nothing, as a search for a random direction returns one too"
        )
    several_seeds = len({one.seed for one in rows}) > 1
    return Verdict(
        level="inconclusive",
        headline=f"The deleted samples were not brought, so these measurements do not show whether {attacker}"
        f"{',' if ',' in attacker else ''} can recover deleted samples.",
        sentences=[
            f"{compared}.",
            *([f"To say more, bring {join_words(needed)}."] if needed else []),
        ],
        row=next(place for place, one in enumerate(rows, start=1) if one is row),
        details=[
            f"{names.name_choice(one.unlearning)}, {names(one.attack)}"
            f"{f', seed {one.seed}' if several_seeds else ''}: {summarise_unscored(one.unscored)}."
            for one in rows
            if one.unscored and summarise_unscored(one.unscored)
        ],
    )


def _conclude_from_rows(rows: Rows, missing: Sequence[Missing]) -> Verdict:
    names, methods = Names(rows), group_releases(rows, missing)
    releases = [release for options in methods for release in options]
    levels = [decide_level(options) for options in methods]
    if missing or any(release.undecided for release in releases):
        # a missing row may leak, and without utility a low score is meaningless
        levels.append("inconclusive")
    level = min(levels, key=WORST_FIRST.index)
    row = find_headline_row(level, methods)
    headline, *sentences = write_card(level, methods, missing, row)
    return Verdict(
        level=level,
        headline=headline,
        sentences=sentences,
        row=next(place for place, one in enumerate(rows, start=1) if one is row),
        passed=[_name_release(release, names) for release in releases if release.passes],
        details=[
            *describe_forgetting(rows, names),
            *(
                _write_sentence(release, names, find_undefended(options))
                for options in methods
                for release in options
            ),
            *_describe_effective_defenses(methods, names),
        ],
    )


def _name_release(release: Release, names: Names) -> str:
    return f"{names.name_choice(release.unlearning)}, {names.name_choice(release.defense)}"


def _describe_leak(rows: Rows, worst_row: Row) -> str:
    """The result of rows that differ only in their seed: of all, then of the strongest."""
    kind = find_leaking_kind(worst_row)
    if len(rows) == 1:
        return kind.describe(worst_row)
    counts = kind.describe_counts(rows)
    return (
        f"{counts + ' ' if counts else ''}over {len(rows)} seeds, most in seed {worst_row.seed}: "
        f"{kind.describe(worst_row)}"
    )


def _describe_effective_defenses(methods: Methods, names: Names) -> list[str]:
    """Which defenses stopped what was run after each unlearning method, and at how many
    settings."""
    sentences = []
    for options in methods:
        undefended = find_undefended(options)
        if undefended is None or not undefended.leaking:
            continue
        effective = []
        for name in dict.fromkeys(release.defense.method for release in options):
            settings = [r for r in options if r is not undefended and r.defense.method == name]
            lowering = [r for r in settings if r.leaks_less_than(undefended)]
            if lowering and len(lowering) == len(settings):
                effective.append(name)
            elif len(lowering) > 1:
                effective.append(f"{name} in {len(lowering)} of {len(settings)} settings")
            elif lowering:
                effective.append(names.name_choice(lowering[0].defense))
        if effective:
            sentences.append(
                f"After {names.name_choice(undefended.unlearning)}, {join_words(effective)} stopped "
                "every attack that was run and retained the models' utility."
            )
    return sentences


def _write_sentence(release: Release, names: Names, undefended: Release | None) -> str:
    """One sentence on a release; for a defended one also whether it leaks significantly less."""
    start = f"{_name_release(release, names)}: "
    clauses, unseen = [], []
    for attack in list_attacks(release.rows):
        rows = [row for row in release.rows if method_key(row.attack) == method_key(attack)]
        outcomes = [row.finding.outcome for row in rows]
        if (worst_row := find_strongest(rows)) is not None:
            clauses.append(f"{names(attack)} leaks ({_describe_leak(rows, worst_row)})")
        elif "inconclusive" in outcomes:
            clauses.append(f"{names(attack)} is inconclusive")
        else:
            unseen.append(names(attack))
    if unseen and not clauses:
        clauses.append(
            "no leak was seen with "
            f"{'any of the ' if len(unseen) > 1 else ''}{pluralise(len(unseen), 'attack')}"
        )
    elif unseen:
        clauses.append(f"no leak was seen with {join_words(unseen)}")
    text = (
        start + "; ".join(clauses) + "." + ("" if release.leaking else _describe_accuracy(release))
    )
    if (
        undefended
        and undefended is not release
        and undefended.leaking
        and release.is_clear
        and undoes_unlearning(release.rows, undefended.rows)
    ):
        text += " The defense undoes the unlearning, so the lower leakage is meaningless."
    elif (
        undefended
        and undefended is not release
        and undefended.leaking
        and release.is_clear
        and release.retains_utility
        and not release.leaks_less_than(undefended)
    ):
        text += (
            " The release does not leak significantly less than without the defense: the 95 % "
            "intervals overlap."
        )
    return text


def _describe_accuracy(release: Release) -> str:
    known = [
        (row.utility.test_accuracy, row.utility)
        for row in release.rows
        if row.utility and row.utility.test_accuracy is not None
    ]
    if not known:
        return " Its accuracy cost is unknown."
    _, lowest = min(known, key=lambda one: one[0])
    warning = (
        ""
        if retains_utility(lowest)
        else " The models are no longer useful, so a low score is meaningless."
    )
    return (
        f" Test accuracy {format_number(lowest.test_accuracy)} (original "
        f"{format_number(lowest.original_test_accuracy)}), forget accuracy "
        f"{format_number(lowest.forget_accuracy)} (original "
        f"{format_number(lowest.original_forget_accuracy)}).{warning}"
    )


def _write_closing(rows: Rows, missing: Sequence[Missing]) -> list[str]:
    """Sentences that close every verdict."""
    sentences = []
    if missing:
        sentences.append(
            f"{pluralise(len(missing), 'row')} of the audit "
            f"{'is' if len(missing) == 1 else 'are'} missing; missing rows may leak."
        )
    known = [row.utility for row in rows if row.utility and row.utility.forget_accuracy is not None]
    if known and not any(shows_forgetting(row.utility) for row in rows):
        sentences.append(
            "No released model classifies the deleted samples worse than the original model does: "
            "forgetting is not visible."
        )
    sentences += [text for kind in list_kinds() if (text := kind.summarise_rows(rows))]
    if unknown := find_unattacked_defenses(rows):
        sentences.append(
            f"No adaptive attack was run against {join_words(unknown)}. A low score of an "
            "attacker unaware of the defense is not evidence of safety."
        )
    return sentences
