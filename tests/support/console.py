"""The console in a real browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, Response, sync_playwright

from tests.support.chromium import find_chromium
from tests.support.gateway import TOKEN
from tests.support.waiting import TIMEOUT_S

AXE = Path(__file__).parent / "vendor/axe-core/axe.min.js"
TIMEOUT_MS = TIMEOUT_S * 1000


@contextlib.contextmanager
def launch_browser() -> Iterator[Browser]:
    """A Chromium of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """A browser's visit of a console: its page, and everything that a page must not do.

    complaints: console messages, errors of scripts, broken policies, requests to other hosts.
    """

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note_foreign(request.url))

    def _note_foreign(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"a request to {url}")

    def open(self, path: str) -> Response | None:
        """Go to a page of the console."""
        return self.page.goto(f"{self.url}{path}")

    def sign_in(self, secret: str = TOKEN, path: str = "/") -> None:
        """Ask for a page, and give a key or the token when the console asks for one."""
        self.open(path)
        self.page.get_by_label("Key or token").fill(secret)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()


@contextlib.contextmanager
def visit(browser: Browser, url: str, width: int = 1440, scheme: str = "light") -> Iterator[Visit]:
    """A visit with cookies of its own."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    yield Visit(context.new_page(), url)
    context.close()


def check_accessibility(page: Page, *rules: str) -> list[str]:
    """What axe-core finds on a page as it is shown, of serious or critical impact.

    Args:
        rules: only these; all of WCAG 2.2 AA and the good practices if left out.
    """
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text())  # not as a script of the page, which its policy would refuse
    options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    violations = page.evaluate(
        "async (options) => (await axe.run(document, {...options, resultTypes: ['violations']})).violations",
        options,
    )
    return [
        f"{one['id']} at {', '.join(str(node['target']) for node in one['nodes'][:5])}: {one['help']}"
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]
