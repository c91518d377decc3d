"""A claim of the paper, and what the evidence says of it, case by case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from benchmarks.paper.evidence import Identified, Score, difference
from benchmarks.paper.gallery import Gallery

T = TypeVar("T")
Verdict = Literal["supported here", "not supported", "not testable here"]
ABSENT: Verdict = "not testable here"


@dataclass(frozen=True)
class Finding:
    """A claim in one case."""

    case: str
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in our words, how it is decided, and what lies beneath: paragraphs, tables, drawings."""

    question: str
    says: str
    rule: str
    findings: tuple[Finding, ...]
    shown: Callable[[Gallery], Iterator[str]] = lambda _: iter(())


def verdict(holds: bool) -> Verdict:
    return "supported here" if holds else "not supported"


def decided(case: str, found: T | None, holds: Callable[[T], bool], told: Callable[[T], str]) -> Finding:
    """By a rule, where there is anything to decide on."""
    if found is None:
        return Finding(case, ABSENT, "no results")
    return Finding(case, verdict(holds(found)), told(found))


def more(case: str, left: Score | None, right: Score | None) -> Finding:
    """Whether the first leaks more than the second, in dB, paired by deletion."""
    paired = difference(left, right) if left and right else None
    if paired is None:
        return Finding(case, ABSENT, "no results of the same deletions")
    mean, low, high = paired
    return Finding(case, verdict(low > 0), f"{mean:+.1f} dB {within((low, high), 1, sign=True)}")


def identified(told: Identified) -> str:
    return (
        f"{told.count} of {told.n} identified {within(told.interval, 2)}, chance {told.chance:.2f}, p {p_value(told.p)}"
    )


def right(score: Score) -> str:
    """How many classes were named rightly, with the interval of the share."""
    return f"{score.hits} of {score.n} {within(score.interval, 2)}"


def within(interval: tuple[float, float], digits: int, sign: bool = False) -> str:
    low, high = (f"{end:{'+' if sign else ''}.{digits}f}" for end in interval)
    return f"[{low}, {high}]"


def p_value(p: float) -> str:
    return "< 0.001" if p < 1e-3 else f"{p:.3f}"
