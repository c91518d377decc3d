"""Pictures of a report for the docs: `python -m tests.support.screenshots
.palimpsest/demo/report.html docs/images`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.support.chromium import find_chromium

WIDTHS = (390, 1440)
PAGE_HEIGHT = 3600  # pixels of the page that are shown
# What docs/reading-a-report.md shows of a section, by the id of its heading.
SECTIONS = {"verdict": "", "glance": ".scroll >> nth=0", "forgotten": ".scroll >> nth=0"}
COLOURS = 128  # of the pictures of sections, which are mostly text


def take_screenshots(report: Path, to: Path) -> None:
    """report-390.png and report-1440.png, the top of the page; readme.png, the verdict and the pictures below
    it; report-SECTION.png, one section."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
            page.goto(report.resolve().as_uri())
            page.set_viewport_size({"width": width, "height": PAGE_HEIGHT})
            page.screenshot(path=to / f"report-{width}.png")
            page.close()
        page = browser.new_page(
            viewport={"width": 1100, "height": 900}, color_scheme="light", device_scale_factor=2
        )
        page.goto(report.resolve().as_uri())
        page.locator(".opening").screenshot(path=to / "readme.png")
        for section, part in SECTIONS.items():
            found = page.locator(f"section[aria-labelledby={section}] {part}")
            picture = Image.open(io.BytesIO(found.screenshot()))
            picture.quantize(COLOURS).save(to / f"report-{section}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    take_screenshots(Path(sys.argv[1]), Path(sys.argv[2]))
