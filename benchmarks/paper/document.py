"""docs/results.md: every claim of the paper with what was found, in words, tables, curves and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from benchmarks.paper import figures
from benchmarks.paper.audits import Scale
from benchmarks.paper.claims import (
    ESTIMATES,
    LABELS,
    METHODS,
    ONE,
    Claim,
    at_epochs,
    claims,
    label_cases,
    labels,
    recovery,
)
from benchmarks.paper.evidence import Evidence, Pooled, Release, Score
from benchmarks.paper.figures import Mark, Series

# Truth, reconstruction and class mean of each deletion, [n, C, H, W].
Pictures = Mapping[str, Tensor]
SHOWN = 8


@dataclass(frozen=True)
class Run:
    """How the evaluations came about."""

    machine: str
    wall: float
    work: Mapping[str, float]  # stage -> seconds of all its jobs together
    jobs: int
    versions: str
    command: str


def write(run: Run, evidence: Evidence, pictures: Mapping[str, Pictures], out: Path, folder: Path) -> None:
    """Write the document, and its drawings into `folder`, which must lie beside or below the document's."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder.relative_to(out.parent).as_posix()
    found = claims(evidence)
    parts = [_head(run, evidence.scale), _summary(found)]
    shown: dict[str, Callable[[], Iterator[str]]] = {
        found[0].question: lambda: _strips(pictures, folder, link),
        found[2].question: lambda: _sizes(evidence, folder, link),
        found[3].question: lambda: _models(evidence),
        found[4].question: lambda: _bases(evidence, folder, link),
        found[6].question: lambda: _shares(evidence, folder, link),
        found[7].question: lambda: _sweeps(evidence, folder, link),
    }
    for claim in found:
        parts.append(_claim(claim))
        parts += shown.get(claim.question, lambda: iter(()))()
    parts.append(_limits(evidence.scale))
    out.write_text("\n\n".join(part.strip() for part in parts) + "\n")


def _head(run: Run, scale: Scale) -> str:
    minutes = run.wall / 60
    work = ", ".join(f"{stage} {seconds / 60:.0f}" for stage, seconds in sorted(run.work.items(), key=lambda w: -w[1]))
    return f"""
# Results

`{run.command}` wrote this file; `docs/measurements.md` has what else was measured. The questions are those of Hu et
al. 2024 (arXiv 2404.03233), asked of CIFAR-10 and of two tables at the scale `{scale.name}`: ConvNet of width
{scale.width}, {scale.base} epochs of pretraining, then N = 32 samples in one batch (SGD 0.001, BatchNorm frozen),
{scale.deletions} deletions of k = 1 sample in each of {len(scale.seeds)} seeds, the first of a seeded permutation;
feature recovery with {_search(scale)} and the label given. What else a question changes stands with it.

| | |
|---|---|
| machine | {run.machine} |
| time | {minutes:.0f} minutes for {run.jobs} jobs; minutes of work by stage: {work} |
| versions | {run.versions} |

PSNR has peak 1, on pixels in [0, 1]. *Identified*: the truth is nearer to the reconstruction than every decoy, public
images of its class. The null is the strongest of class mean, permuted truth and nearest public image. In brackets
95 % intervals: Wilson for shares, BCa by deletion for scores; deletions of one seed share their base model, and
{len(scale.seeds)} seeds do not show how much base models differ.
"""


def _search(scale: Scale) -> str:
    told = ", ".join(f"`{name}: {value}`" for name, value in scale.search.items())
    return told or "its defaults"


def _summary(found: Sequence[Claim]) -> str:
    rows = [
        "## The paper's claims",
        "",
        "| claim | supported here | not supported | not testable here |",
        "|---|---|---|---|",
    ]
    for claim in found:
        by = {verdict: [f.case for f in claim.findings if f.verdict == verdict] for verdict in VERDICTS}
        cells = [_brief(cases, len(claim.findings)) for cases in by.values()]
        rows.append(f"| {claim.says} | {' | '.join(cells)} |")
    return "\n".join(rows)


VERDICTS = ("supported here", "not supported", "not testable here")


def _brief(cases: Sequence[str], of: int) -> str:
    if len(cases) > 4:
        return f"{len(cases)} of {of} cases"
    return "; ".join(cases) or "-"


def _claim(claim: Claim) -> str:
    rows = [
        f"## {claim.question}",
        "",
        f"{claim.says} {claim.rule}",
        "",
        "| case | | what was found |",
        "|---|---|---|",
    ]
    rows += [f"| {f.case} | **{f.verdict}** | {f.why} |" for f in claim.findings]
    return "\n".join(rows)


