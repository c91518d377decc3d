"""services.client.discovery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.client.discovery import SERVE_FILE, find_gateway
from services.client.errors import NotConfigured


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PALIMPSEST_URL", "PALIMPSEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def served(**content: str) -> None:
    SERVE_FILE.parent.mkdir()
    SERVE_FILE.write_text(json.dumps(content))


def test_what_is_said_goes_first_then_the_environment_then_the_file(monkeypatch):
    served(url="http://file:1", token="f")
    assert find_gateway() == ("http://file:1", "f")
    monkeypatch.setenv("PALIMPSEST_TOKEN", "e")
    assert find_gateway() == ("http://file:1", "e")
    monkeypatch.setenv("PALIMPSEST_URL", "http://env:1/")
    assert find_gateway() == ("http://env:1", "e")
    assert find_gateway("https://said:1", "s") == ("https://said:1", "s")


def test_a_token_is_not_sent_to_an_address_it_is_not_for(monkeypatch):
    served(url="http://file:1", token="f")
    with pytest.raises(NotConfigured, match="no token for http://other:1"):
        find_gateway("http://other:1")
    assert find_gateway("http://file:1/") == ("http://file:1", "f")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"url": "ftp://x", "token": "t"}', '{"url": "http://x"}']
)
def test_a_file_that_does_not_help(content):
    SERVE_FILE.parent.mkdir()
    SERVE_FILE.write_text(content)
    with pytest.raises(NotConfigured):
        find_gateway()


def test_nothing_is_known():
    with pytest.raises(NotConfigured, match="make serve"):
        find_gateway()
