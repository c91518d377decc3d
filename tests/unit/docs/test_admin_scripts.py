"""The commands for operators in docs/keys.md and docs/signing.md, run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.admin.command_line import main
from tests.support.doc_blocks import list_blocks, split_commands
from tests.support.migrated import open_migrated

PROGRAMS = (["palimpsest-admin"], ["python", "-m", "services.admin"])
EXAMPLE_KEY = "key_0123456789abcdef0123"


def list_admin_commands(page: str) -> list[list[str]]:
    """Words after the program."""
    return [
        words[len(program) :]
        for block in list_blocks("sh")
        if block.path == page
        for words in split_commands(block.text)
        for program in PROGRAMS
        if words[: len(program)] == program
    ]


def test_the_commands_about_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_migrated(tmp_path / "palimpsest.db").close()
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/palimpsest.db")
    # tests/integration/test_database_roles.py has the PostgreSQL that roles need
    commands = [
        words for words in list_admin_commands("docs/keys.md") if words != ["database-roles"]
    ]
    assert len(commands) >= 8
    listed = ""
    for words in commands:
        if EXAMPLE_KEY in words:
            made = next(word for word in listed.split() if word.startswith("key_"))
            words = [made if word == EXAMPLE_KEY else word for word in words]
        assert main(words) == 0, words
        printed = capsys.readouterr().out
        listed = printed if words[:2] == ["keys", "list"] else listed
    assert "acme" in listed
    assert "tenants" in printed  # the log of it all


def test_the_commands_about_signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = list_admin_commands("docs/signing.md")
    assert commands
    for words in commands:
        assert main([word.replace("/etc/palimpsest/", f"{tmp_path}/") for word in words]) == 0
    assert (tmp_path / "signing-key").stat().st_mode & 0o077 == 0
