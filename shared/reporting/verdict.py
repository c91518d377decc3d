"""The verdict in words, by the rules of `findings`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.reporting.evaluations import is_adaptive, method_key
from shared.reporting.findings import retains_utility, shows_forgetting, undoes_unlearning
from shared.reporting.forgetting import describe_forgetting, shows_too_little
from shared.reporting.formatting import (
    Names,
    format_number,
    group_by_release,
    join_words,
    list_attacks,
    pluralise,
)
from shared.reporting.kinds import find_kind, find_main_metric, list_kinds
from shared.reporting.models import Level, Missing, Row, SelfTest, Verdict
from shared.reporting.notes import attack_key, find_unattacked_defenses, intervals_disjoint
from shared.reporting.reported_kind import ReportedKind

Rows = Sequence[Row]
BASELINE_MEANING = "the baseline is the score without the attack"
WORST_FIRST: tuple[Level, ...] = ("leaks", "inconclusive", "reduced", "no_leak_seen")


class Release:
    """All rows of one release: an (unlearning, defense) pair."""

    def __init__(self, rows: Rows, missing: Sequence[Missing]) -> None:
        self.rows = rows
        self.unlearning, self.defense = rows[0].unlearning, rows[0].defense
        self.missing = [
            m
            for m in missing
            if m.attack
            and (method_key(m.unlearning), method_key(m.defense))
            == (method_key(self.unlearning), method_key(self.defense))
        ]

    @property
    def leaking(self) -> list[Row]:
        return [row for row in self.rows if row.finding.outcome == "leak"]

    @property
    def undecided(self) -> list[Row]:
        return [row for row in self.rows if row.finding.outcome == "inconclusive"]

    @property
    def retains_utility(self) -> bool:
        """Whether the released models are useful in every row."""
        return all(retains_utility(row.utility) for row in self.rows)

    @property
    def is_clear(self) -> bool:
        """Whether no attack is missing, none was seen to leak, and something was unlearned."""
        unclear = self.leaking or self.undecided or self.missing
        return not unclear and not shows_too_little(self.rows)

    def leaks_less_than(self, undefended: Release) -> bool:
        """Whether this release leaks less than `undefended`, is useful, and forgets if that
        does."""
        if (
            not self.is_clear
            or not self.retains_utility
            or undoes_unlearning(self.rows, undefended.rows)
        ):
            return False
        for before in undefended.leaking:
            name = find_main_metric(before.metrics) or ""
            # adaptive variants included
            same_attack = [row for row in self.rows if attack_key(row) == attack_key(before)]
            if not same_attack or not all(
                name in row.metrics and intervals_disjoint(before.metrics[name], row.metrics[name])
                for row in same_attack
            ):
                return False
        return True


def group_releases(rows: Rows, missing: Sequence[Missing]) -> list[Release]:
    """The releases of the rows, in their order."""
    return [Release(group, missing) for group in group_by_release(rows)]


def conclude(rows: Rows, missing: Sequence[Missing], self_test: SelfTest | None = None) -> Verdict:
    """The audit's verdict. Code that fails its self-test decides nothing."""
    if self_test is not None and not self_test.passed:
        failed = (
            "The code that produced this report failed its self-test "
            f"({join_words(self_test.failed)})"
        )
        verdict = conclude(rows, missing)
        text = f"Verdict without the self-test: {verdict.headline}"
        headline = f"{failed}; none of these results are reliable."
        return Verdict(
            level="inconclusive", headline=headline, sentences=[text, *verdict.sentences]
        )
    if not rows:
        text = "Nothing was measured: no evaluation of an attack finished."
        return Verdict(level="inconclusive", headline=text, sentences=_write_closing(rows, missing))
    names, groups = Names(rows), group_releases(rows, missing)
    methods = _group_by_unlearning(groups)
    levels = [_decide_level(options) for options in methods]
    if missing or any(release.undecided for release in groups):
        # a missing row may leak, and without utility a low score is meaningless
        levels.append("inconclusive")
    level = min(levels, key=WORST_FIRST.index)
    sentences = [
        _write_sentence(release, names, _find_undefended(release, methods)) for release in groups
    ]
    not_forgotten = describe_forgetting(rows, names)
    headline = _write_headline(level, methods, names)
    if not_forgotten and level == "inconclusive" and not any(r.leaking for r in groups):
        headline, *not_forgotten = not_forgotten
    return Verdict(
        level=level,
        headline=headline,
        sentences=[*not_forgotten, *sentences, *_write_closing(rows, missing)],
    )


def _group_by_unlearning(groups: Iterable[Release]) -> list[list[Release]]:
    by_method: dict[tuple[str, str], list[Release]] = {}
    for release in groups:
        by_method.setdefault(method_key(release.unlearning), []).append(release)
    return list(by_method.values())


def _decide_level(options: Sequence[Release]) -> Level:
    """The level of one unlearning method, over the defenses tried on it."""
    if not any(release.leaking for release in options):
        return (
            "no_leak_seen"
            if all(release.is_clear and release.retains_utility for release in options)
            else "inconclusive"
        )
    undefended = next((release for release in options if release.defense.method == "none"), None)
    if undefended is not None and undefended.leaking:
        others = [release for release in options if release is not undefended]
        if any(release.leaks_less_than(undefended) for release in others):
            return "reduced"
    return "leaks"


