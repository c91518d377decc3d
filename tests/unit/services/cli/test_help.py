"""What `--help` prints."""

from __future__ import annotations

from importlib import metadata

import pytest
from typer.testing import CliRunner

from services.cli.main import COMMANDS, GROUPS, app

NAMES = [
    name.__name__.removesuffix("_").replace("_", "-")
    for group in COMMANDS.values()
    for name in group
]


IN_GROUPS = [
    f"{group} {command.__name__.removesuffix('_')}"
    for group, (_, _, commands) in GROUPS.items()
    for command in commands
]


@pytest.mark.parametrize("command", ["", *NAMES, *GROUPS, *IN_GROUPS])
def test_help_shows_the_flags_without_a_type_and_fits_80_columns(command):
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert "--help" in shown.output
    assert "<bool>" not in shown.output.lower()
    assert "boolean" not in shown.output.lower()
    assert max(len(line) for line in shown.output.splitlines()) <= 80


def test_the_version_is_that_of_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"palimpsest {metadata.version('palimpsest')}\n"
