"""Was it forgotten? The way to retraining of each release, and what it means for the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Literal

from shared.forgetting import (
    LEAST_RISE,
    MIN_SEEDS,
    ROUNDING_NATS,
    Forgetting,
    ForgettingRow,
)
from shared.reporting.evaluations import method_key, parse_record
from shared.reporting.forgetting_tests import (
    TESTS,
    TestResult,
    describe_tests,
    format_ends,
    format_share,
)
from shared.reporting.formatting import (
    Names,
    format_number,
    group_by_release,
    join_words,
    pluralise,
)
from shared.reporting.models import Row

MAX_BYTES = 4 << 20
NOTHING, LITTLE, EXCESS = 0.05, 0.25, 2.0  # ways to retraining
Z = NormalDist().inv_cdf(0.975)

State = Literal["nothing", "little", "unknown", "disputed", "excess", "forgotten", "exact"]
WORST_FIRST: tuple[State, ...] = (
    "nothing", "little", "unknown", "disputed", "excess", "forgotten", "exact",
)  # fmt: skip
TOO_LITTLE: tuple[State, ...] = ("nothing", "little", "unknown", "disputed")
STATE_NAMES: dict[State, str] = {
    "nothing": "Nothing unlearned",
    "little": "Little unlearned",
    "unknown": "Not measurable",
    "disputed": "Disputed",
    "excess": "Overshot",
    "forgotten": "Unlearned",
    "exact": "Exact",
}
OUTCOMES: dict[State, str] = {  # the colour of each on the page
    "nothing": "leak",
    "little": "inconclusive",
    "unknown": "inconclusive",
    "disputed": "inconclusive",
    "excess": "inconclusive",
    "forgotten": "not_seen",
    "exact": "not_seen",
}
RULES = (
    "The way to retraining is (forget loss of the release - of the original) / (of retrained models "
    "- of the original), with means over all deletions and at least three retraining seeds: 0 if "
    "nothing was unlearned, 1 if as much as by retraining. It is not measurable if retraining raises "
    "the forget loss by no more than its spread over seeds (one standard deviation of the mean), or "
    f"by no more than {100 * LEAST_RISE:g} % of the original's: then the original hardly shows that "
    "it was trained on the samples.",
    "A measured leak counts as a leak, however far unlearning went. Without one, a release whose "
    f"way is below {LITTLE} or cannot be measured is inconclusive (below {NOTHING}, the report "
    "says that nothing was unlearned): an attack that finds nothing after a deletion that did "
    "nothing is no evidence of safety. Models of exact unlearning never saw the "
    f"samples and are exempt. A way above {EXCESS:g} is shown as “overshot”: the models do worse "
    "on the samples than models that never saw them, which an attacker may notice; the attacks "
    "decide whether it leaks.",
    "A few samples can dominate the mean. A release whose way is far enough is still “disputed”, "
    "and inconclusive without a leak, if the three-sample test or relearning on forgotten samples "
    "finds it closer to the original. The other tests of forgetting change no verdict. "
    "Differences are "
    "those of the release and the retrained models, means over deletions with 95 % intervals. "
    "“Closer to the original” in the three-sample test requires that the 95 % interval of the "
    "statistic (jackknife over deletions) lies above zero and that a retrained model would show "
    "such a statistic in at most 5 % of the cases; after relearning on forgotten samples, that the "
    "interval of the way to retraining lies below 50 % and that a retrained model would show such "
    "losses in at most 0.2 % of the cases.",
)

ReleaseKey = tuple[int, tuple[str, str], tuple[str, str]]


def read_forgetting(data: bytes, role: str) -> Forgetting:
    """Parse one FORGETTING: untrusted bytes.

    Raises:
        InvalidRequest: see `parse_record`.
    """
    return parse_record(Forgetting, data, role, MAX_BYTES)


def key_by_release(measured: Iterable[Forgetting]) -> dict[ReleaseKey, ForgettingRow]:
    """The measurements by seed, unlearning method and defense."""
    return {
        (one.seed, method_key(one.unlearning), method_key(one.defense)): one.measured
        for one in measured
    }


@dataclass(frozen=True)
class Way:
    """The way to retraining of one release, all seeds of the audit together."""

    state: State
    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    deletions: int  # over all seeds; of them:
    risen: int  # have a higher forget loss than in the original
    risen_retrained: int  # have one after retraining

    @property
    def is_uncertain(self) -> bool:
        """Whether the deletions differ so much that nothing may have been unlearned either."""
        measured = self.state in ("forgotten", "excess")
        return measured and (self.low is None or self.low < NOTHING)


def pool_way(rows: Sequence[ForgettingRow], exact: bool) -> Way:
    """The way of one release over seeds, each with equal weight."""
    if len(rows) == 1:
        only = rows[0]
        value, low, high, reason = only.way, only.way_low, only.way_high, only.reason
    else:
        value, low, high, reason = _pool_seeds(rows)
    by_deletion = [one for row in rows for one in row.by_deletion]
    return Way(
        _name_state(value, exact, any(_is_closer_to_original(row) for row in rows)),
        value,
        low,
        high,
        reason,
        deletions=len(by_deletion),
        risen=sum(one.release > one.original + ROUNDING_NATS for one in by_deletion),
        risen_retrained=sum(
            fmean(one.retrained) > one.original + ROUNDING_NATS for one in by_deletion
        ),
    )


def _is_closer_to_original(row: ForgettingRow) -> bool:
    """Whether a test says so that hardly ever says it of a retrained model."""
    decisive = (row.tests.three_sample, row.tests.relearning_forgotten)
    return any(test is not None and test.not_forgotten is True for test in decisive)


def _name_state(value: float | None, exact: bool, is_closer_to_original: bool) -> State:
    if exact:
        return "exact"
    if value is None:
        return "unknown"
    if value < LITTLE:
        return "nothing" if value < NOTHING else "little"
    if is_closer_to_original:
        return "disputed"
    return "excess" if value > EXCESS else "forgotten"


def _pool_seeds(
    rows: Sequence[ForgettingRow],
) -> tuple[float | None, float | None, float | None, str | None]:
    if any(row.retraining_seeds < MIN_SEEDS for row in rows):
        return None, None, None, rows[0].reason
    lengths = [row.retrained.forget.loss - row.original.forget.loss for row in rows]
    length = fmean(lengths)
    spread = math.sqrt(fmean(row.spread**2 for row in rows) / len(rows))
    original = fmean(row.original.forget.loss for row in rows)
    if length <= max(spread, ROUNDING_NATS, LEAST_RISE * original):
        return (
            None,
            None,
            None,
            next(
                (row.reason for row in rows if row.reason),
                "over all seeds, retraining does not raise the forget loss by more than its spread "
                f"and {100 * LEAST_RISE:g} % of the original's",
            ),
        )
    done = fmean(row.release.forget.loss - row.original.forget.loss for row in rows)
    value = done / length
    variance = 0.0
    for row, own in zip(rows, lengths, strict=True):
        if row.way_low is None or row.way_high is None:
            return value, None, None, None
        variance += (own / (length * len(rows)) * (row.way_high - row.way_low) / (2 * Z)) ** 2
    half = Z * math.sqrt(variance)
    return value, value - half, value + half, None


def find_way(rows: Sequence[Row]) -> Way | None:
    """The way of the release that these rows are of; None if it was not measured."""
    by_seed = {row.seed: row.forgetting for row in rows if row.forgetting is not None}
    if not by_seed:
        return None
    return pool_way(list(by_seed.values()), rows[0].unlearning.exact is True)


def shows_too_little(rows: Sequence[Row]) -> bool:
    """Whether a low score on this release says nothing, as too little was unlearned, or nobody
    knows how much. A release that was not compared with retraining is not judged."""
    way = find_way(rows)
    return way is not None and way.state in TOO_LITTLE


def describe_forgetting(rows: Sequence[Row], names: Names) -> list[str]:
    """In the details of a verdict: releases without a leak that have not shown to forget."""
    by_state: dict[State, list[tuple[str, Way]]] = {}
    for group in group_by_release(rows):
        way = find_way(group)
        if way is None or any(row.finding.outcome == "leak" for row in group):
            continue
        first = group[0]
        name = names.name_choice(first.unlearning)
        if first.defense.method != "none":
            name += f" with {names.name_choice(first.defense)}"
        by_state.setdefault(way.state, []).append((name, way))
    sentences = []
    if nothing := by_state.get("nothing"):
        sentences.append(
            f"Nothing was unlearned by {_list_ways(nothing)}: that no attack finds the samples is "
            "no evidence of safety."
        )
    if little := by_state.get("little"):
        sentences.append(
            f"Too little was unlearned by {_list_ways(little)}: a result without a leak means "
            "nothing here."
        )
    if disputed := by_state.get("disputed"):
        sentences.append(
            f"On average, {_list_ways(disputed)} went far enough, but tests find "
            f"{'it' if len(disputed) == 1 else 'them'} closer to the original than to retraining: "
            "a result without a leak means nothing here."
        )
    if unknown := by_state.get("unknown"):
        reasons = dict.fromkeys(way.reason or "" for _, way in unknown)
        sentences.append(
            f"Whether {join_words([name for name, _ in unknown])} "
            f"{'has' if len(unknown) == 1 else 'have'} unlearned anything cannot be measured: "
            f"{'; '.join(reasons)}."
        )
    return sentences


def _list_ways(releases: Sequence[tuple[str, Way]]) -> str:
    """`a (0 % of the way to retraining) and b (1 %)`."""
    words = [f"{name} ({format_share(way.value)})" for name, way in releases]
    words[0] = words[0][:-1] + " of the way to retraining)"
    return join_words(words)


@dataclass(frozen=True)
class ForgettingLine:
    """One release in the table; every value is text. Of each triple: original, release,
    retraining."""

    release: str
    outcome: str
    word: str
    losses: tuple[str, str, str]
    accuracies: tuple[str, str, str]
    way: str
    interval: str
    seeds: str
    tests: dict[str, TestResult]


def build_lines(rows: Sequence[Row], names: Names) -> list[ForgettingLine]:
    """The table, worst release first."""
    ranked = []
    for group in group_by_release(rows):
        way = find_way(group)
        if way is not None:
            rank = WORST_FIRST.index(way.state), way.value or 0.0
            ranked.append((rank, _build_line(group, way, names)))
    return [line for _, line in sorted(ranked, key=lambda one: one[0])]


def _build_line(group: Sequence[Row], way: Way, names: Names) -> ForgettingLine:
    by_seed = {row.seed: row.forgetting for row in group if row.forgetting is not None}
    measured = list(by_seed.values())
    sets = [
        [getattr(one, kind).forget for one in measured]
        for kind in ("original", "release", "retrained")
    ]
    losses = [format_loss(fmean(one.loss for one in of_kind)) for of_kind in sets]
    accuracies = [format_number(fmean(one.accuracy for one in of_kind)) for of_kind in sets]
    name = names.name_choice(group[0].unlearning), names.name_choice(group[0].defense)
    one = measured[0]
    return ForgettingLine(
        release=", ".join(name),
        outcome=OUTCOMES[way.state],
        word=STATE_NAMES[way.state] + (", uncertain" if way.is_uncertain else ""),
        losses=(losses[0], losses[1], losses[2]),
        accuracies=(accuracies[0], accuracies[1], accuracies[2]),
        way=format_share(way.value) if way.value is not None else "not measurable",
        interval=way.reason or "" if way.value is None else format_ends(way.low, way.high),
        seeds=(
            f"{pluralise(one.deletions, 'deletion')}, "
            f"{pluralise(one.retraining_seeds, 'retraining seed')}"
            + (f", {pluralise(len(measured), 'seed')}" if len(measured) > 1 else "")
            + f"; loss risen in {way.risen} of {way.deletions} (retraining: {way.risen_retrained})"
        ),
        tests=describe_tests(measured),
    )


def format_loss(loss: float) -> str:
    """`2.31`, `0.034`, `1.2e-05`: nats."""
    if loss >= 0.01:
        return f"{loss:.2f}" if loss >= 1 else f"{loss:.3f}"
    return f"{loss:.2g}"


def list_tests(lines: Sequence[ForgettingLine]) -> list[str]:
    """The tests that were run on any release, in the order of their columns."""
    return [name for name in TESTS.values() if any(name in line.tests for line in lines)]
