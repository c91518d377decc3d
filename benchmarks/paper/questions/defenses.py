"""How effective are the defenses, also against an adaptive attacker?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.paper.audit_specs import METHODS
from benchmarks.paper.claim import (
    NOT_TESTABLE,
    CaseResult,
    Claim,
    decide_verdict,
    format_hits,
    format_interval,
)
from benchmarks.paper.evidence import Evidence, PooledEvaluations, Release, compute_difference
from benchmarks.paper.figures import DataPoint, Series
from benchmarks.paper.gallery import Gallery
from shared.ml.defenses import registry

AUDIT = "defenses"
MAX_ACCURACY_COST = 0.02  # that a defense may cost, of test accuracy
ATTACKERS = {
    False: "identified by the plain attack",
    True: "identified by the adaptive attack",
}


def build_claim(evidence: Evidence) -> Claim:
    return Claim(
        "How effective are the defenses?",
        "Obfuscation, pruning and fine-tuning reduce the leak, at a cost in utility.",
        f"Of the settings that cost at most {100 * MAX_ACCURACY_COST:g} points of test accuracy, "
        "the one that leaks least: supported if PSNR is lower than for the undefended release, "
        "paired by deletion (whole 95 % interval), and no more images are identified among decoys "
        "than chance explains; for the plain and for the adaptive attacker. "
        "DP-SGD, which the paper did not try, changes all training, that of the original models included: there is "
        "no adaptive attack on it.",
        tuple(
            _decide_defense(evidence, defense, knows)
            for defense in evidence.scale.defenses
            for knows in ATTACKERS
            if registry.get(defense).adaptive_view or not knows
        ),
        lambda gallery: _render(evidence, gallery),
    )


def _decide_defense(evidence: Evidence, defense: str, adaptive: bool) -> CaseResult:
    case = f"{defense}, {'adaptive' if adaptive else 'plain'} attacker"
    undefended = _pool_attack(evidence, None, False).pool_score("psnr")
    accuracy_before, releases = (
        _average_accuracy(evidence, None),
        evidence.list_releases(AUDIT, defense),
    )
    if not undefended or accuracy_before is None or not releases:
        return CaseResult(case, NOT_TESTABLE, "no results")
    affordable = []
    for release in releases:
        pooled = _pool_attack(evidence, release, adaptive)
        score, identification = pooled.pool_score("psnr"), pooled.pool_identified()
        cost = accuracy_before - (_average_accuracy(evidence, release) or 0.0)
        if score and identification and cost <= MAX_ACCURACY_COST:
            affordable.append((score.mean, release, cost, score, identification))
    if not affordable:
        return CaseResult(
            case, "not supported", "every setting of the sweep costs too much accuracy"
        )
    _, release, cost, score, identification = min(affordable, key=lambda a: a[0])
    fall = compute_difference(undefended, score)
    assert fall is not None
    explanation = (
        f"at {release.strength_name} {release.strength:g} (cost {100 * cost:.1f} points) "
        f"PSNR is lower by {fall[0]:.1f} dB "
        f"{format_interval(fall[1:], 1)}, {identification.count} of {identification.n} identified"
    )
    return CaseResult(case, decide_verdict(fall[1] > 0 and not identification.leaks), explanation)


def _pool_attack(
    evidence: Evidence, release: Release | None, knows_defense: bool
) -> PooledEvaluations:
    """The plain or the adaptive attack; without a defense they are the same."""
    adaptive = knows_defense and release is not None
    return evidence.pool(
        AUDIT, METHODS["approximate"], "feature_recovery", release, adaptive=adaptive
    )


def _average_accuracy(evidence: Evidence, release: Release | None) -> float | None:
    return evidence.average_utility(AUDIT, METHODS["approximate"], release).get("test_accuracy")


def _render(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    rows = [
        "| defense | strength | test accuracy | forget accuracy (before) | plain attack: PSNR, dB | identified "
        "| adaptive attack: PSNR, dB | identified | label, white box |",
        "|---" * 9 + "|",
        _render_row(evidence, None),
    ]
    releases_by_defense = {
        defense: evidence.list_releases(AUDIT, defense) for defense in evidence.scale.defenses
    }
    rows += [
        _render_row(evidence, release)
        for releases in releases_by_defense.values()
        for release in releases
    ]
    yield "\n".join(rows)
    yield (
        "*Before* is the model before the deletion. If the forget accuracy of a release is the same as before, the "
        "defense has undone the unlearning: a lower leak is then no success."
    )
    for defense, releases in releases_by_defense.items():
        name = defense.replace("_", "-")
        title = f"{name}: share identified, and test accuracy"
        yield gallery.draw_shares(name, title, _build_curves(evidence, [None, *releases]))


def _render_row(evidence: Evidence, release: Release | None) -> str:
    utility = evidence.average_utility(AUDIT, METHODS["approximate"], release)
    privacy = (
        f" (epsilon {release.promise['epsilon']:.1f})"
        if release and "epsilon" in release.promise
        else ""
    )
    cells = [release.defense, f"{_format_strength(release)}{privacy}"] if release else ["none", "-"]
    cells.append(f"{utility['test_accuracy']:.3f}" if utility else "-")
    cells.append(
        f"{utility['forget_accuracy']:.2f} ({utility['original_forget_accuracy']:.2f})"
        if utility
        else "-"
    )
    for knows in ATTACKERS:
        pooled = _pool_attack(evidence, release, knows)
        score, identification = pooled.pool_score("psnr"), pooled.pool_identified()
        cells += [f"{score.mean:.1f} {format_interval(score.interval, 1)}" if score else "-"]
        cells += [f"{identification.count} of {identification.n}" if identification else "-"]
    label = evidence.pool(AUDIT, METHODS["approximate"], "label_inference", release).pool_score(
        "label_accuracy"
    )
    return f"| {' | '.join([*cells, format_hits(label) if label else '-'])} |"


def _build_curves(evidence: Evidence, releases: Sequence[Release | None]) -> list[Series]:
    series = []
    for knows, name in ATTACKERS.items():
        identified = {
            _format_strength(r): _pool_attack(evidence, r, knows).pool_identified()
            for r in releases
        }
        marks = [
            DataPoint(strength, t.share, *t.interval) for strength, t in identified.items() if t
        ]
        if len(marks) > 1:  # more than the undefended release alone
            series.append(Series(name, marks))
    accuracies = {_format_strength(r): _average_accuracy(evidence, r) for r in releases}
    kept = [
        DataPoint(strength, value, value, value)
        for strength, value in accuracies.items()
        if value is not None
    ]
    return [*series, Series("test accuracy of the released model", kept)]


def _format_strength(release: Release | None) -> str:
    return f"{release.strength:g}" if release else "none"
