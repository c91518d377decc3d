"""The releases of an audit: which leak, and which defense is to be credited."""

from __future__ import annotations

from collections.abc import Sequence

from shared.reporting.evaluations import ADAPTIVE_PARAM, is_adaptive, method_key
from shared.reporting.findings import retains_utility, undoes_unlearning
from shared.reporting.forgetting import find_way, shows_too_little
from shared.reporting.formatting import group_by_release
from shared.reporting.kinds import find_kind, find_main_metric
from shared.reporting.models import Level, Missing, Row
from shared.reporting.notes import attack_key, find_unattacked_defenses, intervals_disjoint
from shared.reporting.reported_kind import ReportedKind

Rows = Sequence[Row]


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

    @property
    def passes(self) -> bool:
        """Whether everything that was run speaks for this release: no leak, also not for attackers
        who know its defense; useful models; samples that are surely forgotten."""
        way = find_way(self.rows)
        return (
            way is not None
            and way.state in ("forgotten", "exact")
            and not way.is_uncertain
            and self.is_clear
            and self.retains_utility
            and not find_unattacked_defenses(self.rows)
        )

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

    def has_informed_attackers(self, undefended: Release) -> bool:
        """Whether attackers who know the defense ran what leaked without it: only then is a low
        score to the defense's credit."""
        if self.defense.lacks_adaptive_attack:
            return True
        informed = {attack_key(row) for row in self.rows if is_adaptive(row.attack)}
        leaking = {
            attack_key(row) for row in undefended.leaking if ADAPTIVE_PARAM in row.attack.params
        }
        return bool(informed) and leaking <= informed

    def is_credited_against(self, undefended: Release) -> bool:
        """Whether the leak is smaller, also for attackers who know that the defense was used."""
        return self.leaks_less_than(undefended) and self.has_informed_attackers(undefended)


Methods = Sequence[Sequence[Release]]  # by unlearning method, its releases


def group_releases(rows: Rows, missing: Sequence[Missing]) -> list[list[Release]]:
    """The releases of each unlearning method, in the order of the rows."""
    by_method: dict[tuple[str, str], list[Release]] = {}
    for group in group_by_release(rows):
        release = Release(group, missing)
        by_method.setdefault(method_key(release.unlearning), []).append(release)
    return list(by_method.values())


def find_undefended(options: Sequence[Release]) -> Release | None:
    """Of one unlearning method, the release without a defense."""
    return next((release for release in options if release.defense.method == "none"), None)


def decide_level(options: Sequence[Release]) -> Level:
    """The level of one unlearning method, over the defenses tried on it."""
    if not any(release.leaking for release in options):
        return (
            "no_leak_seen"
            if all(release.is_clear and release.retains_utility for release in options)
            else "inconclusive"
        )
    undefended = find_undefended(options)
    if undefended is not None and undefended.leaking:
        others = [release for release in options if release is not undefended]
        if any(release.is_credited_against(undefended) for release in others):
            return "reduced"
    return "leaks"


def find_strongest(rows: Rows) -> Row | None:
    """The strongest leak: of the most severe kind, then by the lower end of the gain."""
    leaking = [row for row in rows if row.finding.outcome == "leak"]

    def rank_row(row: Row) -> tuple[int, float]:
        kind = find_leaking_kind(row)
        return kind.severity, kind.measure_strength(row)

    return max(leaking, key=rank_row, default=None)


def find_leaking_kind(leaking: Row) -> ReportedKind:
    """The kind whose rule makes the row a leak."""
    kind = find_kind(leaking.metrics)
    assert kind is not None
    return kind


def group_by_attack(rows: Rows) -> list[list[Row]]:
    """The rows of each attack on each release: they differ in their seed only."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        key = tuple(method_key(part) for part in (row.unlearning, row.defense, row.attack))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def find_same_release(rows: Rows, row: Row) -> list[Row]:
    """The rows of the same release, of all seeds and attacks."""
    key = method_key(row.unlearning), method_key(row.defense)
    return [one for one in rows if (method_key(one.unlearning), method_key(one.defense)) == key]


def find_same_attack(rows: Rows, row: Row) -> list[Row]:
    """The rows that differ from this one in their seed only; it is among them."""
    key = method_key(row.attack)
    return [one for one in find_same_release(rows, row) if method_key(one.attack) == key]