def find_strongest(rows: Rows) -> Row | None:
    """The strongest leak: of the most severe kind, then by the lower end of the gain."""
    leaking = [row for row in rows if row.finding.outcome == "leak"]

    def rank_row(row: Row) -> tuple[int, float]:
        kind = _find_leaking_kind(row)
        return kind.severity, kind.measure_strength(row)

    return max(leaking, key=rank_row, default=None)


def _find_leaking_kind(leaking: Row) -> ReportedKind:
    """The kind whose rule makes the row a leak."""
    kind = find_kind(leaking.metrics)
    assert kind is not None
    return kind


def _write_headline(level: Level, methods: Sequence[Sequence[Release]], names: Names) -> str:
    """The verdict in one sentence; it prefers a leak that no defense reduced, if there is one."""
    if level == "no_leak_seen":
        return (
            "No leak was seen with the attacks that were run. This does not prove that there is "
            f"none.{_describe_unseen(methods)}"
        )
    leaking = [options for options in methods if any(release.leaking for release in options)]
    worst_row = find_strongest(
        [
            row
            for options in leaking
            if level != "leaks" or _decide_level(options) == "leaks"
            for r in options
            for row in r.rows
        ]
    )
    if worst_row is None:
        return "These measurements do not show whether deleted data leaks."
    subject = _find_leaking_kind(worst_row).name_leak(worst_row)
    if level == "leaks":
        start = f"{subject} after {names.name_choice(worst_row.unlearning)}"
        details = "" if worst_row.defense.method == "none" else f" with {names(worst_row.defense)}"
        details += " by an adaptive attacker" if is_adaptive(worst_row.attack) else ""
        same = [
            row
            for options in methods
            for release in options
            for row in release.rows
            if _is_same_attack(row, worst_row)
        ]
        return f"{start}{details}: {_describe_leak(same, worst_row)} ({BASELINE_MEANING})."
    after = join_words([names.name_choice(options[0].unlearning) for options in leaking])
    start = (
        f"{subject} after {after} without a defense; {_describe_effective_defenses(leaking, names)}"
    )
    return start + (
        ". Some results are inconclusive and may be leaks." if level == "inconclusive" else "."
    )


def _is_same_attack(row: Row, other: Row) -> bool:
    """Whether two rows differ only in their seed."""
    return all(
        method_key(own) == method_key(its)
        for own, its in zip(
            (row.unlearning, row.defense, row.attack),
            (other.unlearning, other.defense, other.attack),
            strict=True,
        )
    )


def _describe_leak(rows: Rows, worst_row: Row) -> str:
    """The result of rows that differ only in their seed: of all, then of the strongest."""
    kind = _find_leaking_kind(worst_row)
    if len(rows) == 1:
        return kind.describe(worst_row)
    counts = kind.describe_counts(rows)
    return (
        f"{counts + ' ' if counts else ''}over {len(rows)} seeds, most in seed {worst_row.seed}: "
        f"{kind.describe(worst_row)}"
    )


def _describe_unseen(methods: Sequence[Sequence[Release]]) -> str:
    """What the weakest of the attacks' results does not exclude."""
    by_attack: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in (row for options in methods for release in options for row in release.rows):
        key = tuple(method_key(one) for one in (row.unlearning, row.defense, row.attack))
        by_attack.setdefault(key, []).append(row)
    fewest = min(by_attack.values(), key=lambda rows: sum(row.deletions for row in rows))
    kind = find_kind(fewest[0].metrics)
    text = kind.describe_unseen(fewest) if kind else None
    return f" {text}" if text else ""


def _describe_effective_defenses(methods: Sequence[Sequence[Release]], names: Names) -> str:
    """Which defenses work for all these unlearning methods, and at how many settings."""
    effective = []
    for name in dict.fromkeys(release.defense.method for release in methods[0]):
        settings, lowering = [], []
        for options in methods:
            undefended = next(release for release in options if release.defense.method == "none")
            settings.append(
                [r for r in options if r is not undefended and r.defense.method == name]
            )
            lowering.append([r for r in settings[-1] if r.leaks_less_than(undefended)])
        if not all(lowering):
            continue
        if lowering == settings:
            effective.append(name)
        elif len(methods) > 1:
            effective.append(f"{name} in some settings")
        elif len(lowering[0]) > 1:
            effective.append(f"{name} in {len(lowering[0])} of {len(settings[0])} settings")
        else:
            effective.append(names.name_choice(lowering[0][0].defense))
    stopped = "stopped every attack that was run and retained the models' utility"
    return (
        f"{join_words(effective)} {stopped}"
        if effective
        else f"for each of them at least one defense {stopped}"
    )


def _find_undefended(release: Release, methods: Sequence[Sequence[Release]]) -> Release | None:
    """The undefended release of the same unlearning method, unless it is this one."""
    options = next(options for options in methods if release in options)
    release_without = next((other for other in options if other.defense.method == "none"), None)
    return release_without if release_without is not release else None


def _write_sentence(release: Release, names: Names, undefended: Release | None) -> str:
    """One sentence on a release; for a defended one also whether it leaks significantly less."""
    start = f"{names.name_choice(release.unlearning)}, {names.name_choice(release.defense)}: "
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
        and undefended.leaking
        and release.is_clear
        and undoes_unlearning(release.rows, undefended.rows)
    ):
        text += " The defense undoes the unlearning, so the lower leakage is meaningless."
    elif (
        undefended
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
    known = [row.utility for row in release.rows if row.utility]
    if not known:
        return " Its accuracy cost is unknown."
    lowest = min(known, key=lambda utility: utility.test_accuracy)
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
    if any(row.utility for row in rows) and not any(shows_forgetting(row.utility) for row in rows):
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
