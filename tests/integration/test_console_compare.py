"""The page that compares audits: differences of parameters, rows and scores."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.gateway import AUDIT, GatewayInProcess
from tests.support.reported_audits import (
    build_measured_report,
    finish_with_report,
    make_files,
    make_measured_evaluation,
)
from tests.support.reports import (
    build_report,
    make_audit,
    make_defense,
    make_utility_evaluation,
)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def finish_audit(gateway: GatewayInProcess, name: str, shift: float, iterations: int) -> str:
    body = {
        **AUDIT, "name": name, "seeds": [0],
        "attacks": [{"name": "invert", "params": {"iterations": iterations}}],
    }  # fmt: skip
    audit = str(gateway.http.post("/v1/audits", json=body).get_json()["id"])
    report, evaluations, galleries = build_measured_report(shift, name=name)
    finish_with_report(gateway.make_worker(), make_files(report, galleries), evaluations)
    return audit


def get_page(gateway: GatewayInProcess, query: str = "", status: int = 200) -> str:
    answer = gateway.http.get(f"/compare{query}", headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.get_data(as_text=True)
    return " ".join(answer.get_data(as_text=True).split())


def test_audits_are_chosen_from_those_that_have_ended(gateway: GatewayInProcess) -> None:
    assert "No audit has ended yet" in get_page(gateway)
    first = finish_audit(gateway, "before", 0, 100)
    page = get_page(gateway)
    assert f'name="audits" value="{first}"' in page
    assert f'value="{first}" checked' in get_page(gateway, f"?audits={first}")


def test_two_audits_side_by_side(gateway: GatewayInProcess) -> None:
    first, second = finish_audit(gateway, "before", 0, 100), finish_audit(gateway, "after", 4, 500)
    page = get_page(gateway, f"?audits={first},{second}")
    assert "1 parameter differs: attacks.invert.iterations." in page
    assert (
        '<code>attacks.invert.iterations</code></th><td><span class="value">100</span></td>' in page
    )
    assert "4 attacks on releases are in all of the audits." in page
    assert "attackers get more in 1 of the 4 rows below from B than from A." in page
    assert len(re.findall(r"\+4\.7 dB \[\+4\.\d, \+[45]\.\d\], paired over 8 deletions", page)) == 1
    assert "+0.00; it is the same evaluation in both audits" in page
    assert page == get_page(gateway, f"?audits={first}&audits={second}")
    assert "style=" not in page
    swapped = get_page(gateway, f"?audits={second},{first}")
    assert "attackers get less in 1 of" in swapped


def finish_defended(gateway: GatewayInProcess, defense: str, psnr: Sequence[float]) -> str:
    body = {**AUDIT, "name": defense, "seeds": [0]}
    audit = str(gateway.http.post("/v1/audits", json=body).get_json()["id"])
    released = None if defense == "none" else make_defense(defense)
    evaluation = make_measured_evaluation(psnr, released=released, leaks=released is None)
    grid = make_audit(defenses=[defense], attacks=["feature_recovery"])
    report = build_report(grid, evaluation, make_utility_evaluation(released=released))
    finish_with_report(gateway.make_worker(), make_files(report), [evaluation])
    return audit


def test_the_same_with_a_defense_is_paired(gateway: GatewayInProcess) -> None:
    first = finish_defended(gateway, "none", [20, 19, 21, 20, 18, 22, 20, 19])
    second = finish_defended(gateway, "noise", [9, 8, 10, 9, 8, 11, 9, 9])
    page = get_page(gateway, f"?audits={first},{second}")
    assert "1 attack on a release is in all of the audits." in page
    assert "1 of these has another defense in each audit" in page
    assert "1 attack finds a leak in A and none in B." in page
    assert re.search(r"gradient_ascent, feature_recovery: PSNR A 19\.9 dB, B 9\.1\d? dB\.", page)
    assert "paired over 8 deletions" in page
    assert "A no defense, B noise" in page
    assert "no partner" not in page
    assert f'href="/compare?audits={second}%2C{first}">Compare with this one as A' in page
    choices = page[page.index('class="choices"') :]
    assert choices.count('class="chip leaks"') == 2
    assert choices.count("digits") == 2


def test_defaults_are_filled_in_before_parameters_are_compared(gateway: GatewayInProcess) -> None:
    first = finish_audit(gateway, "before", 0, 100)  # the default
    body = {**AUDIT, "name": "plain", "seeds": [0]}
    second = gateway.http.post("/v1/audits", json=body).get_json()["id"]
    report, evaluations, _ = build_measured_report(0, name="plain")
    finish_with_report(gateway.make_worker(), make_files(report), evaluations)
    assert "The audits have the same parameters." in get_page(gateway, f"?audits={first},{second}")


def test_an_audit_without_a_report_is_named(gateway: GatewayInProcess) -> None:
    first = finish_audit(gateway, "before", 0, 100)
    waiting = gateway.http.post("/v1/audits", json={**AUDIT, "name": "not yet"}).get_json()["id"]
    page = get_page(gateway, f"?audits={first},{waiting}")
    assert "not yet has no report yet." in page
    assert "What differs" not in page


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?audits=" + ",".join(f"aud_{n:020x}" for n in range(5)), 422),
        ("?audits=" + "x" * 500, 422), ("?audits=aud_1,aud_2", 404), ("?audits=aud_" + "0" * 20, 404),
        ("?rows=0", 422), ("?rows=x", 422), ("?page=nonsense", 422),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    gateway: GatewayInProcess, query: str, status: int
) -> None:
    get_page(gateway, query, status)
