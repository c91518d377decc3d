"""Settings come from the environment, and only from there."""

from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from shared.config import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PALIMPSEST_"):
            monkeypatch.delenv(name)


def test_without_any_setting_one_machine_works_in_its_own_folder() -> None:
    settings = Settings()
    assert settings.database_url == "sqlite:///.palimpsest/palimpsest.db"
    assert settings.artifacts_url == "file://.palimpsest/artifacts"
    assert settings.token is None


def test_three_addresses_are_all_that_scale_out_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", "postgresql+psycopg://db/x")
    monkeypatch.setenv("PALIMPSEST_BROKER_URL", "redis://:secret@redis:6379/0")
    monkeypatch.setenv("PALIMPSEST_ARTIFACTS_URL", "s3://bucket")
    settings = Settings()
    assert settings.database_url == "postgresql+psycopg://db/x"
    assert settings.broker_url.get_secret_value() == "redis://:secret@redis:6379/0"
    assert settings.artifacts_url == "s3://bucket"


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_TOKEN", "canary-token")
    monkeypatch.setenv("PALIMPSEST_BROKER_URL", "redis://:canary-password@redis/0")
    assert "canary" not in f"{Settings()!r} {Settings()} {Settings().model_dump()}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("LEASE_S", "0"), ("MAX_LOST_ATTEMPTS", "0"), ("THREADS", "0"), ("LEASE_RENEW_S", "x")],
)
def test_a_value_out_of_bounds_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"PALIMPSEST_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_lease_is_renewed_several_times_before_it_runs_out() -> None:
    settings = Settings()
    assert settings.lease_s >= 5 * settings.lease_renew_s


def test_every_setting_is_described() -> None:
    assert all(f.description for f in Settings.model_fields.values())
