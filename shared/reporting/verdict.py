"""All rows in words, by the rules of `findings`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.reporting.evaluations import identity, knows
from shared.reporting.findings import forgets, recalls, useful
from shared.reporting.kind import ReportedKind
from shared.reporting.kinds import kind_of, kinds, main_metric
from shared.reporting.models import Level, Missing, Row, SelfTest, Verdict
from shared.reporting.notes import apart, attacked, unknown_defenses
from shared.reporting.numbers import Names, attacks_of, by_release, listed, number, plural

Rows = Sequence[Row]
NULL = "the null is what an attacker gets who rebuilds nothing"
WORST_FIRST: tuple[Level, ...] = ("leaks", "inconclusive", "reduced", "no_leak_seen")


class Release:
    """All rows of one (unlearning, defense): what one would release."""

    def __init__(self, rows: Rows, missing: Sequence[Missing]) -> None:
        self.rows = rows
        self.unlearning, self.defense = rows[0].unlearning, rows[0].defense
        self.missing = [
            m
            for m in missing
            if m.attack
            and (identity(m.unlearning), identity(m.defense)) == (identity(self.unlearning), identity(self.defense))
        ]

    @property
    def leaking(self) -> list[Row]:
        return [row for row in self.rows if row.finding.outcome == "leak"]

    @property
    def undecided(self) -> list[Row]:
        return [row for row in self.rows if row.finding.outcome == "inconclusive"]

    @property
    def kept(self) -> bool:
        """Whether the released models are of use in every row."""
        return all(useful(row.utility) for row in self.rows)

    @property
    def clear(self) -> bool:
        """Whether every attack was made and none was seen to leak."""
        return not (self.leaking or self.undecided or self.missing)

    def lowers(self, undefended: Release) -> bool:
        """Whether this is a release that leaks less than `undefended`, is still of use, and forgets if that does."""
        if not self.clear or not self.kept or recalls(self.rows, undefended.rows):
            return False
        for before in undefended.leaking:
            name = main_metric(before.metrics) or ""
            here = [row for row in self.rows if attacked(row) == attacked(before)]  # by who knows the defense, too
            if not here or not all(
                name in row.metrics and apart(before.metrics[name], row.metrics[name]) for row in here
            ):
                return False
        return True


def releases(rows: Rows, missing: Sequence[Missing]) -> list[Release]:
    """What the rows tell of, in their order."""
    return [Release(group, missing) for group in by_release(rows)]


def conclude(rows: Rows, missing: Sequence[Missing], self_test: SelfTest | None = None) -> Verdict:
    """The audit's verdict. What code says that fails its self-test decides nothing."""
    if self_test is not None and not self_test.passed:
        failed = f"The code that measured this failed its self-test ({listed(self_test.failed)})"
        found = conclude(rows, missing)
        told = f"What it would have said: {found.headline}"
        headline = f"{failed}: nothing here can be relied on."
        return Verdict(level="inconclusive", headline=headline, sentences=[told, *found.sentences])
    if not rows:
        told = "Nothing was measured: no evaluation of an attack came to an end."
        return Verdict(level="inconclusive", headline=told, sentences=_closing(rows, missing))
    names, grouped = Names(rows), releases(rows, missing)
    methods = _by_unlearning(grouped)
    levels = [_level(options) for options in methods]
    if missing or any(release.undecided for release in grouped):
        levels.append("inconclusive")  # a missing row may leak, and without its utility a low score counts for nothing
    level = min(levels, key=WORST_FIRST.index)
    sentences = [_sentence(release, names, _undefended(release, methods)) for release in grouped]
    return Verdict(
        level=level,
        headline=_headline(level, methods, names),
        sentences=[*sentences, *_closing(rows, missing)],
    )


def _by_unlearning(grouped: Iterable[Release]) -> list[list[Release]]:
    found: dict[tuple[str, str], list[Release]] = {}
    for release in grouped:
        found.setdefault(identity(release.unlearning), []).append(release)
    return list(found.values())


def _level(options: Sequence[Release]) -> Level:
    """Of one unlearning method, over the defenses tried on it."""
    if not any(release.leaking for release in options):
        return "no_leak_seen" if all(release.clear and release.kept for release in options) else "inconclusive"
    undefended = next((release for release in options if release.defense.method == "none"), None)
    if undefended is not None and undefended.leaking:
        others = [release for release in options if release is not undefended]
        if any(release.lowers(undefended) for release in others):
            return "reduced"
    return "leaks"


def strongest(rows: Rows) -> Row | None:
    """The leaking row that says most: of the most severe kind, then by the lower end of the gain."""
    leaking = [row for row in rows if row.finding.outcome == "leak"]

    def weight(row: Row) -> tuple[int, float]:
        kind = _kind(row)
        low = row.metrics[kind.metric].gain_low
        return kind.severity, low if low is not None else float("-inf")

    return max(leaking, key=weight, default=None)


def _kind(leaking: Row) -> ReportedKind:
    """Whose rule says that the row leaks."""
    kind = kind_of(leaking.metrics)
    assert kind is not None
    return kind


