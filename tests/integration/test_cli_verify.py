"""`palimpsest verify` on what `palimpsest report` saved from a gateway that signs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.signing import create_key, load_key
from tests.support.cli import run_audit
from tests.support.gateway import GatewayProcess


@pytest.fixture(scope="module")
def gateway(signing_gateway: GatewayProcess) -> GatewayProcess:
    return signing_gateway


def test_a_saved_report_is_verified_without_a_gateway(run, worker, key, monkeypatch):
    audit = run_audit(run, worker, "--report", "saved").stdout.splitlines()[0]
    folder, public = Path("saved"), f"{key}.pub"
    assert {one.name for one in folder.iterdir()} == {
        "manifest.json", "report.html", "report.json",
    }  # fmt: skip
    for name in ("PALIMPSEST_URL", "PALIMPSEST_TOKEN"):
        monkeypatch.delenv(name)
    done = run("verify", "saved", "--key", public)
    assert (done.returncode, done.stderr) == (0, "")
    key_id = load_key(key).key_id
    for words in ("report.json and report.html are unchanged", audit, key_id, "made 2"):
        assert words in done.stdout
    found = json.loads(run("verify", "saved", "--key", public, "--json").stdout)
    assert (found["verified"], found["audit"], found["key_id"]) == (True, audit, key_id)
    assert found["files"].keys() == {"report.json", "report.html"}

    page = (folder / "report.html").read_bytes()
    (folder / "report.html").write_bytes(page.replace(b"read back", b"forgotten"))
    changed = run("verify", "saved", "--key", public)
    assert (changed.returncode, changed.stdout) == (1, "")
    assert changed.stderr.startswith(
        "palimpsest: not verified: report.html was changed after it was signed"
    )
    failed = run("verify", "saved", "--key", public, "--json")
    assert (failed.returncode, json.loads(failed.stdout)["verified"]) == (1, False)
    (folder / "report.html").write_bytes(page)

    create_key(Path("other"))
    other = run("verify", "saved", "--key", "other.pub")
    assert (other.returncode, "signed with another key than other.pub" in other.stderr) == (1, True)
    (folder / "manifest.json").unlink()
    unsigned = run("verify", "saved", "--key", public)
    assert (unsigned.returncode, "there is no manifest.json" in unsigned.stderr) == (1, True)


def test_without_a_key_there_is_no_verdict(run):
    assert run("verify", ".").returncode == 2
    missing = run("verify", ".", "--key", "none.pub")
    assert (missing.returncode, "there is no none.pub" in missing.stderr) == (1, True)
