"""What the paper says, the rule by which each claim is decided, and what was found.

The rules were fixed before the first run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeVar

from benchmarks.paper.audits import Scale
from benchmarks.paper.evidence import ALPHA, Evidence, Identified, Pooled, Score, difference, fisher, trend

T = TypeVar("T")
Verdict = Literal["supported here", "not supported", "not testable here"]
MAX_COST = 0.02  # of test accuracy, that a defense may cost
METHODS = {"exact": "retrain", "approximate": "gradient_ascent"}
# Who attacks which unlearning: the name of the estimate, and what is known for it.
ESTIMATES = {
    "exact, with base, N and k": ("exact", "base"),
    "exact, from the pair alone": ("exact", "pair"),
    "approximate, from the pair": ("approximate", "pair"),
}
LABELS = {
    "white box, from the pair": ("label_inference", {"gradient_from": "pair"}),
    "white box, with base, N and k": ("label_inference", {"gradient_from": "base"}),
    "black box": ("label_inference_black_box", {}),
}


@dataclass(frozen=True)
class Finding:
    """A claim in one case."""

    case: str
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in our words, and how it is decided."""

    question: str
    says: str
    rule: str
    findings: tuple[Finding, ...]


def claims(evidence: Evidence) -> list[Claim]:
    """All claims, each decided case by case."""
    return [decide(evidence) for decide in DECIDED]


def recovery(evidence: Evidence, estimate: str, setting: str) -> Pooled:
    """Feature recovery by one estimate in one setting, such as `N = 32`."""
    unlearning, gradient_from = ESTIMATES[estimate]
    return evidence.of(f"{unlearning}, {setting}", METHODS[unlearning], "feature_recovery", gradient_from=gradient_from)


def _leak(evidence: Evidence) -> Claim:
    def found() -> Iterator[Finding]:
        for estimate in ESTIMATES:
            told = recovery(evidence, estimate, "N = 32").identified()
            yield _decided(estimate, told, lambda t: t.leaks, _identified)

    return Claim(
        "Does unlearning leak the features of what was forgotten?",
        "A server that holds the weights before and after reads the deleted image back, after exact as after "
        "approximate unlearning.",
        f"Supported where more deleted images are told from {_decoys(evidence)} decoys of their class than chance "
        f"explains (exact binomial test, p < {ALPHA}). N = 32, k = 1.",
        tuple(found()),
    )


def _exact_or_approximate(evidence: Evidence) -> Claim:
    exact = recovery(evidence, "exact, with base, N and k", "N = 32").score("psnr")
    approximate = recovery(evidence, "approximate, from the pair", "N = 32").score("psnr")
    return Claim(
        "Which kind of unlearning leaks more?",
        "Approximate unlearning leaks more than exact unlearning.",
        "The difference in PSNR, paired by deletion: supported where its whole 95 % interval is above 0.",
        (_more("approximate over exact, N = 32", approximate, exact),),
    )


def _size(evidence: Evidence) -> Claim:
    def found() -> Iterator[Finding]:
        for estimate in ESTIMATES:
            groups = [
                (float(n), s.gains)
                for n in evidence.scale.sizes
                if (s := recovery(evidence, estimate, f"N = {n}").score("psnr"))
            ]
            if len(groups) < 2:
                yield Finding(estimate, "not testable here", "no results")
                continue
            rho, p = trend(groups)
            means = ", ".join(f"{fmean(values):+.1f} dB at N = {n:g}" for n, values in groups)
            verdict: Verdict = "supported here" if rho < 0 and p < ALPHA else "not supported"
            yield Finding(estimate, verdict, f"rank correlation with N {rho:+.2f}, p {_p(p)}; gain {means}")

    return Claim(
        "How does the leak fall with the size of the training set?",
        "The more samples the model was trained on, the less the deletion of one of them leaks.",
        f"Supported where the gain over the null falls with N (Spearman, p < {ALPHA}), N of "
        f"{_listed(evidence.scale.sizes)}.",
        tuple(found()),
    )


