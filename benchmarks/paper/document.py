"""docs/results.md: every claim of the paper with what was found, in words, tables, curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from benchmarks.paper.audits import Scale
from benchmarks.paper.claim import Claim, Verdict
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.gallery import Gallery
from benchmarks.paper.questions import claims


@dataclass(frozen=True)
class Run:
    """How the evaluations came about."""

    machine: str
    wall: float
    work: Mapping[str, float]  # stage -> seconds of all its jobs together
    jobs: int
    versions: str
    command: str


def write(run: Run, evidence: Evidence, out: Path, folder: Path) -> None:
    """Write the document, and its drawings into `folder`, which must lie beside or below the document's."""
    folder.mkdir(parents=True, exist_ok=True)
    gallery = Gallery(folder, folder.relative_to(out.parent).as_posix())
    found = claims(evidence)
    parts = [_head(run, evidence.scale), _summary(found)]
    for claim in found:
        parts += [_claim(claim), *claim.shown(gallery)]
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
        by = {verdict: [f.case for f in claim.findings if f.verdict == verdict] for verdict in get_args(Verdict)}
        cells = [_brief(cases, len(claim.findings)) for cases in by.values()]
        rows.append(f"| {claim.says} | {' | '.join(cells)} |")
    return "\n".join(rows)


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


def _limits(scale: Scale) -> str:
    return f"""
## What this does not prove

- *Not supported* means that this run does not show it, at these n; it is not the contrary. Every case is tested by
  itself, at 5 %; nothing is corrected for their number.
- The scale is `{scale.name}`; `make paper ARGS=--full` asks the same of networks of the paper's width with its search.
  CIFAR-100 and STL-10 can be asked (docs/data.md) and were not.
- The paper's LPIPS needs weights that we do not ship (docs/lpips.md).
- The label is given to feature recovery. One network and one training recipe a question.
- One ascent step hardly forgets, and one training step of a single batch is what makes the estimate from base, N and
  k a gradient, whatever N is: longer training leaks less to these attacks.
- Attacks that fail here say nothing about better ones.
"""