def _table(evidence: Evidence, settings: Mapping[str, str]) -> str:
    """Settings by the name that they are shown by."""
    rows = ["| setting | estimate | n | PSNR, dB | null | gain | identified |", "|---|---|---|---|---|---|---|"]
    for shown, setting in settings.items():
        rows += [
            f"| {shown} | {estimate} | {_cells(recovery(evidence, estimate, setting))} |" for estimate in ESTIMATES
        ]
    return "\n".join(rows)


def _cells(pooled: Pooled) -> str:
    score, told = pooled.score("psnr"), pooled.identified()
    if not score or not told:
        return "- | no results | - | - | -"
    return (
        f"{score.n} | {score.mean:.1f} {_within(score.interval, 1)}, median {score.median:.1f} | "
        f"{score.null:.1f} {score.null_name} | {sum(score.gains) / score.n:+.1f} {_within(score.gain_interval, 1)} | "
        f"{told.count} of {told.n} {_within(told.interval, 2)}"
    )


def _within(interval: tuple[float, float], digits: int) -> str:
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _sizes(evidence: Evidence, folder: Path, link: str) -> Iterator[str]:
    yield _table(evidence, {f"N = {n}": f"N = {n}" for n in evidence.scale.sizes})
    yield _recoveries(
        evidence,
        {f"N = {n}": f"N = {n}" for n in evidence.scale.sizes},
        folder / "size.svg",
        link,
        "size of the training set",
    )


def _models(evidence: Evidence) -> Iterator[str]:
    yield _table(
        evidence, {f"ConvNet {evidence.scale.width}": "N = 32", evidence.scale.residual: evidence.scale.residual}
    )
    yield _accuracies(
        evidence, {f"ConvNet {evidence.scale.width}": "N = 32", evidence.scale.residual: evidence.scale.residual}
    )


def _bases(evidence: Evidence, folder: Path, link: str) -> Iterator[str]:
    settings = {f"{e} epochs": at_epochs(evidence.scale, e) for e in evidence.scale.epochs}
    yield _table(evidence, settings)
    yield _accuracies(evidence, settings)
    yield _recoveries(evidence, settings, folder / "convergence.svg", link, "epochs of pretraining")


def _accuracies(evidence: Evidence, settings: Mapping[str, str]) -> str:
    told = []
    for shown, setting in settings.items():
        utility = evidence.utility(f"approximate, {setting}", METHODS["approximate"])
        if utility:
            told.append(f"{shown} {utility['original_test_accuracy']:.3f}")
    return f"Test accuracy of the original models: {'; '.join(told) or 'not measured'}."


def _recoveries(evidence: Evidence, settings: Mapping[str, str], path: Path, link: str, over: str) -> str:
    series, chance = [], None
    for estimate in ESTIMATES:
        marks = []
        for shown, setting in settings.items():
            if told := recovery(evidence, estimate, setting).identified():
                marks.append(Mark(shown, told.share, *told.interval))
                chance = told.chance
        if marks:
            series.append(Series(estimate, marks))
    return _drawn(series, path, link, f"share of deleted images that are identified, over {over}", chance)


def _drawn(series: Sequence[Series], path: Path, link: str, title: str, chance: float | None) -> str:
    if not series:
        return f"No results to draw: {title}."
    path.write_text(figures.chart(title, title, series, null=chance, share=True))
    return f"![{title}]({link}/{path.name})"


def _strips(pictures: Mapping[str, Pictures], folder: Path, link: str) -> Iterator[str]:
    for name, images in pictures.items():
        path = folder / f"{name}.png"
        figures.strip([images[kind][:SHOWN] for kind in ("truth", "reconstruction", "class_mean")], str(path))
        yield f"{name.replace('-', ' ').capitalize()}: the truth, what came back, the mean of its class."
        yield f"![{name}]({link}/{path.name})"


