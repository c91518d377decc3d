"""Pictures of every page of the console: `python -m tests.support.console_screenshots
docs/images/console`, on narrow and wide screens, as `NAME-390.png` and `NAME-1440.png`."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.support.console import Visit, launch_browser, visit
from tests.support.console_world import serve_world
from tests.support.servers import RedisServer

WIDTHS = (390, 1440)
HEIGHT = 900  # of the screen
MAX_HEIGHT = 1800  # of the page, as far as it is shown
COLOURS = 64
MAX_BYTES = 150_000


def make_name(rule: str) -> str:
    """`models-name` of `/models/<name>`."""
    return re.sub(r"[^a-z0-9_]+", "-", rule.lower()).strip("-") or "home"


def take_picture(page: Page, file: Path) -> None:
    """The page from its top, in few colours.

    Raises:
        ValueError: it takes more bytes than a picture may.
    """
    height = page.evaluate("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": min(height, MAX_HEIGHT)}  # type: ignore[index]
    shot = page.screenshot(full_page=True, clip=clip, animations="disabled")  # type: ignore[arg-type]
    with Image.open(io.BytesIO(shot)) as picture:
        picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file.name} has {file.stat().st_size:,} bytes")


def take_all(visitor: Visit, pages: dict[str, str], to: Path) -> None:
    """Each page at each width."""
    for rule, path in pages.items():
        for width in WIDTHS:
            visitor.page.set_viewport_size({"width": width, "height": HEIGHT})
            visitor.open(path)
            take_picture(visitor.page, to / f"{make_name(rule)}-{width}.png")


def main(to: Path) -> None:
    """Serve the world and take the pictures; older ones are removed."""
    to.mkdir(parents=True, exist_ok=True)
    for old in to.glob("*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory() as name:
        redis = RedisServer(Path(name) / "redis").start()
        try:
            with (
                serve_world(Path(name), PALIMPSEST_BROKER_URL=redis.url) as world,
                launch_browser() as browser,
                visit(browser, world.gateway.url) as visitor,
            ):
                take_all(visitor, {"/sign-in": "/sign-in"}, to)
                visitor.sign_in()
                pages = {
                    rule: path for rule, path in world.list_pages().items() if rule != "/sign-in"
                }
                take_all(visitor, pages | {"/openapi/": "/openapi/"}, to)
        finally:
            redis.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
