"""The page with the result of an audit: what it shows, and what it withstands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import pytest

from shared.reporting import chosen_rows
from shared.roles import Role
from tests.support.gateway import AUDIT, GatewayInProcess
from tests.support.reported_audits import (
    build_measured_report,
    finish_with_report,
    make_files,
)

REPORT, EVALUATIONS, GALLERIES = build_measured_report()
FILES = make_files(REPORT, GALLERIES)
NASTY = "<script>alert(1)</script>"


NUMBERS = count()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path_factory.mktemp("gateway"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def finished(gateway: GatewayInProcess) -> str:
    """An audit with a report and its pictures."""
    return finish_audit(gateway)


def post_audit(gateway: GatewayInProcess) -> str:
    body = {**AUDIT, "name": f"audit {next(NUMBERS)}"}
    return str(gateway.http.post("/v1/audits", json=body).get_json()["id"])


def finish_audit(gateway: GatewayInProcess, files: dict[str, bytes] = FILES) -> str:
    audit = post_audit(gateway)
    finish_with_report(gateway.make_worker(), files)
    return audit


def get_page(gateway: GatewayInProcess, audit: str, query: str = "", status: int = 200) -> str:
    answer = gateway.http.get(f"/audits/{audit}/result{query}", headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.get_data(as_text=True)
    return " ".join(answer.get_data(as_text=True).split())


def test_before_there_is_a_report_it_says_so(gateway: GatewayInProcess) -> None:
    audit = post_audit(gateway)
    page = get_page(gateway, audit)
    assert "There is no report yet" in page
    assert f'href="/audits/{audit}"' in page


def test_it_shows_what_the_report_shows(gateway: GatewayInProcess, finished: str) -> None:
    audit = finished
    page = get_page(gateway, audit)
    for words in (
        REPORT.verdict.headline, "At a glance", "Deletion by deletion", "Full table",
        "What the attacker was given", "Caveats", 'src="data:image/png;base64,',
        f'href="/v1/audits/{audit}/manifest"', f'href="/v1/audits/{audit}/archive.zip"',
    ):  # fmt: skip
        assert words in page
    assert "style=" not in page
    assert "<style" not in page
    assert "Name and role" not in page  # signed by hand is the archived page


def test_rows_are_chosen_by_method_and_outcome(gateway: GatewayInProcess, finished: str) -> None:
    audit = finished
    page = get_page(gateway, audit, "?attack=label_inference&outcome=leak")
    table = page[page.index('class="full"') : page.index("</table>", page.index('class="full"'))]
    assert "label_inference" in table
    assert "feature_recovery" not in table
    assert f"1 row of {len(REPORT.rows)}" in page
    assert '<option value="label_inference" selected>' in page
    # a row keeps its number, by which it can be repeated
    number = next(
        n for n, row in enumerate(REPORT.rows, 1) if row.attack.method != "feature_recovery"
    )
    assert f"Row {number}, evaluation" in table


def test_the_worst_rows_come_first(gateway: GatewayInProcess, finished: str) -> None:
    audit = finished
    page = get_page(gateway, audit, "?sort=worst")
    table = page[page.index('class="full"') :]
    outcomes = [part[: part.index('"')] for part in table.split('class="chip ')[1:]]
    order = ["leak", "inconclusive", "not_seen"]
    places = [order.index(one) for one in outcomes[: len(REPORT.rows)]]
    assert places == sorted(places)
    assert len(set(places)) > 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?attack=nothing", "attack"), ("?seed=7", "seed"), ("?seed=-1", "seed"), ("?sort=best", "sort"),
        ("?page=2", "page"), ("?page=x", "page"), ("?defense=" + 600 * "x", "defense"), ("?style=1", "style"),
        ("?page=0", "page"), ("?seed=99999999999999999999999", "seed"), ("?seed=%D9%A3", "seed"),
    ],
)  # fmt: skip
def test_filters_that_fit_nothing_are_named(
    gateway: GatewayInProcess, finished: str, query: str, field: str
) -> None:
    page = get_page(gateway, finished, query, status=422)
    assert f"<code>{field}</code>" in page


def test_many_rows_are_shown_by_pages(
    gateway: GatewayInProcess, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_rows, "ROWS_PER_PAGE", 2)
    monkeypatch.setattr("services.gateway.console.result.ROWS_PER_PAGE", 2)
    first, second = (get_page(gateway, finished, f"?page={n}") for n in (1, 2))
    assert f"Rows 1 to 2 of {len(REPORT.rows)}" in first
    assert 'rel="prev"' not in first
    assert "Row 3, evaluation" in second
    assert "Row 1, evaluation" not in second


def test_a_report_without_pictures_says_where_they_are(gateway: GatewayInProcess) -> None:
    audit = finish_audit(gateway, {k: v for k, v in FILES.items() if k != Role.REPORT_PICTURES})
    page = get_page(gateway, audit)
    assert "data:image/png" not in page
    assert "made by an older version: if it has pictures, they are in the HTML report" in page


@pytest.mark.parametrize("data", [b"no archive", FILES[Role.REPORT_PICTURES][:-60]])
def test_pictures_that_cannot_be_read_are_left_out(gateway: GatewayInProcess, data: bytes) -> None:
    page = get_page(gateway, finish_audit(gateway, {**FILES, Role.REPORT_PICTURES: data}))
    assert "The pictures cannot be shown" in page
    assert "Full table" in page


@pytest.mark.parametrize(
    "data",
    [
        b"{}", b"[" * 9000, b"\xff", b'{"schema": "palimpsest.report/1"}', b"null",
        FILES[Role.REPORT].replace(b'"outcome": "leak"', b'"outcome": "none of it"'),
        FILES[Role.REPORT].replace(b'"dataset": {', b'"other": {'),
    ],
)  # fmt: skip
def test_a_report_that_cannot_be_read_says_so(gateway: GatewayInProcess, data: bytes) -> None:
    page = get_page(gateway, finish_audit(gateway, {**FILES, Role.REPORT: data}))
    assert "This report cannot be shown here" in page
    assert "/v1/artifacts/" in page


def test_a_verdict_on_a_row_that_is_not_there_shows_no_row(gateway: GatewayInProcess) -> None:
    value = json.loads(FILES[Role.REPORT])
    value["verdict"]["row"] = 99
    files = {**FILES, Role.REPORT: json.dumps(value).encode()}
    assert "Full table" in get_page(gateway, finish_audit(gateway, files))


def test_texts_of_a_report_are_escaped(gateway: GatewayInProcess) -> None:
    value = json.loads(FILES[Role.REPORT])
    value["verdict"]["headline"] = value["rows"][0]["finding"]["reason"] = NASTY
    value["rows"][0]["unlearning"]["method"] = value["caveats"][0] = NASTY
    page = get_page(
        gateway, finish_audit(gateway, {**FILES, Role.REPORT: json.dumps(value).encode()})
    )
    assert NASTY not in page
    assert "&lt;script&gt;" in page


def test_a_report_is_parsed_once(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    monkeypatch.setattr(
        "services.gateway.report_reading.RowIndex",
        lambda report: parsed.append(report) or chosen_rows.RowIndex(report),
    )
    # other bytes than those that are parsed already
    audit = finish_audit(gateway, {**FILES, Role.REPORT: FILES[Role.REPORT] + b" "})
    for _ in range(3):
        get_page(gateway, audit)
    assert len(parsed) == 1


def test_styles_of_the_report_are_a_file_of_the_console(gateway: GatewayInProcess) -> None:
    answer = gateway.http.get("/assets/report.css")
    assert answer.mimetype == "text/css"
    assert answer.get_data(as_text=True).startswith(".report {")
    again = gateway.http.get(
        "/assets/report.css", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code == 304
