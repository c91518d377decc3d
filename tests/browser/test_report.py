"""A report in a real browser, from a file, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from shared.ml.tensors import write_tensors
from tests.support.chromium import find_chromium
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    load_evaluations,
    make_audit,
    make_defense,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_utility_evaluation,
    plan_rows,
)
from workers.context import JobContext, Submission
from workers.stages.report import ReportParams, run

pytestmark = pytest.mark.timeout(3600)  # the browser may have to be installed
LONG = "<script>document.title='taken'</script>" + "W" * 150

# Contrast of every piece of text with the nearest background that is painted behind it, as WCAG 2
# defines it.
FAINT = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *:not(svg):not(svg *)')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push([element.className || element.tagName, contrast]);
  }
  return faint;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it: leaks, a defense, labels, members, pictures, missing rows, a
    hostile name."""
    pruned = make_defense("pruning", strength=0.3)
    spec = make_audit(
        name=LONG[:200],
        unlearning=["gradient_ascent", "retrain"],
        defenses=["none", "pruning"],
        attacks=["feature_recovery", "label_inference", "membership_difference"],
    )
    evaluations = [
        make_image_evaluation(**LEAK) | {"inputs": {"ORIGINAL": "a" * 64, "UNLEARNED": "c" * 64}},
        make_image_evaluation(**NO_LEAK, released=pruned),
        make_label_evaluation(8, (0.68, 1.0)),
        make_label_evaluation(3, (0.14, 0.69), released=pruned),
        make_membership_evaluation((0.9, 0.7, 0.98)),
        make_membership_evaluation((0.5, 0.3, 0.7), 0.5, released=pruned),
        make_utility_evaluation(),
        make_utility_evaluation(released=pruned),
    ]
    inputs = {
        f"EVALUATION_{i}": json.dumps(one).encode() for i, one in enumerate(evaluations, start=1)
    }
    about = {name: evaluations[0][name] for name in ("seed", "unlearning", "defense", "attack")}
    captions = {"psnr": [22.0] * 8, "baseline_psnr": [13.0] * 8, "ranks": [1] * 8, "decoys": 100}
    draw = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    names = [f"RECONSTRUCTION.{name}" for name in ("truth", "reconstruction", "class_mean")]
    inputs["PICTURES_1"] = write_tensors(
        dict.fromkeys(names, draw), about | {"kinds": {"RECONSTRUCTION": captions}}
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    params = ReportParams(audit=spec, rows=plan_rows(spec, load_evaluations(*evaluations)))
    submission = Submission("job_" + "0" * 20, "aud_" + "1" * 20, 1.7e9, {"a.csv": "b" * 64})
    context = JobContext(params=params, inputs=inputs, load_submission=lambda: submission)
    path.write_bytes(run(context)["REPORT_HTML"].data)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Browser, report: Path, width: int, scheme: str) -> tuple[Page, list[str]]:
    """The page, and all that it asked for or complained about."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    heard: list[str] = []
    page.on("request", lambda request: heard.append(request.url))
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_load_state("networkidle")
    return page, [one for one in heard if not one.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_asks_for_nothing_fits_and_can_be_read(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    page, heard = opened(browser, report, width, scheme)
    assert heard == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(FAINT) == []
    page.close()


def test_the_name_is_text_and_every_picture_is_drawn(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1440, "light")
    assert page.title().startswith("<script>document.title='taken'</script>WWW")
    assert page.locator("h1").inner_text().startswith("<script>")
    sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert sizes == [120] * (8 * 2 + 8 * 3)  # beside the verdict, and with their baselines
    assert page.evaluate("[...document.images].every((image) => image.alt)")
    page.close()


def test_each_width_shows_one_drawing_of_each_chart(browser: Browser, report: Path) -> None:
    for width in (390, 1440):
        page, _ = opened(browser, report, width, "light")
        drawings = page.locator("svg")
        shown = [drawings.nth(i).is_visible() for i in range(drawings.count())]
        assert shown.count(True) == shown.count(False) == 3
        page.close()


def test_it_prints_on_paper_with_the_digests_unfolded(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1440, "dark")
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.evaluate("document.querySelector('.digests code').getBoundingClientRect().height") > 0
    )
    assert page.evaluate(FAINT) == []
    page.close()