def _shares(evidence: Evidence, folder: Path, link: str) -> Iterator[str]:
    shares = [ONE, *(f"{share:g} of a class" for share in evidence.scale.shares)]
    rows = [f"| data | unlearning | attack | {' | '.join(shares)} | null |", "|---" * (4 + len(shares)) + "|"]
    for data, kind, attack in label_cases(evidence.scale):
        scores = [labels(evidence, data, share, kind, attack) for share in shares]
        nulls = [f"{score.null:.2f}" for score in scores if score]
        rows.append(
            f"| {data} | {kind} | {attack} | {' | '.join(map(_right, scores))} | {', '.join(dict.fromkeys(nulls))} |"
        )
    yield "\n".join(rows)
    for data in ("images", *evidence.scale.tables):
        series = []
        for kind in METHODS:
            for attack in LABELS:
                if (data, kind, attack) not in set(label_cases(evidence.scale)):
                    continue
                scored = [(share, labels(evidence, data, share, kind, attack)) for share in shares]
                marks = [Mark(share, s.mean, *s.interval) for share, s in scored if s]
                if marks:
                    series.append(Series(f"{kind}, {attack}", marks))
        chance = 1 / (10 if data == "images" else 2)
        title = f"share of classes named rightly, {data.replace('_', ' ')}"
        yield _drawn(series, folder / f"labels-{data.replace('_', '-')}.svg", link, title, chance)


def _right(score: Score | None) -> str:
    return f"{round(sum(score.values))} of {score.n} {_within(score.interval, 2)}" if score else "-"


def _sweeps(evidence: Evidence, folder: Path, link: str) -> Iterator[str]:
    ascent = METHODS["approximate"]
    rows = [
        "| defense | strength | test accuracy | forget accuracy | plain attack: PSNR, dB | identified "
        "| attack that knows it: PSNR, dB | identified | label, white box |",
        "|---" * 9 + "|",
        _release(evidence, None, "none", "-"),
    ]
    for defense in evidence.scale.defenses:
        releases = evidence.releases("defenses", defense)
        rows += [_release(evidence, r, defense, _strength(r)) for r in releases]
    yield "\n".join(rows)
    for defense in evidence.scale.defenses:
        releases: list[Release | None] = [None, *evidence.releases("defenses", defense)]
        series = [
            Series(name, marks)
            for name, params in KNOWING.items()
            if (marks := _swept(evidence, releases, ascent, params))
        ]
        accuracy = [
            Mark(_strength(r), value, value, value)
            for r in releases
            if (value := evidence.utility("defenses", ascent, r).get("test_accuracy")) is not None
        ]
        if accuracy:
            series.append(Series("test accuracy of what is released", accuracy))
        title = f"{defense.replace('_', '-')}: share identified, and test accuracy"
        yield _drawn(series, folder / f"{defense.replace('_', '-')}.svg", link, title, None)


KNOWING: Mapping[str, bool] = {
    "identified by one who does not know the defense": False,
    "identified by one who knows it": True,
}


def _swept(evidence: Evidence, releases: Sequence[Release | None], ascent: str, adaptive: bool) -> list[Mark]:
    marks = []
    for release in releases:
        knows = adaptive and release is not None  # without a defense there is nothing to know
        told = evidence.of("defenses", ascent, "feature_recovery", release, adaptive=knows).identified()
        if told:
            marks.append(Mark(_strength(release), told.share, *told.interval))
    return marks


def _strength(release: Release | None) -> str:
    return f"{release.value:g}" if release else "none"


def _release(evidence: Evidence, release: Release | None, name: str, strength: str) -> str:
    ascent = METHODS["approximate"]
    utility = evidence.utility("defenses", ascent, release)
    cells = [f"{utility[n]:.3f}" if n in utility else "-" for n in ("test_accuracy", "forget_accuracy")]
    for adaptive in (False, True):
        pooled = evidence.of("defenses", ascent, "feature_recovery", release, adaptive=adaptive)
        score, told = pooled.score("psnr"), pooled.identified()
        cells += [f"{score.mean:.1f} {_within(score.interval, 1)}" if score else "-"]
        cells += [f"{told.count} of {told.n}" if told else "-"]
    cells.append(_right(evidence.of("defenses", ascent, "label_inference", release).score("label_accuracy")))
    return f"| {name} | {strength} | {' | '.join(cells)} |"


def _limits(scale: Scale) -> str:
    return f"""
## What this does not prove

- *Not supported* means that this run does not show it, at these n; it is not the contrary.
- The scale is `{scale.name}`; `make paper ARGS=--full` asks the same of networks of the paper's width with its search.
  CIFAR-100 and STL-10 can be asked (docs/data.md) and were not.
- The paper's LPIPS needs weights that we do not ship (docs/lpips.md).
- The label is given to feature recovery. One network and one training recipe a question.
- One ascent step hardly forgets, and one training step of a single batch is what makes the exact estimate a
  gradient: longer training leaks less to these attacks.
- Attacks that fail here say nothing about better ones.
"""
