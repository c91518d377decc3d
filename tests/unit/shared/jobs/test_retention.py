"""One table says what is kept, and for how long: settings, documentation and reports agree."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shared.config import Settings, load_settings
from shared.errors import InvalidRequest
from shared.jobs.retention import (
    DAY_S,
    KINDS,
    Retention,
    format_days,
    list_defaults,
    plan_retention,
)
from tests.support.source_tree import ROOT


def test_every_setting_has_its_row_and_every_row_its_setting() -> None:
    named = [kind.setting for kind in KINDS if kind.setting]
    assert sorted(named) == sorted(n for n in Settings.model_fields if n.startswith("keep_"))


def test_the_documentation_shows_the_table() -> None:
    page = (ROOT / "docs/retention.md").read_text()
    for kind in KINDS:
        setting = f"`PALIMPSEST_{kind.setting.upper()}`" if kind.setting else "-"
        default = list_defaults()[kind.setting] if kind.setting else "-"
        row = f"| {kind.name} | {setting} | {default} | {kind.since} | {kind.lost} |"
        assert row in page, row


def test_for_ever_is_said_in_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_KEEP_AUDITS_DAYS", "365")
    monkeypatch.setenv("PALIMPSEST_KEEP_RECONSTRUCTIONS_DAYS", "forever")
    settings = Settings()
    assert settings.keep_reconstructions_days == math.inf
    kept = Retention.from_settings(settings)
    assert (kept.audits_s, kept.reconstructions_s) == (365 * DAY_S, math.inf)
    # what an audit has made goes with it
    assert plan_retention(settings).reconstructions_days == 365


@pytest.mark.parametrize("value", ["0", "-1", "nan", "never", ""])
def test_anything_else_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PALIMPSEST_KEEP_AUDITS_DAYS", value)
    with pytest.raises(InvalidRequest, match="PALIMPSEST_KEEP_AUDITS_DAYS"):
        load_settings()


def test_an_answer_does_not_outlive_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_KEEP_IDEMPOTENCY_DAYS", "30")
    monkeypatch.setenv("PALIMPSEST_KEEP_JOBS_DAYS", "2")
    assert Retention.from_settings(Settings()).idempotency_s == 2 * DAY_S


def test_days_in_words() -> None:
    assert [format_days(d) for d in (30, 1, 0.5, math.inf)] == [
        "30 days", "1 day", "12 hours", "forever",
    ]  # fmt: skip


def test_compose_hands_every_setting_on() -> None:
    compose = Path(ROOT / "docker-compose.yml").read_text()
    for kind in KINDS:
        assert kind.setting is None or f"PALIMPSEST_{kind.setting.upper()}:" in compose