def _architecture(evidence: Evidence) -> Claim:
    def found() -> Iterator[Finding]:
        for estimate in ESTIMATES:
            convnet = recovery(evidence, estimate, "N = 32").score("psnr")
            yield _more(estimate, convnet, recovery(evidence, estimate, evidence.scale.residual).score("psnr"))

    return Claim(
        f"ConvNet against {evidence.scale.residual}",
        "Plain convolutional networks leak more than residual ones.",
        "The difference in PSNR, paired by deletion: supported where its whole 95 % interval is above 0.",
        tuple(found()),
    )


def _convergence(evidence: Evidence) -> Claim:
    early, late = min(evidence.scale.epochs), max(evidence.scale.epochs)

    def found() -> Iterator[Finding]:
        for estimate in ESTIMATES:
            first, last = (
                recovery(evidence, estimate, at_epochs(evidence.scale, e)).score("psnr") for e in (early, late)
            )
            yield _more(estimate, first, last)

    return Claim(
        "Early against converged base",
        "The better the base model has converged, the less the deletion leaks.",
        f"PSNR from a base of {early} against {late} epochs of pretraining, paired by deletion: supported where the "
        "whole 95 % interval of the difference is above 0.",
        tuple(found()),
    )


def at_epochs(scale: Scale, epochs: int) -> str:
    """The setting of audits whose base was pretrained for so many epochs."""
    return "N = 32" if epochs == scale.base else f"{epochs} epochs"


def label_cases(scale: Scale) -> Iterator[tuple[str, str, str]]:
    """Data, kind of unlearning, attack: what labels are asked of."""
    for data in ("images", *scale.tables):
        for kind in METHODS:
            for attack in LABELS:
                if kind == "exact" or attack != "white box, with base, N and k":
                    yield data, kind, attack


def labels(evidence: Evidence, data: str, share: str, kind: str, attack: str) -> Score | None:
    """How often the class was named rightly."""
    method, params = LABELS[attack]
    return evidence.of(f"labels of {data}, {share}", METHODS[kind], method, **params).score("label_accuracy")


def _labels(evidence: Evidence) -> Claim:
    def found() -> Iterator[Finding]:
        for data, kind, attack in label_cases(evidence.scale):
            score = labels(evidence, data, ONE, kind, attack)
            yield _decided(f"{data}, {kind}, {attack}", score, lambda s: s.leaks, _named)

    return Claim(
        "Does unlearning leak the class of one sample?",
        "A user of the prediction API tells the class of the deleted sample from answers before and after.",
        "One sample a deletion: supported where the Wilson interval of the share of right answers is above the "
        "strongest null (guessing, or the same answers for other deletions).",
        tuple(found()),
    )


def _share(evidence: Evidence) -> Claim:
    def found() -> Iterator[Finding]:
        for data, kind, attack in label_cases(evidence.scale):
            case = f"{data}, {kind}, {attack}"
            one = labels(evidence, data, ONE, kind, attack)
            whole = labels(evidence, data, f"{max(evidence.scale.shares):g} of a class", kind, attack)
            if not one or not whole:
                yield Finding(case, "not testable here", "no results")
                continue
            right = (round(sum(whole.values)), whole.n), (round(sum(one.values)), one.n)
            why = f"{right[1][0]} of {one.n} for one sample, {right[0][0]} of {whole.n} for the whole class"
            if right[1][0] == one.n:
                yield Finding(case, "not testable here", f"{why}: one sample is told every time already")
                continue
            p = fisher(*right)
            yield Finding(case, "supported here" if p < ALPHA else "not supported", f"{why}, p {_p(p)}")

    return Claim(
        "Does the class leak more the more of it is forgotten?",
        "Labels are told more surely the larger the share p_u of the class that is forgotten.",
        f"Supported where more whole classes than single samples are told (Fisher's exact test, p < {ALPHA}).",
        tuple(found()),
    )


