"""Numbers and names as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.reporting.evaluations import is_adaptive, method_key, without_adaptive
from shared.reporting.models import Defense, Method, Row, Score


def format_number(value: float | None, unit: str = "", sign: bool = False) -> str:
    """One number with its unit: decibels with one decimal, others with two, small ones with
    three."""
    if value is None:
        return "—"
    decibel = unit == "dB"
    small = abs(value) < (0.01 if unit == "share" else 0.1)
    digits = 1 if decibel else (3 if small and value else 2)
    text = f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
    return f"{text} dB" if decibel else text


def format_percent(percent: float) -> str:
    """Two digits, and no exponent: `0.31`, `4.9`, `14`, `1,230`."""
    return f"{percent:,.0f}" if percent >= 9.95 else f"{percent:.2g}"


def format_measurement(value: float) -> str:
    """A number of any size and unknown unit: `4,096`, `12,345.6`, `0.731`, `1e-05`."""
    form = ",.0f" if value == int(value) else ",.1f" if abs(value) >= 100 else ".3g"
    return f"{value:{form}}".replace("-", "−")


def format_interval(
    low: float | None, high: float | None, unit: str = "", sign: bool = False
) -> str:
    """`[low, high]`, without the unit."""
    if low is None or high is None:
        return "(no interval)"
    return (
        "["
        + ", ".join(format_number(end, unit, sign).removesuffix(" dB") for end in (low, high))
        + "]"
    )


def format_probability(p: float) -> str:
    """`below 0.0001`, `0.0005`, `0.031`, `0.42`: two significant digits."""
    if p < 0.0001:
        return "below 0.0001"
    return f"{p:.2g}" if p >= 0.001 else f"{p:.4f}"


def format_score(score: Score) -> str:
    """`26.0 dB [23.4, 28.5]`."""
    return (
        f"{format_number(score.mean, score.unit)} "
        f"{format_interval(score.low, score.high, score.unit)}"
    )


def format_gain(score: Score) -> str:
    """`+12.7 dB [+10.3, +15.0]`; for a proportion without the interval, as that of the score says
    more."""
    ends = format_interval(score.gain_low, score.gain_high, score.unit, sign=True)
    return format_number(score.gain, score.unit, sign=True) + (
        "" if score.interval == "wilson" else f" {ends}"
    )


def describe_chance(share: float) -> str:
    """`by chance it would be 1 in 101 of them`; a percentage if that is more than a quarter."""
    if share <= 0:
        return "by chance it would be none"
    odds = f"{100 * share:.0f} %" if share > 0.25 else f"1 in {round(1 / share):,} of them"
    return f"by chance it would be {odds}"


def pluralise(count: int, one: str, many: str | None = None) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def count_of(some: int, total: int, many: str) -> str:
    """`both methods`, `all 4 methods`, `1 of 4 methods`, `none of 4 methods`."""
    if some == total:
        return f"{'both' if total == 2 else f'all {total}'} {many}"
    return f"{some or 'none'} of {total} {many}"


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """`a, b and c`."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def list_attacks(rows: Iterable[Row]) -> list[Method]:
    """The distinct attacks of the rows, in their order."""
    return list({method_key(row.attack): row.attack for row in rows}.values())


def matches_attack(row: Row, attack: Method) -> bool:
    """Whether the row is of that attack, or of its adaptive variant if the defense has no adaptive
    attack."""
    if method_key(row.attack) == method_key(attack):
        return True
    return (
        row.adaptive_too
        and is_adaptive(attack)
        and method_key(without_adaptive(row.attack)) == method_key(without_adaptive(attack))
    )


def list_columns(rows: Sequence[Row]) -> list[Method]:
    """The attacks of the rows, each adaptive one next to its plain variant.

    Attacks that only stand in for an adaptive one, where there is none, are left out.
    """

    def stands_in(attack: Method) -> bool:
        own = [row for row in rows if method_key(row.attack) == method_key(attack)]
        return all(
            any(is_adaptive(other) and matches_attack(row, other) for other in attacks)
            for row in own
        )

    attacks = list_attacks(rows)
    attack_keys = list(dict.fromkeys(method_key(without_adaptive(attack)) for attack in attacks))
    attacks.sort(
        key=lambda attack: (
            attack_keys.index(method_key(without_adaptive(attack))),
            is_adaptive(attack),
        )
    )
    return [attack for attack in attacks if is_adaptive(attack) or not stands_in(attack)]


def group_by_release(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each (unlearning, defense), in their order."""
    grouped: dict[tuple[tuple[str, str], tuple[str, str]], list[Row]] = {}
    for row in rows:
        grouped.setdefault((method_key(row.unlearning), method_key(row.defense)), []).append(row)
    return list(grouped.values())


class Names:
    """Short names of the methods of one report, with parameters only if the method alone is
    ambiguous."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._names: dict[tuple[str, str], str] = {}
        rows = list(rows)
        for kind in (
            [r.unlearning for r in rows],
            [r.defense for r in rows],
            [r.attack for r in rows],
        ):
            self._name_methods(kind)

    def _name_methods(self, methods: Sequence[Method]) -> None:
        distinct = {method_key(m): m for m in methods}
        for key, method in distinct.items():
            alike = [m.params for m in distinct.values() if m.method == method.method]
            differing = [
                n for n in method.params if any(p.get(n) != method.params[n] for p in alike)
            ]
            details = [f"{name} {method.params[name]}" for name in differing if name != "adaptive"]
            details += ["knows the defense"] if is_adaptive(method) else []
            self._names[key] = (
                f"{method.method} ({', '.join(details)})" if details else method.method
            )

    def has_name(self, method: Method) -> bool:
        """Whether the report has rows of this method, which make its name unambiguous."""
        return method_key(method) in self._names

    def __call__(self, method: Method) -> str:
        """The method's name; a defense is `no defense` for none, and has its chosen strength and
        guarantee."""
        if isinstance(method, Defense):
            if method.method == "none":
                return "no defense"
            details = (
                [f"{method.strength.name} {method.strength.value:g}"] if method.strength else []
            )
            details += [
                f"{name} {method.guarantee[name]:.3g}"
                for name in ("epsilon",)
                if name in method.guarantee
            ]
            if details:
                name = self._names.get(method_key(method), method.method).removesuffix(")")
                return f"{name}{', ' if '(' in name else ' ('}{', '.join(details)})"
        return self._names.get(method_key(method), method.method)

    def name_choice(self, method: Method) -> str:
        """The name without a strength, the same for all seeds."""
        if isinstance(method, Defense) and method.method == "none":
            return "no defense"
        return self._names.get(method_key(method), method.method)
