"""The console's pages of audits and jobs in a real browser: as things change, and as buttons are
pressed."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.console import TIMEOUT_MS, Visit, visit
from tests.support.gateway import AUDIT, TOKEN, GatewayProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # the browser may have to be installed
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture
def visitor(browser: Browser, gateway: GatewayProcess) -> Iterator[Visit]:
    with visit(browser, gateway.url, width=390) as visitor:
        yield visitor
        assert visitor.complaints == []


def post_audit(gateway: GatewayProcess, **changes: object) -> str:
    answer = httpx.post(
        f"{gateway.url}/v1/audits",
        json={**AUDIT, **changes},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    return str(answer.raise_for_status().json()["id"])


def test_an_audit_is_followed_to_a_failure_and_retried(
    visitor: Visit, gateway: GatewayProcess
) -> None:
    audit = post_audit(gateway, name="followed", seeds=[50])
    visitor.sign_in(path=f"/audits/{audit}")
    page = visitor.page
    worker = gateway.make_worker()
    while claim := worker.try_claim():
        if claim.job.stage == "attack":
            break
        worker.finish(claim, claim.job.id.encode())
    assert claim is not None
    page.get_by_text("As a table").click()
    worker.show(claim, 3, 10)
    worker.report_progress(claim, 3, 10, matching_loss=0.5)
    worker.report_progress(claim, 4, 10, matching_loss=0.25)
    expect(page.get_by_role("img", name="matching loss from 0.5 to 0.25")).to_be_visible()
    assert page.locator(".preview img").evaluate("picture => picture.complete")
    # what a reader has opened stays open
    expect(page.get_by_role("columnheader", name="Takes from")).to_be_visible()
    worker.fail(claim, "the step is too large")
    expect(page.get_by_role("heading", name="2 jobs failed")).to_be_visible()
    expect(page.get_by_text("the step is too large")).to_be_visible()
    page.get_by_role("button", name="Retry what failed").click()
    expect(page.get_by_text("will run again")).to_be_visible()
    worker.finish_all()


def test_a_refusal_is_a_notice_and_leaves_the_page(visitor: Visit, gateway: GatewayProcess) -> None:
    audit = post_audit(gateway, name="refused", seeds=[60])
    visitor.sign_in(path=f"/audits/{audit}")
    page = visitor.page
    page.get_by_role("button", name="Priority…").click()
    gateway.make_worker().finish_all()
    page.get_by_label("From −100 to 100").fill("5")
    page.get_by_role("button", name="Set priority").click()
    expect(page.locator("#notice").get_by_role("alert")).to_contain_text("have ended")
    assert page.url.endswith(f"/audits/{audit}")
    expect(page.get_by_label("From −100 to 100")).to_be_hidden()
    # the browser reports the status of what was refused
    visitor.complaints[:] = [c for c in visitor.complaints if "409" not in c]


def test_an_audit_is_cancelled_and_deleted(visitor: Visit, gateway: GatewayProcess) -> None:
    audit = post_audit(gateway, name="short lived", seeds=[70])
    visitor.sign_in(path="/audits?name=short")
    page = visitor.page
    page.get_by_role("link", name="short lived").click()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the audit").click()
    expect(page.get_by_text("Jobs that are running stop")).to_be_visible()
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete the audit").click()
    expect(page.get_by_text("Audit deleted")).to_be_visible()
    assert visitor.open(f"/audits/{audit}").status == 404  # type: ignore[union-attr]
    visitor.complaints[:] = [c for c in visitor.complaints if "404" not in c]


def test_a_job_is_followed_to_its_end(visitor: Visit, gateway: GatewayProcess) -> None:
    audit = post_audit(gateway, name="of one job", seeds=[80], unlearning=["ascent"])
    worker = gateway.make_worker()
    claim = worker.claim()
    visitor.sign_in(path=f"/jobs?audit={audit}")
    page = visitor.page
    page.get_by_role("link", name=claim.job.stage, exact=True).click()
    worker.report_progress(claim, 2, 8)
    expect(page.get_by_text("2 / 8").first).to_be_visible()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Keep it").click()
    worker.report_progress(claim, 5, 8)
    expect(page.get_by_text("5 / 8").first).to_be_visible()
    worker.finish(claim)
    expect(page.get_by_text("running → succeeded")).to_be_visible()
    expect(page.locator("#stream")).to_have_count(0)
    worker.finish_all()