def _defenses(evidence: Evidence) -> Claim:
    def found() -> Iterator[Finding]:
        for defense in evidence.scale.defenses:
            for adaptive in (False, True):
                yield _defended(evidence, defense, adaptive)

    return Claim(
        "What are the defenses worth?",
        "Obfuscation, pruning and fine-tuning lower the leak, at a price in utility.",
        f"Of the settings that cost at most {100 * MAX_COST:g} points of test accuracy the one that leaks least: "
        "supported where PSNR falls against the undefended release, paired by deletion (whole 95 % interval), and no "
        "more images are told from decoys than chance explains. An attacker who knows the defense counts as much.",
        tuple(found()),
    )


def _defended(evidence: Evidence, defense: str, adaptive: bool) -> Finding:
    case = f"{defense}, attacker {'knows it' if adaptive else 'does not know it'}"
    ascent, attack = METHODS["approximate"], "feature_recovery"
    bare = evidence.of("defenses", ascent, attack, adaptive=False).score("psnr")
    before = evidence.utility("defenses", ascent).get("test_accuracy")
    releases = evidence.releases("defenses", defense)
    if not bare or before is None or not releases:
        return Finding(case, "not testable here", "no results")
    affordable = []
    for release in releases:
        pooled = evidence.of("defenses", ascent, attack, release, adaptive=adaptive)
        cost = before - evidence.utility("defenses", ascent, release).get("test_accuracy", 0.0)
        score, told = pooled.score("psnr"), pooled.identified()
        if score and told and cost <= MAX_COST:
            affordable.append((score.mean, release, cost, score, told))
    if not affordable:
        return Finding(case, "not supported", "no setting of the sweep is that cheap")
    _, release, cost, score, told = min(affordable, key=lambda a: a[0])
    fall = difference(bare, score)
    assert fall is not None
    holds = fall[1] > 0 and not told.leaks
    why = (
        f"at {release.strength} {release.value:g} (cost {100 * cost:.1f} points) PSNR is lower by {fall[0]:.1f} dB "
        f"[{fall[1]:.1f}, {fall[2]:.1f}], {told.count} of {told.n} identified"
    )
    return Finding(case, "supported here" if holds else "not supported", why)


ONE = "one sample"
DECIDED: tuple[Callable[[Evidence], Claim], ...] = (
    _leak,
    _exact_or_approximate,
    _size,
    _architecture,
    _convergence,
    _labels,
    _share,
    _defenses,
)


def _decided(case: str, found: T | None, holds: Callable[[T], bool], told: Callable[[T], str]) -> Finding:
    if found is None:
        return Finding(case, "not testable here", "no results")
    return Finding(case, "supported here" if holds(found) else "not supported", told(found))


def _more(case: str, left: Score | None, right: Score | None) -> Finding:
    paired = difference(left, right) if left and right else None
    if paired is None:
        return Finding(case, "not testable here", "no results of the same deletions")
    mean, low, high = paired
    return Finding(case, "supported here" if low > 0 else "not supported", f"{mean:+.1f} dB [{low:+.1f}, {high:+.1f}]")


def _identified(told: Identified) -> str:
    low, high = told.interval
    return f"{told.count} of {told.n} identified [{low:.2f}, {high:.2f}], chance {told.chance:.2f}, p {_p(told.p)}"


def _named(score: Score) -> str:
    low, high = score.interval
    right = round(sum(score.values))
    return f"{right} of {score.n} right [{low:.2f}, {high:.2f}], null {score.null:.2f} ({score.null_name})"


def _decoys(evidence: Evidence) -> int:
    told = recovery(evidence, "approximate, from the pair", "N = 32").identified()
    return told.decoys if told else 100


def _p(p: float) -> str:
    return "< 0.001" if p < 1e-3 else f"{p:.3f}"


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))
