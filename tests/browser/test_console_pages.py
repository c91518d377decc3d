"""Every page of the console in a real browser: accessible in both themes, on narrow and wide screens;
and the pages of the API, which ask no other host for anything."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.console import (
    TIMEOUT_MS,
    Visit,
    check_accessibility,
    visit,
)
from tests.support.console_world import World, serve_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # the browser may have to be installed
expect.set_options(timeout=TIMEOUT_MS)
WIDTHS = (1440, 390)
HEIGHT = 900


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serve_world(tmp_path_factory.mktemp("world")) as served:
        yield served


@pytest.fixture
def visitor(browser: Browser, world: World) -> Iterator[Visit]:
    with visit(browser, world.gateway.url) as visitor:
        yield visitor


def find_faults(page: Page, path: str) -> list[str]:
    """What is wrong with the page that is shown, on both widths and in both themes.

    The theme changes colours only, so that in the dark one only these are checked.
    """
    faults = []
    for one in page.query_selector_all("details:not([open])"):
        one.evaluate("(details) => details.open = true")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            faults += [
                f"{path} {width} {scheme}: {one}" for one in check_accessibility(page, *rules)
            ]
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            faults.append(f"{path} {width}: the page is {needed} wide")
    return faults


def test_every_page_is_accessible(visitor: Visit, world: World) -> None:
    pages = world.list_pages()
    assert len(pages) > 15
    visitor.open("/sign-in")
    faults = find_faults(visitor.page, "/sign-in")
    visitor.sign_in()
    for path in [*pages.values(), "/openapi/", "/models?name=%21"]:
        visitor.open(path)
        faults += find_faults(visitor.page, path)
    # what a browser says of a page that is an answer to a wrong request is all that it may say
    complaints = [one for one in visitor.complaints if "status of 422" not in one]
    assert (faults, complaints) == ([], [])


def test_what_is_inaccessible_is_seen(visitor: Visit) -> None:
    visitor.page.set_content("<html lang='en'><title>x</title><main><img src='data:,'></main>")
    assert any(one.startswith("image-alt") for one in check_accessibility(visitor.page))


def test_the_pages_of_the_api_ask_no_other_host(visitor: Visit) -> None:
    visitor.sign_in()
    page = visitor.page
    page.get_by_role("navigation").get_by_role("link", name="API").click()
    expect(page.get_by_role("heading", name="API", exact=True)).to_be_visible()
    page.get_by_role("link", name="Try it in Swagger UI").click()
    expect(page.locator("#operations-jobs-list_jobs_v1_jobs_get, .opblock").first).to_be_visible()
    page.get_by_role("link", name="Palimpsest API").click()
    page.get_by_role("link", name="Read it in Scalar").click()
    expect(page.get_by_role("heading", name="Palimpsest")).to_be_visible()
    page.wait_for_load_state("networkidle")
    outward = "[...document.querySelectorAll('a[href]')].filter(a => a.origin !== location.origin)"
    assert page.evaluate(f"{outward}.map(a => a.href)") == []
    assert [one for one in visitor.complaints if not one.startswith("@scalar/")] == []


def test_a_key_is_made_and_revoked(visitor: Visit) -> None:
    visitor.sign_in(path="/keys")
    page = visitor.page
    page.get_by_text("New key").click()
    page.get_by_label("Label").fill("made in a browser")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#secret")).to_have_text(re.compile(r"^pal_[\w-]{43}$"))
    expect(page.get_by_role("button", name="Copy")).to_be_visible()
    assert "pal_" not in page.url
    page.get_by_role("main").get_by_role("link", name="Keys").click()
    page.get_by_role("link", name="Revoke made in a browser").click()
    page.get_by_role("button", name="Revoke key").click()
    row = page.get_by_role("row").filter(has_text="made in a browser")
    expect(row.get_by_text("revoked")).to_be_visible()
    assert visitor.complaints == []


def test_a_worker_is_drained_from_its_page(visitor: Visit) -> None:
    visitor.sign_in(path="/workers?stage=attack")
    page = visitor.page
    page.get_by_role("button", name="Drain gpu-09", exact=True).click()
    expect(page.get_by_role("button", name="Undrain gpu-09")).to_be_visible()
    page.get_by_role("button", name="Undrain gpu-09").click()
    expect(page.get_by_role("button", name="Drain gpu-09", exact=True)).to_be_visible()
    assert visitor.complaints == []
