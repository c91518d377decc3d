"""The console in a real browser: signing in, and the home page as things change."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.console import TIMEOUT_MS, Visit, visit
from tests.support.gateway import AUDIT, TOKEN, GatewayProcess
from tests.support.keys import make_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # the browser may have to be installed
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture
def visitor(browser: Browser, gateway: GatewayProcess) -> Iterator[Visit]:
    with visit(browser, gateway.url) as visitor:
        yield visitor
        assert visitor.complaints == []


def post_audit(gateway: GatewayProcess, name: str, secret: str = TOKEN) -> str:
    answer = httpx.post(
        f"{gateway.url}/v1/audits",
        json={**AUDIT, "name": name},
        headers={"Authorization": f"Bearer {secret}"},
    )
    return str(answer.raise_for_status().json()["id"])


def test_a_wrong_key_is_refused_and_a_right_one_shows_what_was_asked_for(visitor: Visit) -> None:
    visitor.open("/?a=b")
    page = visitor.page
    page.get_by_label("Key or token").fill("not a key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("That key is not valid")
    page.get_by_label("Key or token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    assert page.url.endswith("/?a=b")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key or token")).to_be_visible()
    visitor.open("/")
    expect(page.get_by_label("Key or token")).to_be_visible()


def test_home_shows_what_happens_while_one_looks(visitor: Visit, gateway: GatewayProcess) -> None:
    visitor.sign_in()
    page = visitor.page
    post_audit(gateway, "seen at once")
    expect(page.get_by_role("link", name="seen at once")).to_be_visible()
    worker = gateway.make_worker()
    claim = worker.claim()
    worker.report_progress(claim, 3, 10)
    expect(page.get_by_text("3 / 10")).to_be_visible()
    worker.report_progress(claim, 7, 10)
    expect(page.get_by_text("7 / 10")).to_be_visible()
    worker.finish(claim)
    expect(page.get_by_text("7 / 10")).to_have_count(0)
    worker.finish_all()


def test_a_page_follows_a_gateway_that_starts_again(
    browser: Browser, gateway: GatewayProcess
) -> None:
    with visit(browser, gateway.url) as visitor:
        visitor.sign_in()
        gateway.stop()
        gateway.start()
        post_audit(gateway, "after the restart")
        expect(visitor.page.get_by_role("link", name="after the restart")).to_be_visible()
        # what a browser says of a server that is away is all that it may say
        away = re.compile("Failed to (load resource|fetch)|network error", re.IGNORECASE)
        assert [c for c in visitor.complaints if not away.search(c)] == []


def test_another_tenant_sees_nothing_of_it(visitor: Visit, gateway: GatewayProcess) -> None:
    post_audit(gateway, "of the first tenant")
    visitor.sign_in(make_key(gateway.db, "second", "read", "submit"))
    expect(visitor.page.get_by_text("Nothing has run here yet")).to_be_visible()
    assert "of the first tenant" not in visitor.page.content()


def test_light_and_dark_are_remembered(visitor: Visit) -> None:
    visitor.sign_in()
    page = visitor.page
    page.get_by_role("button", name="Change between light and dark").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
