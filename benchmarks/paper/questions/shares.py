"""Does the class leak more the more of it is forgotten?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.claim import ABSENT, Claim, Finding, p_value, right, verdict
from benchmarks.paper.evidence import ALPHA, Evidence, fisher
from benchmarks.paper.figures import Mark, Series
from benchmarks.paper.gallery import Gallery
from benchmarks.paper.naming import ONE, Case, cases, classes, named


def claim(evidence: Evidence) -> Claim:
    return Claim(
        "Does the class leak more the more of it is forgotten?",
        "Labels are told more surely the larger the share p_u of the class that is forgotten.",
        f"Supported where more whole classes than single samples are told (Fisher's exact test, p < {ALPHA}).",
        tuple(_grows(evidence, case) for case in cases(evidence.scale)),
        lambda gallery: _shown(evidence, gallery),
    )


def _grows(evidence: Evidence, case: Case) -> Finding:
    one, whole = named(evidence, case, ONE), named(evidence, case, _of_a_class(max(evidence.scale.shares)))
    if not one or not whole:
        return Finding(case.name, ABSENT, "no results")
    why = f"{one.hits} of {one.n} for one sample, {whole.hits} of {whole.n} for the whole class"
    if one.hits == one.n:
        return Finding(case.name, ABSENT, f"{why}: one sample is told every time already")
    p = fisher((whole.hits, whole.n), (one.hits, one.n))
    return Finding(case.name, verdict(p < ALPHA), f"{why}, p {p_value(p)}")


def _of_a_class(share: float) -> str:
    return f"{share:g} of a class"


def _shown(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    shares = [ONE, *map(_of_a_class, evidence.scale.shares)]
    rows = [f"| data | unlearning | attack | {' | '.join(shares)} | null |", "|---" * (4 + len(shares)) + "|"]
    drawn: dict[str, list[Series]] = {}
    for case in cases(evidence.scale):
        scores = {share: named(evidence, case, share) for share in shares}
        cells = [right(score) if score else "-" for score in scores.values()]
        nulls = dict.fromkeys(f"{score.null:.2f}" for score in scores.values() if score)
        rows.append(f"| {' | '.join([*case, *cells, ', '.join(nulls)])} |")
        marks = [Mark(share, s.mean, *s.interval) for share, s in scores.items() if s]
        drawn.setdefault(case.data, []).append(Series(f"{case.kind}, {case.attack}", marks))
    yield "\n".join(rows)
    for data, series in drawn.items():
        title = f"share of classes named rightly, {data.replace('_', ' ')}"
        yield gallery.shares(f"labels-{data.replace('_', '-')}", title, series, 1 / classes(data))