def _headline(level: Level, methods: Sequence[Sequence[Release]], names: Names) -> str:
    """The verdict in one sentence; of leaks it tells one that no defense tried here has lowered, if there is any."""
    if level == "no_leak_seen":
        return "A leak was not seen with the attacks tried here. That is not a proof that there is none."
    leaking = [options for options in methods if any(release.leaking for release in options)]
    worst = strongest(
        [
            row
            for options in leaking
            if level != "leaks" or _level(options) == "leaks"
            for r in options
            for row in r.rows
        ]
    )
    if worst is None:
        return "These measurements do not decide whether deleted data leak."
    what = _kind(worst).subject
    if level == "leaks":
        start = f"{what} after {names.choice(worst.unlearning)}"
        told = "" if worst.defense.method == "none" else f" with {names(worst.defense)}"
        told += " by an attacker who knows the defense" if knows(worst.attack) else ""
        return f"{start}{told}: {_kind(worst).describe(worst)} ({NULL})."
    after = listed([names.choice(options[0].unlearning) for options in leaking])
    start = f"{what} after {after} if nothing is done; {_stopped(leaking, names)}"
    return start + (". Not everything here is decided, and what is not may leak." if level == "inconclusive" else ".")


def _stopped(methods: Sequence[Sequence[Release]], names: Names) -> str:
    """Which defenses do for every one of these unlearning methods, and in which of their settings."""
    told = []
    for name in dict.fromkeys(release.defense.method for release in methods[0]):
        made, lowering = [], []
        for options in methods:
            undefended = next(release for release in options if release.defense.method == "none")
            made.append([r for r in options if r is not undefended and r.defense.method == name])
            lowering.append([r for r in made[-1] if r.lowers(undefended)])
        if not all(lowering):
            continue
        if lowering == made:
            told.append(name)
        elif len(methods) > 1:
            told.append(f"{name} in some settings")
        elif len(lowering[0]) > 1:
            told.append(f"{name} in {len(lowering[0])} of {len(made[0])} settings")
        else:
            told.append(names.choice(lowering[0][0].defense))
    stopped = "stopped every attack tried here and kept the models useful"
    return f"{listed(told)} {stopped}" if told else f"for each of them a defense {stopped}"


def _undefended(release: Release, methods: Sequence[Sequence[Release]]) -> Release | None:
    """What the same unlearning method leaks without a defense, where this release is not that."""
    options = next(options for options in methods if release in options)
    found = next((other for other in options if other.defense.method == "none"), None)
    return found if found is not release else None


def _sentence(release: Release, names: Names, undefended: Release | None) -> str:
    """What is known of one release; of a defended one also when it is not known to leak less than without."""
    start = f"{names.choice(release.unlearning)}, {names.choice(release.defense)}: "
    told, unseen = [], []
    for attack in attacks_of(release.rows):
        rows = [row for row in release.rows if identity(row.attack) == identity(attack)]
        outcomes = [row.finding.outcome for row in rows]
        if (worst := strongest(rows)) is not None:
            seeds = f"in {outcomes.count('leak')} of {len(rows)} seeds, most in seed {worst.seed}: "
            told.append(f"{names(attack)} leaks ({seeds if len(rows) > 1 else ''}{_kind(worst).describe(worst)})")
        elif "inconclusive" in outcomes:
            told.append(f"{names(attack)} is undecided")
        else:
            unseen.append(names(attack))
    if unseen and not told:
        told.append(
            f"a leak was not seen with {'any of the ' if len(unseen) > 1 else ''}{plural(len(unseen), 'attack')}"
        )
    elif unseen:
        told.append(f"with {listed(unseen)} a leak was not seen")
    known = start + "; ".join(told) + "." + ("" if release.leaking else _accuracy(release))
    if undefended and undefended.leaking and release.clear and recalls(release.rows, undefended.rows):
        known += " It no longer forgets what the undefended release forgets, so that is no win."
    elif undefended and undefended.leaking and release.clear and release.kept and not release.lowers(undefended):
        known += " That it leaks less than without is not shown: the 95 % intervals of an attack overlap."
    return known


def _accuracy(release: Release) -> str:
    known = [row.utility for row in release.rows if row.utility]
    if not known:
        return " What it costs in accuracy is not known."
    lowest = min(known, key=lambda utility: utility.test_accuracy)
    lost = "" if useful(lowest) else " The models lost their use, so that is no win."
    return (
        f" Test accuracy {number(lowest.test_accuracy)} (original {number(lowest.original_test_accuracy)}), forget "
        f"accuracy {number(lowest.forget_accuracy)} (original {number(lowest.original_forget_accuracy)}).{lost}"
    )


def _closing(rows: Rows, missing: Sequence[Missing]) -> list[str]:
    """What holds beside every verdict."""
    told = []
    if missing:
        told.append(f"{plural(len(missing), 'row')} of the audit did not arrive; what is missing may leak.")
    if any(row.utility for row in rows) and not any(forgets(row.utility) for row in rows):
        told.append("No release classifies the deleted samples worse than the original did: forgetting does not show.")
    told += [text for kind in kinds() if (text := kind.close(rows))]
    if unknown := unknown_defenses(rows):
        told.append(
            f"No attacker here knew that {listed(unknown)} was used. Against a defense that the attacker does not "
            "know, a low score is no evidence of safety."
        )
    return told
