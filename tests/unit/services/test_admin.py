"""services.admin."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import admin
from shared.jobs import worker_registry
from shared.jobs.database import Database
from tests.support.gateway import make_catalog
from tests.support.servers import RedisServer


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/p.db")
    monkeypatch.setenv("PALIMPSEST_ARTIFACTS_URL", f"file://{tmp_path}/artifacts")
    monkeypatch.setenv("PALIMPSEST_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.delenv("PALIMPSEST_TOKEN", raising=False)
    return tmp_path


def test_the_doctor_says_what_to_do(environment, capsys):
    assert admin.main(["doctor"]) == 1
    said = capsys.readouterr().out
    for words in (
        "FAIL access",
        "set PALIMPSEST_TOKEN",
        "services.admin migrate",
        "FAIL broker",
        "ok   artifacts",
        "FAIL workers",
    ):
        assert words in said


def test_after_migrate_and_with_all_there_is_the_doctor_is_content(
    environment, monkeypatch, capsys
):
    for _ in range(2):
        assert admin.main(["migrate"]) == 0
    redis = RedisServer(environment / "redis").start()
    monkeypatch.setenv("PALIMPSEST_BROKER_URL", redis.url)
    monkeypatch.setenv("PALIMPSEST_TOKEN", "hush-hush")
    db = Database(f"sqlite:///{environment}/p.db")
    worker_registry.publish_catalog(db, make_catalog())
    assert admin.main(["doctor"]) == 1
    assert "none is live" in capsys.readouterr().out
    worker_registry.register_worker(
        db,
        "w",
        host="h",
        pid=1,
        stages=("sleep",),
        device="cpu",
        threads=1,
        versions={},
        catalog="c",
    )
    assert admin.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "FAIL" not in said
    assert "hush" not in said
    db.close()
    redis.kill()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://x",
        "sqlite:////proc/none/p.db",
        "postgresql+psycopg://u:hush@127.0.0.1:1/x",
    ],
)
def test_migrate_tells_in_one_line_why_not(environment, monkeypatch, capsys, url):
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", url)
    assert admin.main(["migrate"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("migrate: ")
    assert said.count("\n") == 1
    assert "hush" not in said


def test_settings_that_are_wrong(environment, monkeypatch, capsys):
    monkeypatch.setenv("PALIMPSEST_LEASE_S", "-1")
    assert admin.main(["doctor"]) == 2
    assert "PALIMPSEST_LEASE_S: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_wrong_use(arguments):
    with pytest.raises(SystemExit) as ended:
        admin.main(arguments)
    assert ended.value.code == 2
