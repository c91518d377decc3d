"""What are the defenses worth, and against an attacker who knows them?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.paper.audits import METHODS
from benchmarks.paper.claim import ABSENT, Claim, Finding, right, verdict, within
from benchmarks.paper.evidence import Evidence, Pooled, Release, difference
from benchmarks.paper.figures import Mark, Series
from benchmarks.paper.gallery import Gallery
from shared.ml.defenses import registry

AUDIT = "defenses"
MAX_COST = 0.02  # of test accuracy, that a defense may cost
KNOWING = {
    False: "identified by one who does not know the defense",
    True: "identified by one who knows it",
}


def claim(evidence: Evidence) -> Claim:
    return Claim(
        "What are the defenses worth?",
        "Obfuscation, pruning and fine-tuning lower the leak, at a price in utility.",
        f"Of the settings that cost at most {100 * MAX_COST:g} points of test accuracy the one that leaks least: "
        "supported where PSNR falls against the undefended release, paired by deletion (whole 95 % interval), and no "
        "more images are told from decoys than chance explains. An attacker who knows the defense counts as much. "
        "DP-SGD, which the paper did not try, acts on all training: its attackers have nothing to make use of, and its "
        "originals are trained so too.",
        tuple(
            _worth(evidence, defense, knows)
            for defense in evidence.scale.defenses
            for knows in KNOWING
            if registry.get(defense).counter or not knows
        ),
        lambda gallery: _shown(evidence, gallery),
    )


def _worth(evidence: Evidence, defense: str, knows: bool) -> Finding:
    case = f"{defense}, attacker {'knows it' if knows else 'does not know it'}"
    bare = _attacked(evidence, None, False).score("psnr")
    before, releases = _accuracy(evidence, None), evidence.releases(AUDIT, defense)
    if not bare or before is None or not releases:
        return Finding(case, ABSENT, "no results")
    affordable = []
    for release in releases:
        pooled = _attacked(evidence, release, knows)
        score, told = pooled.score("psnr"), pooled.identified()
        cost = before - (_accuracy(evidence, release) or 0.0)
        if score and told and cost <= MAX_COST:
            affordable.append((score.mean, release, cost, score, told))
    if not affordable:
        return Finding(case, "not supported", "no setting of the sweep is that cheap")
    _, release, cost, score, told = min(affordable, key=lambda a: a[0])
    fall = difference(bare, score)
    assert fall is not None
    why = (
        f"at {release.strength} {release.value:g} (cost {100 * cost:.1f} points) PSNR is lower by {fall[0]:.1f} dB "
        f"{within(fall[1:], 1)}, {told.count} of {told.n} identified"
    )
    return Finding(case, verdict(fall[1] > 0 and not told.leaks), why)


def _attacked(evidence: Evidence, release: Release | None, knows: bool) -> Pooled:
    """Without a defense there is nothing to know."""
    adaptive = knows and release is not None
    return evidence.of(AUDIT, METHODS["approximate"], "feature_recovery", release, adaptive=adaptive)


def _accuracy(evidence: Evidence, release: Release | None) -> float | None:
    return evidence.utility(AUDIT, METHODS["approximate"], release).get("test_accuracy")


def _shown(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    rows = [
        "| defense | strength | test accuracy | forget accuracy (before) | plain attack: PSNR, dB | identified "
        "| attack that knows it: PSNR, dB | identified | label, white box |",
        "|---" * 9 + "|",
        _row(evidence, None),
    ]
    swept = {defense: evidence.releases(AUDIT, defense) for defense in evidence.scale.defenses}
    rows += [_row(evidence, release) for releases in swept.values() for release in releases]
    yield "\n".join(rows)
    yield (
        "*Before* is the model that the deletion started from. A release whose forget accuracy is as before has taken "
        "back what unlearning changed: whatever it leaks no more, that is no defense."
    )
    for defense, releases in swept.items():
        name = defense.replace("_", "-")
        title = f"{name}: share identified, and test accuracy"
        yield gallery.shares(name, title, _curves(evidence, [None, *releases]))


def _row(evidence: Evidence, release: Release | None) -> str:
    utility = evidence.utility(AUDIT, METHODS["approximate"], release)
    promised = f" (epsilon {release.promise['epsilon']:.1f})" if release and "epsilon" in release.promise else ""
    cells = [release.defense, f"{_strength(release)}{promised}"] if release else ["none", "-"]
    cells.append(f"{utility['test_accuracy']:.3f}" if utility else "-")
    cells.append(f"{utility['forget_accuracy']:.2f} ({utility['original_forget_accuracy']:.2f})" if utility else "-")
    for knows in KNOWING:
        pooled = _attacked(evidence, release, knows)
        score, told = pooled.score("psnr"), pooled.identified()
        cells += [f"{score.mean:.1f} {within(score.interval, 1)}" if score else "-"]
        cells += [f"{told.count} of {told.n}" if told else "-"]
    label = evidence.of(AUDIT, METHODS["approximate"], "label_inference", release).score("label_accuracy")
    return f"| {' | '.join([*cells, right(label) if label else '-'])} |"


def _curves(evidence: Evidence, releases: Sequence[Release | None]) -> list[Series]:
    series = []
    for knows, name in KNOWING.items():
        told = {_strength(r): _attacked(evidence, r, knows).identified() for r in releases}
        marks = [Mark(strength, t.share, *t.interval) for strength, t in told.items() if t]
        if len(marks) > 1:  # more than the undefended release alone
            series.append(Series(name, marks))
    worth = {_strength(r): _accuracy(evidence, r) for r in releases}
    kept = [Mark(strength, value, value, value) for strength, value in worth.items() if value is not None]
    return [*series, Series("test accuracy of what is released", kept)]


def _strength(release: Release | None) -> str:
    return f"{release.value:g}" if release else "none"
