"""Does the class leak more if more of it is forgotten?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.claim import (
    NOT_TESTABLE,
    CaseResult,
    Claim,
    decide_verdict,
    format_hits,
    format_p,
)
from benchmarks.paper.evidence import ALPHA, Evidence, compute_fisher_p
from benchmarks.paper.figures import DataPoint, Series
from benchmarks.paper.gallery import Gallery
from benchmarks.paper.label_inference import (
    ONE_SAMPLE,
    LabelCase,
    count_classes,
    list_cases,
    score_labels,
)


def build_claim(evidence: Evidence) -> Claim:
    return Claim(
        "Does the class leak more if more of it is forgotten?",
        "The larger the forgotten share p_u of a class, the more reliably its label is inferred.",
        "Supported if more labels are inferred for whole classes than for single samples "
        f"(Fisher's exact test, p < {ALPHA}).",
        tuple(_decide_growth(evidence, case) for case in list_cases(evidence.scale)),
        lambda gallery: _render(evidence, gallery),
    )


def _decide_growth(evidence: Evidence, case: LabelCase) -> CaseResult:
    one, whole = (
        score_labels(evidence, case, ONE_SAMPLE),
        score_labels(evidence, case, _name_share(max(evidence.scale.class_shares))),
    )
    if not one or not whole:
        return CaseResult(case.name, NOT_TESTABLE, "no results")
    explanation = (
        f"{one.hits} of {one.n} for one sample, {whole.hits} of {whole.n} for the whole class"
    )
    if one.hits == one.n:
        return CaseResult(
            case.name, NOT_TESTABLE, f"{explanation}: single samples are always inferred already"
        )
    p = compute_fisher_p((whole.hits, whole.n), (one.hits, one.n))
    return CaseResult(case.name, decide_verdict(p < ALPHA), f"{explanation}, p {format_p(p)}")


def _name_share(share: float) -> str:
    return f"{share:g} of a class"


def _render(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    shares = [ONE_SAMPLE, *map(_name_share, evidence.scale.class_shares)]
    rows = [
        f"| data | unlearning | attack | {' | '.join(shares)} | baseline |",
        "|---" * (4 + len(shares)) + "|",
    ]
    series_by_data: dict[str, list[Series]] = {}
    for case in list_cases(evidence.scale):
        scores = {share: score_labels(evidence, case, share) for share in shares}
        cells = [format_hits(score) if score else "-" for score in scores.values()]
        baselines = dict.fromkeys(f"{score.baseline:.2f}" for score in scores.values() if score)
        rows.append(f"| {' | '.join([*case, *cells, ', '.join(baselines)])} |")
        marks = [DataPoint(share, s.mean, *s.interval) for share, s in scores.items() if s]
        series_by_data.setdefault(case.data, []).append(
            Series(f"{case.kind}, {case.attack}", marks)
        )
    yield "\n".join(rows)
    for data, series in series_by_data.items():
        title = f"share of classes inferred correctly, {data.replace('_', ' ')}"
        yield gallery.draw_shares(
            f"labels-{data.replace('_', '-')}", title, series, 1 / count_classes(data)
        )
