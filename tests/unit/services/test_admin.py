"""services.admin."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from services import admin
from services.gateway.key_cache import CACHE_S
from shared.jobs import access_log, tenants, worker_registry
from shared.jobs.database import Database
from shared.jobs.device_leases import Device, lease_device
from shared.jobs.keys import SECRET
from tests.support.gateway import make_catalog
from tests.support.servers import RedisServer
from tests.support.source_tree import ROOT


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
    assert "no worker is live" in capsys.readouterr().out
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
    gpu = Device("GPU-1", 0, "NVIDIA H100", 80 << 30)
    for worker in ("w", "x"):
        lease_device(db, worker, "h", [gpu], 45)
    assert admin.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "NVIDIA H100 GPU-1 on h: w, x" in said
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


def test_a_key_is_printed_once_and_alone(environment, capsys):
    assert admin.main(["migrate"]) == 0
    assert admin.main(["keys", "create", "--tenant", "acme"]) == 1
    assert "no such tenant" in capsys.readouterr().err
    assert admin.main(["tenants", "create", "acme", "--max-running-jobs", "3"]) == 0
    capsys.readouterr()
    words = ["--scope", "admin", "--scope", "read", "--label", "laptop", "--expires", "90d"]
    assert admin.main(["keys", "create", "--tenant", "acme", *words]) == 0
    said = capsys.readouterr()
    secret = said.out.strip()
    assert SECRET.fullmatch(secret)
    assert secret not in said.err
    assert "scopes admin read" in said.err
    assert admin.main(["keys", "create", "--tenant", "acme", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["scopes"], made["expires_at"]) == (["read", "submit"], None)
    assert SECRET.fullmatch(made["key"])
    for listing in (["keys", "list", "--json"], ["keys", "list"], ["log", "--json"], ["log"]):
        assert admin.main(listing) == 0
        shown = capsys.readouterr().out
        assert made["id"] in shown
        assert secret not in shown
        assert made["key"] not in shown


def test_keys_end_and_tenants_are_disabled_and_all_is_in_the_log(environment, capsys):
    def run(*arguments: str) -> Any:
        status = admin.main([*arguments, "--json"])
        said = capsys.readouterr()
        return json.loads(said.out) if status == 0 else (status, said.err)

    admin.main(["migrate"])
    capsys.readouterr()
    run("tenants", "create", "acme")
    key = run("keys", "create", "--tenant", "acme", "--scope", "admin")["id"]
    for refused in (("keys", "revoke", key), ("tenants", "disable", "acme")):
        status, said = run(*refused)
        assert status == 1
        assert "create another one first" in said
    run("tenants", "create", "zeta")
    run("keys", "create", "--tenant", "zeta", "--scope", "admin")
    assert run("keys", "revoke", key)[0]["state"] == "revoked"
    assert run("tenants", "disable", "acme")[0]["disabled_at"]
    assert run("tenants", "enable", "acme")[0]["disabled_at"] is None
    (changed,) = run("tenants", "quota", "acme", "--max-queued-jobs", "7")
    assert changed["quotas"]["max_queued_jobs"] == 7
    assert run("tenants", "quota", "acme") == [changed]
    assert [one["name"] for one in run("tenants", "list")] == ["acme", "zeta"]
    acts = [(e["action"], e["status"]) for e in run("log", "--tenant", "acme")][::-1]
    assert acts == [
        ("tenants create", 0), ("keys create", 0), ("keys revoke", 1), ("tenants disable", 1),
        ("keys revoke", 0), ("tenants disable", 0), ("tenants enable", 0), ("tenants quota", 0),
    ]  # fmt: skip
    assert {e["actor"] for e in run("log")} == {"command line"}
    assert run("log")[-1]["action"] == "migrate"


def test_the_script_is_the_module(environment):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["palimpsest-admin"].partition(":")
    assert getattr(importlib.import_module(module), function) is admin.main


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["tenants", "create", "a\x1b[31m"], 2),
        (["tenants", "create", "Upper"], 2),
        (["tenants", "create", "other"], 2),
        (["tenants", "disable", "no\x1bbody"], 1),
        (["keys", "create", "--tenant", "\x1b[2J"], 1),
        (["keys", "revoke", "\x1b[2J"], 1),
        (["keys", "revoke", "key_" + "0" * 20], 1),
    ],
)
def test_what_is_wrong_is_refused_and_not_repeated(environment, capsys, arguments, status):
    admin.main(["migrate"])
    capsys.readouterr()
    assert admin.main(arguments) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert arguments[-1] not in said.err
    assert "\x1b" not in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["keys"],
        ["keys", "create"],
        ["keys", "create", "--tenant", "a", "--scope", "root"],
        ["keys", "create", "--tenant", "a", "--expires", "1y"],
        ["tenants", "create", "a", "--max-queued-jobs", "-1"],
        ["log", "--limit", "0"],
    ],
)
def test_wrong_use(arguments):
    with pytest.raises(SystemExit) as ended:
        admin.main(arguments)
    assert ended.value.code == 2


def test_a_tenant_is_erased_when_no_gateway_remembers_its_keys(environment, capsys, monkeypatch):
    admin.main(["migrate"])
    admin.main(["tenants", "create", "acme"])
    capsys.readouterr()
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        (listed,) = tenants.list_tenants(db)[0]
        assert listed.disabled_at is not None

    db = Database(f"sqlite:///{environment}/p.db")
    monkeypatch.setenv("PALIMPSEST_TOKEN", "t" * 40)
    monkeypatch.setattr("services.admin.tenants.time.sleep", wait)
    assert admin.main(["tenants", "delete", "acme", "--yes"]) == 0
    assert len(waited) == 1
    assert waited[0] > CACHE_S
    assert tenants.list_tenants(db)[0] == []
    db.close()


def test_a_backup_that_failed_is_in_the_log_as_failed(environment, capsys):
    admin.main(["migrate"])
    assert admin.main(["backup", str(environment / "no folder" / "copy.db")]) == 1
    db = Database(f"sqlite:///{environment}/p.db")
    backup, *_ = access_log.list_entries(db).items
    assert (backup.action, backup.status) == ("backup", 1)
    db.close()


def test_an_act_that_is_interrupted_is_in_it_too(environment, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    admin.main(["migrate"])
    monkeypatch.setattr(Database, "copy_to", interrupt)
    with pytest.raises(KeyboardInterrupt):
        admin.main(["backup", str(environment / "copy.db")])
    db = Database(f"sqlite:///{environment}/p.db")
    assert access_log.list_entries(db).items[0].status == 1
    db.close()
