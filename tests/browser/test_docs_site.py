"""The documentation site: it is built without a warning and without a network, names no other host,
and works in a real browser."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.console import TIMEOUT_MS, visit
from tests.support.source_tree import ROOT
from tests.support.waiting import TIMEOUT_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # the browser may have to be installed

WITHOUT_NETWORK = """
import socket
def refuse(*_, **__):
    raise OSError("there is no network")
socket.socket.connect = socket.getaddrinfo = refuse
"""
# What a browser fetches by itself; a link that a reader may follow is another matter.
FETCHED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
FOREIGN = re.compile(r"(https?:)?//")
PAGES = [
    ("index.html", 390, "light"), ("reading-a-report.html", 1440, "dark"),
    ("reference/catalog/attack.html", 390, "dark"), ("reference/api/audits.html", 1440, "light"),
]  # fmt: skip

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "sitecustomize.py").write_text(WITHOUT_NETWORK)
    command = ["mkdocs", "build", "--strict", "--site-dir", str(folder / "site")]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder), "NO_MKDOCS_2_WARNING": "1"}, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder / "site"


class Fetches(HTMLParser):
    """Addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(FETCHED.get(tag, ""))
        if address:
            self.addresses.append(address)


def list_fetches(page: str) -> list[str]:
    parser = Fetches()
    parser.feed(page)
    return parser.addresses


def test_no_page_names_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        addresses = list_fetches(page.read_text())
        assert addresses, page
        assert [one for one in addresses if FOREIGN.match(one)] == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )['\"]?(https?:)?//", style.read_text()), style


def test_another_host_would_be_found() -> None:
    page = '<a href="https://a.org"></a><script src="//b.org/x.js"></script><img src="x.png">'
    assert list_fetches(page) == ["//b.org/x.js", "x.png"]


def test_the_reference_is_complete(site: Path) -> None:
    for page, words in {
        "settings.html": "PALIMPSEST_LEASE_RENEW_S",
        "roles.html": "AVERAGED_RELEASES",
        "problems.html": "urn:palimpsest:problem:unprocessable-entity",
        "metrics.html": "PalimpsestNoWorkers",
        "command-line.html": "--max-accuracy-cost|--fail-on",
        "python-client.html": "submit_audit",
        "programs.html": "palimpsest-admin tenants create",
        "report.html": "p_corrected",
        "catalog/attack.html": "gradient_from",
        "api/audits.html": "Idempotency-Key",
        "exit-statuses.html": "130",
        "openapi.json": '"/v1/audits"',
    }.items():
        assert re.search(words, (site / "reference" / page).read_text()), page


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    handler = functools.partial(_QuietHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_pages_load_in_a_browser(browser: Browser, url: str) -> None:
    for page, width, scheme in PAGES:
        with visit(browser, url, width, scheme) as visitor:
            visitor.open(f"/{page}")
            expect(visitor.page.get_by_role("heading", level=1)).to_be_visible()
            overflow = visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, f"{page} is wider than {width}"
            background = "rgb(22, 20, 15)" if scheme == "dark" else "rgb(251, 249, 244)"
            expect(visitor.page.locator("body")).to_have_css("background-color", background)
            assert visitor.complaints == []


@pytest.mark.parametrize("is_served", [True, False], ids=["served", "from a disk"])
def test_search_finds_what_is_here(browser: Browser, url: str, site: Path, is_served: bool) -> None:
    with visit(browser, url if is_served else site.as_uri()) as visitor:
        visitor.open("/index.html")
        # key by key: the theme listens to keys, and to nothing else that changes the field
        visitor.page.get_by_placeholder("Search").press_sequentially("decoys")
        results = visitor.page.locator(".md-search-result__link")
        expect(results.filter(has_text="Decoys").first).to_be_visible()
        assert visitor.complaints == []
