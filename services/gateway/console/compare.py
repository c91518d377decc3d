"""/compare: the results of two to four audits side by side, with paired differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Response, request
from markupsafe import Markup

from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_gateway, current_store
from services.gateway.report_reading import ReportReader, UnreadableReport, find_report
from services.gateway.spec_differences import SpecDifference, find_differences, shorten
from services.gateway.submission import AUDIT_ID, require_id_format
from shared.errors import InvalidRequest
from shared.evaluation import Evaluation
from shared.jobs.filters import AuditFilter
from shared.jobs.paging import Page
from shared.jobs.records import Audit
from shared.reporting import formatting
from shared.reporting.chosen_rows import RowIndex
from shared.reporting.differences import find_difference
from shared.reporting.evaluations import method_key
from shared.reporting.formatting import format_interval, format_number, join_words, pluralise
from shared.reporting.kinds import get_metric_name
from shared.reporting.loading import read_evaluation
from shared.reporting.models import Report, Row
from shared.reporting.overview import OUTCOMES, Cell, ReleaseLine, build_cell, build_release_line
from shared.reporting.page import LEVEL_NAMES
from shared.reporting.paired import Difference
from shared.reporting.side_by_side import (
    OTHER_DEFENSE,
    Group,
    Matched,
    ScoreLine,
    SideScore,
    draw_scores,
    match,
    match_rows,
    score_group,
)
from shared.roles import Role

pages = make_pages("compare")

LETTERS = "ABCD"
MIN_AUDITS, MAX_AUDITS = 2, len(LETTERS)
LISTED_AUDITS = 15  # to choose from, on one page
LINES_PER_PAGE = 20
MAX_RELEASES = 60  # in the table of releases
MAX_DEFENDED = 4  # attacks whose scores with and without a defense are said in words
MAX_PARAMETERS = 60  # that differ, in the table
MAX_EVALUATIONS = 160  # read for one page, one for each audit, line and seed
MAX_EVALUATION_BYTES = 2 << 20


@dataclass(frozen=True)
class Side:
    """One of the audits; `letter` is its name on the page."""

    letter: str
    audit: Audit
    index: RowIndex

    @property
    def report(self) -> Report:
        return self.index.report

    @property
    def level(self) -> str:
        return LEVEL_NAMES[self.report.verdict.level]


@dataclass(frozen=True)
class ReleaseRow:
    """A release in all audits that have it: by letter."""

    name: str
    sides: Mapping[str, ReleaseLine]
    same_params: bool


@dataclass(frozen=True)
class RowLine:
    """An attack on a release in all audits that have it: by letter.

    differences: of each other audit, less the first one (A); none if A does not have it.
    """

    names: tuple[str, str, str]
    cells: Mapping[str, Cell | None]
    scores: Mapping[str, SideScore]
    differences: Mapping[str, Difference | None]
    same_params: bool

    @property
    def name(self) -> str:
        return ", ".join(self.names)

    def describe(self, letter: str) -> str:
        """`+3.1 dB [+1.0, +5.2], paired over 8 deletions`."""
        difference = self.differences.get(letter)
        if difference is None:
            return "not comparable"
        unit = next(iter(self.scores.values())).unit
        words = format_number(difference.mean, unit, sign=True)
        if difference.low is not None:
            words += f" {format_interval(difference.low, difference.high, unit, sign=True)}"
        if difference.n:
            words += f", paired over {pluralise(difference.n, 'deletion')}"
        return words + (f"; {difference.reason}" if difference.reason else "")

    def classify(self, letter: str) -> str:
        """Whether the attack gets more: `more`, `less`, or "" if the interval does not tell."""
        difference = self.differences.get(letter)
        if difference is None or not difference.sign:
            return ""
        higher = next(iter(self.scores.values())).higher_is_better
        return "more" if (difference.sign > 0) == higher else "less"


@dataclass(frozen=True)
class Comparison:
    """What the page shows.

    lines: of this page of all `total` attacks on releases.
    """

    sides: Sequence[Side]
    summary: Sequence[str]
    parameters: Sequence[SpecDifference]
    same_count: int
    releases: Sequence[ReleaseRow]
    release_count: int
    lines: Sequence[RowLine]
    total: int
    page: int
    charts: Sequence[Markup]

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // LINES_PER_PAGE))

    @property
    def ids(self) -> str:
        return ",".join(side.audit.id for side in self.sides)

    def link(self, page: int) -> str:
        return "/compare?" + urlencode({"audits": self.ids, "rows": page})

    def link_first(self, side: Side) -> str:
        """The same comparison with this audit as A."""
        others = [one.audit.id for one in self.sides if one is not side]
        return "/compare?" + urlencode({"audits": ",".join([side.audit.id, *others])})


@pages.get("/compare")
def show() -> Response:
    """The page: the comparison, or a list to choose from."""
    audit_ids = read_audit_ids(request.args.getlist("audits"))
    number = request.args.get("rows", "1")
    if not (number.isascii() and number.isdigit() and len(number) < 6 and int(number)):
        raise InvalidRequest("give the number of a page", "rows")
    store, reader = current_store(), ReportReader.of_request()
    audits = [store.get_audit(one) for one in audit_ids]
    comparison, notes = None, []
    if len(audits) >= MIN_AUDITS:
        sides = []
        for letter, audit in zip(LETTERS, audits, strict=False):
            index, note = read_report(audit, reader)
            if index is not None:
                sides.append(Side(letter, audit, index))
            notes += [note] if note else []
        if not notes:
            with reader.limit_large(sum(len(side.report.rows) for side in sides)):
                comparison = build_comparison(sides, reader, int(number))
    return render_page(
        "compare.html",
        comparison=comparison,
        chosen=audits,
        notes=notes,
        listed=list_choices(),
        outcomes=OUTCOMES,
        max_audits=MAX_AUDITS,
        max_parameters=MAX_PARAMETERS,
        name_dataset=name_dataset,
        lines_per_page=LINES_PER_PAGE,
        n=formatting,
        shorten=shorten,
    )


def read_audit_ids(given: Sequence[str]) -> list[str]:
    """`audits=a,b` or `audits=a&audits=b`: each once.

    Raises:
        InvalidRequest: too many.
        NotFound: one has not the form of an audit's id.
    """
    text = ",".join(given)
    if len(text) > 40 * MAX_AUDITS:
        raise InvalidRequest(f"compare at most {MAX_AUDITS} audits", "audits")
    ids = list(dict.fromkeys(one for one in text.replace(" ", "").split(",") if one))
    if len(ids) > MAX_AUDITS:
        raise InvalidRequest(f"compare at most {MAX_AUDITS} audits", "audits")
    return [require_id_format(one, AUDIT_ID, "audit") for one in ids]


def name_dataset(audit: Audit) -> str:
    """Which data set an audit is of, in words."""
    dataset = audit.spec.get("dataset")
    name = dataset.get("name") if isinstance(dataset, Mapping) else dataset
    return str(name) if name else "own models"


def list_choices() -> Page[Audit]:
    """Audits to choose from: a page of those that have ended with all of their jobs."""
    return current_store().list_audits(
        filters=AuditFilter(state="succeeded"),
        limit=LISTED_AUDITS,
        page=request.args.get("page") or None,
    )


def read_report(audit: Audit, reader: ReportReader) -> tuple[RowIndex | None, str | None]:
    """The report of an audit, or why there is none to compare."""
    artifact = find_report(current_store(), audit.id).artifacts.get(Role.REPORT)
    if artifact is None:
        return None, f"{audit.name} has no report yet."
    try:
        return reader.read(artifact), None
    except UnreadableReport as error:
        return None, f"The report of {audit.name} cannot be read: {error}."


def build_comparison(sides: Sequence[Side], reader: ReportReader, page: int) -> Comparison:
    """All that the page shows, in one more query.

    Raises:
        InvalidRequest: there is no such page of rows.
        TransientError: the artifact store did not answer.
    """
    parameters, same = find_differences(
        [side.audit.spec for side in sides], current_gateway().catalog_cache.catalog
    )
    matched = match_rows([side.index.attacked_releases for side in sides])
    start = (page - 1) * LINES_PER_PAGE
    if start and start >= len(matched):
        raise InvalidRequest(f"there is no page {page}", "rows")
    shown = matched[start : start + LINES_PER_PAGE]
    values = EvaluationValues(reader, shown)
    lines = [build_line(one, sides, values) for one in shown]
    summary = [
        *describe_parameters(parameters),
        *describe_verdicts(sides),
        *describe_matches(matched, sides),
        *describe_outcomes(matched, sides),
        *describe_differences(lines, sides),
        *describe_defended(shown, lines),
    ]
    return Comparison(
        sides,
        summary,
        parameters,
        same,
        *match_releases(sides),
        lines,
        len(matched),
        page,
        draw_charts(lines),
    )


class EvaluationValues:
    """Values by sample, from the evaluations of the rows of a page: they are looked up in one query
    and read as they are needed."""

    def __init__(self, reader: ReportReader, matched: Sequence[Matched[Group]]) -> None:
        digests = [
            row.evaluation
            for one in matched
            if len(one.items) > 1
            for group in one.items.values()
            for row in group
        ]
        self._reader = reader
        self._artifacts = reader.store.find_artifacts(set(digests[:MAX_EVALUATIONS]))
        self._read: dict[str, Evaluation | None] = {}

    def __call__(self, row: Row, metric: str) -> Sequence[float] | None:
        """As `shared.reporting.differences.ReadValues`."""
        if row.evaluation not in self._read:
            self._read[row.evaluation] = self._load(row.evaluation)
        evaluation = self._read[row.evaluation]
        if evaluation is None or metric not in evaluation.metrics:
            return None
        return evaluation.metrics[metric].values or None

    def _load(self, sha256: str) -> Evaluation | None:
        artifact = self._artifacts.get(sha256)
        data = artifact and self._reader.read_small(artifact, MAX_EVALUATION_BYTES)
        if not data:
            return None
        try:
            return read_evaluation(data, Role.EVALUATION).evaluation
        except InvalidRequest:
            return None


def build_line(matched: Matched[Group], sides: Sequence[Side], values: EvaluationValues) -> RowLine:
    """One attack on one release."""
    row, names = matched.first[0], sides[min(matched.items)].index.names
    reference = matched.items.get(0)
    scores = {
        sides[place].letter: score
        for place, group in matched.items.items()
        if (score := score_group(group)) is not None
    }
    return RowLine(
        names=(
            names.name_choice(row.unlearning),
            join_defenses(
                {
                    sides[place].letter: sides[place].index.names.name_choice(group[0].defense)
                    for place, group in matched.items.items()
                }
            ),
            names(row.attack),
        ),
        cells={sides[place].letter: build_cell(group) for place, group in matched.items.items()},
        scores=scores,
        differences={
            sides[place].letter: find_difference(reference, group, values)
            for place, group in matched.items.items()
            if place and reference is not None
        },
        same_params=matched.same_params or matched.agreement == OTHER_DEFENSE,
    )


def join_defenses(names: Mapping[str, str]) -> str:
    """`obfuscation`, or `A no defense, B obfuscation`: of the audits by letter."""
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    return ", ".join(f"{letter} {name}" for letter, name in names.items())


def match_releases(sides: Sequence[Side]) -> tuple[list[ReleaseRow], int]:
    """The first releases of all audits, those that belong together in one row; and how many rows
    there are."""
    matched = match(
        [side.index.releases for side in sides],
        lambda group: (method_key(group[0].unlearning), method_key(group[0].defense)),
        lambda group: (group[0].unlearning.method, group[0].defense.method),
        lambda group: method_key(group[0].unlearning),
    )
    rows = []
    for one in matched[:MAX_RELEASES]:
        lines = {
            sides[place].letter: build_release_line("", group, [], sides[place].index.names)
            for place, group in one.items.items()
        }
        defense = join_defenses({letter: line.defense for letter, line in lines.items()})
        is_same = one.same_params or one.agreement == OTHER_DEFENSE
        rows.append(
            ReleaseRow(f"{next(iter(lines.values())).unlearning}, {defense}", lines, is_same)
        )
    return rows, len(matched)


def draw_charts(lines: Sequence[RowLine]) -> list[Markup]:
    """One chart for each metric."""
    by_metric: dict[tuple[str, str], list[ScoreLine]] = {}
    for line in lines:
        for score in list(line.scores.values())[:1]:
            alike = {
                letter: other
                for letter, other in line.scores.items()
                if (other.metric, other.unit) == (score.metric, score.unit)
            }
            key = (score.metric, score.unit)
            by_metric.setdefault(key, []).append(ScoreLine(line.name, alike))
    return [draw_scores(of_one) for of_one in by_metric.values()]


def describe_parameters(parameters: Sequence[SpecDifference]) -> list[str]:
    if not parameters:
        return ["The audits have the same parameters."]
    shown = [one.path for one in parameters[:3]]
    more = len(parameters) - len(shown)
    names = join_words([*shown, f"{more} more"] if more else shown)
    verb = "differs" if len(parameters) == 1 else "differ"
    return [f"{pluralise(len(parameters), 'parameter')} {verb}: {names}."]


def describe_verdicts(sides: Sequence[Side]) -> list[str]:
    levels = {side.level for side in sides}
    if len(levels) == 1:
        return [f"The verdict is the same: {sides[0].level.lower()}."]
    return [
        "The verdicts differ: "
        + "; ".join(f"{side.letter} {side.level.lower()}" for side in sides)
        + "."
    ]


def describe_matches(matched: Sequence[Matched[Group]], sides: Sequence[Side]) -> list[str]:
    counts = Counter("".join(sides[place].letter for place in one.items) for one in matched)
    everywhere = counts.pop("".join(side.letter for side in sides), 0)
    attacks = pluralise(everywhere, "attack on a release is", "attacks on releases are")
    words = [f"{attacks} in all of the audits"]
    words += [f"{count} only in {join_words(list(letters))}" for letters, count in counts.items()]
    defended = sum(one.agreement == OTHER_DEFENSE for one in matched)
    inexact = sum(not one.same_params for one in matched) - defended
    paired = pluralise(defended, "of these has", "of these have")
    return [
        "; ".join(words) + ".",
        *(
            [f"{paired} another defense in each audit, with the same unlearning and attack."]
            if defended
            else []
        ),
    ] + (
        [
            f"{pluralise(inexact, 'of these has', 'of these have')} other parameters in each audit, "
            "and the same methods."
        ]
        if inexact
        else []
    )


def describe_outcomes(matched: Sequence[Matched[Group]], sides: Sequence[Side]) -> list[str]:
    """Where an attack leaks in one audit and not in another."""
    sentences = []
    for place, side in enumerate(sides[1:], start=1):
        new = gone = 0
        for one in matched:
            if 0 in one.items and place in one.items:
                before, after = (
                    any(row.finding.outcome == "leak" for row in one.items[at]) for at in (0, place)
                )
                new += after and not before
                gone += before and not after
        for count, here, there in ((new, side.letter, "A"), (gone, "A", side.letter)):
            if count:
                attacks = pluralise(count, "attack finds", "attacks find")
                sentences.append(f"{attacks} a leak in {here} and none in {there}.")
    return sentences


def describe_differences(lines: Sequence[RowLine], sides: Sequence[Side]) -> list[str]:
    """What the intervals of this page say."""
    sentences = []
    for side in sides[1:]:
        classes = [
            line.classify(side.letter) for line in lines if line.differences.get(side.letter)
        ]
        more, less = classes.count("more"), classes.count("less")
        if more or less:
            parts = [f"more in {more}"] if more else []
            parts += [f"less in {less}"] if less else []
            sentences.append(
                f"By paired intervals, attackers get {join_words(parts)} of the "
                f"{pluralise(len(classes), 'row')} below from {side.letter} than from A."
            )
    return sentences


def describe_defended(matched: Sequence[Matched[Group]], lines: Sequence[RowLine]) -> list[str]:
    """What the first attacks of this page get with each defense, where audits differ in that."""
    sentences = []
    for one, line in zip(matched, lines, strict=True):
        if one.agreement == OTHER_DEFENSE and len(line.scores) > 1:
            scores = [
                f"{letter} {format_number(score.mean, score.unit)}"
                for letter, score in line.scores.items()
            ]
            metric = get_metric_name(next(iter(line.scores.values())).metric)
            sentences.append(f"{line.names[0]}, {line.names[2]}: {metric} {', '.join(scores)}.")
    return sentences[:MAX_DEFENDED]
