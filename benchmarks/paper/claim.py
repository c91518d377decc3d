"""A claim of the paper, and whether the evidence supports it, case by case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from benchmarks.paper.evidence import Identification, Score, compute_difference
from benchmarks.paper.gallery import Gallery

T = TypeVar("T")
Verdict = Literal["supported here", "not supported", "not testable here"]
NOT_TESTABLE: Verdict = "not testable here"


@dataclass(frozen=True)
class CaseResult:
    """A claim in one case."""

    case: str
    verdict: Verdict
    explanation: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, its decision rule and results, and its paragraphs, tables and
    figures."""

    question: str
    statement: str
    rule: str
    results: tuple[CaseResult, ...]
    render: Callable[[Gallery], Iterator[str]] = lambda _: iter(())


def decide_verdict(is_supported: bool) -> Verdict:
    return "supported here" if is_supported else "not supported"


def decide(
    case: str, value: T | None, is_supported: Callable[[T], bool], explain: Callable[[T], str]
) -> CaseResult:
    """Apply a rule to a case, if it has results."""
    if value is None:
        return CaseResult(case, NOT_TESTABLE, "no results")
    return CaseResult(case, decide_verdict(is_supported(value)), explain(value))


def compare_leaks(case: str, left: Score | None, right: Score | None) -> CaseResult:
    """Whether the first attack recovers more than the second, in dB, paired by deletion."""
    paired = compute_difference(left, right) if left and right else None
    if paired is None:
        return CaseResult(case, NOT_TESTABLE, "no results of the same deletions")
    mean, low, high = paired
    return CaseResult(
        case,
        decide_verdict(low > 0),
        f"{mean:+.1f} dB {format_interval((low, high), 1, sign=True)}",
    )


def format_identified(identification: Identification) -> str:
    return (
        f"{identification.count} of {identification.n} identified "
        f"{format_interval(identification.interval, 2)}, chance {identification.chance:.2g}, "
        f"p {format_p(identification.p)}"
    )


def format_hits(score: Score) -> str:
    """How many classes were inferred correctly, with the interval of the share."""
    return f"{score.hits} of {score.n} {format_interval(score.interval, 2)}"


def format_interval(interval: tuple[float, float], digits: int, sign: bool = False) -> str:
    low, high = (f"{end:{'+' if sign else ''}.{digits}f}" for end in interval)
    return f"[{low}, {high}]"


def format_p(p: float) -> str:
    return "< 0.001" if p < 1e-3 else f"{p:.3f}"
