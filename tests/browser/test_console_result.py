"""Results in a real browser: pictures, filters, the slider of a sweep, and two audits compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.console import TIMEOUT_MS, Visit, visit
from tests.support.gateway import AUDIT, TOKEN, GatewayProcess, serve_gateway
from tests.support.reported_audits import (
    build_measured_report,
    build_swept_report,
    finish_with_report,
    make_files,
)
from tests.support.reports import JSONObject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # the browser may have to be installed
expect.set_options(timeout=TIMEOUT_MS)


@dataclass(frozen=True)
class Reported:
    """A gateway with audits that have reports."""

    gateway: GatewayProcess
    before: str
    after: str
    swept: str


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    with serve_gateway(tmp_path_factory.mktemp("gateway")) as gateway:

        def finish(
            name: str, files: Mapping[str, bytes], evaluations: list[JSONObject], iterations: int
        ) -> str:
            attacks = [{"name": "invert", "params": {"iterations": iterations}}]
            answer = httpx.post(
                f"{gateway.url}/v1/audits",
                json={**AUDIT, "name": name, "attacks": attacks},
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
            finish_with_report(gateway.make_worker(), files, evaluations)
            return str(answer.raise_for_status().json()["id"])

        ids = []
        for name, shift, iterations in (("before", 0.0, 100), ("after", 4.0, 500)):
            report, evaluations, galleries = build_measured_report(shift)
            ids.append(finish(name, make_files(report, galleries), evaluations, iterations))
        swept = finish("swept", make_files(build_swept_report()), [], 200)
        yield Reported(gateway, ids[0], ids[1], swept)


@pytest.fixture
def visitor(browser: Browser, reported: Reported) -> Iterator[Visit]:
    with visit(browser, reported.gateway.url) as visitor:
        yield visitor
        assert visitor.complaints == []


def test_a_picture_is_enlarged_and_the_next_one_follows(visitor: Visit, reported: Reported) -> None:
    visitor.sign_in(path=f"/audits/{reported.before}/result")
    page = visitor.page
    button = page.locator("section.gallery .enlarge").first
    expect(button).to_have_accessible_name("Enlarge: Deleted image 1, class 1")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.locator("img")).to_have_count(3)
    expect(dialog.locator("figcaption")).to_have_text(["deleted", "came back", "baseline"])
    expect(dialog).to_contain_text("21.0 dB")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("22.0 dB")
    page.keyboard.press("Home")
    expect(dialog.locator(".place")).to_contain_text("1 of")
    expect(dialog.get_by_role("button", name="Previous")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    # back where the reader was
    expect(page.locator(".enlarge").first).to_be_focused()


def test_a_filter_is_an_address(visitor: Visit, reported: Reported) -> None:
    visitor.sign_in(path=f"/audits/{reported.before}/result")
    page = visitor.page
    page.get_by_label("Attack", exact=True).select_option("label_inference")
    page.get_by_label("Order", exact=True).select_option("Worst first")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("status")).to_contain_text("worst first")
    assert "attack=label_inference" in page.url
    expect(page.locator("table.full")).to_contain_text("label_inference")
    expect(page.locator("table.full")).not_to_contain_text("feature_recovery")
    page.get_by_role("link", name="All rows").click()
    expect(page.locator("table.full")).to_contain_text("feature_recovery")


def test_a_slider_shows_each_setting_of_a_sweep(visitor: Visit, reported: Reported) -> None:
    visitor.sign_in(path=f"/audits/{reported.swept}/result")
    page = visitor.page
    slider = page.get_by_role("slider", name="Setting: noise")
    setting = page.locator(".slider .setting")
    expect(setting).to_contain_text("0.3")  # the operating point
    slider.focus()
    page.keyboard.press("ArrowRight")
    for words in ("Not seen", "9.0 dB", "0.90", "0.07"):
        expect(setting).to_contain_text(words)
    told = (
        "noise 1: feature_recovery Not seen 9.0 dB baseline 13.0 dB; test accuracy 0.90, cost 0.07"
    )
    expect(slider).to_have_attribute("aria-valuetext", told)
    drawn = page.locator(".wide svg").filter(has=page.locator(".cursor"))
    expect(drawn.locator(".mark.current")).to_have_count(1)
    at = drawn.locator(".mark.current circle").get_attribute("cx")
    assert drawn.locator(".cursor").get_attribute("x1") == at
    page.keyboard.press("Home")
    expect(setting).to_contain_text("none")


def test_two_audits_are_compared(visitor: Visit, reported: Reported) -> None:
    visitor.sign_in(path="/compare")
    page = visitor.page
    page.get_by_label("before").check()
    page.get_by_label("after").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="What differs")).to_be_visible()
    expect(page.get_by_text("1 parameter differs: attacks.invert.iterations.")).to_be_visible()
    expect(page.get_by_text("paired over 8 deletions").first).to_be_visible()


@pytest.mark.parametrize("width", [360, 390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_screen(
    browser: Browser, reported: Reported, width: int, scheme: str
) -> None:
    with visit(browser, reported.gateway.url, width, scheme) as visitor:
        visitor.sign_in()
        for path in (
            f"/audits/{reported.swept}/result",
            f"/compare?audits={reported.before},{reported.after}",
        ):
            visitor.open(path)
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visitor.complaints == []
