"""What a command's exit status says."""

from __future__ import annotations

from deploy.docs.markdown import write_table
from services.cli.output.console import FAILED, GATE_CROSSED, INTERRUPTED, OK, USAGE_ERROR

_COMMANDS = {
    OK: "Success. Of a command that waits: what it waited for has succeeded.",
    FAILED: "A job or an audit failed or was cancelled, or the gateway could not do it.",
    USAGE_ERROR: "The command line, a file, the key or the request is wrong.",
    GATE_CROSSED: "`--fail-on`: a row of the report exceeds a threshold.",
    INTERRUPTED: "Ctrl-C. What was submitted keeps running.",
}
_PROGRAMS = {
    0: "Success, or stopped on request.",
    1: "Something failed; `doctor`: it found a problem.",
    2: "The command line or a setting is wrong.",
}


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    header = ("status", "meaning")
    commands = [(str(status), text) for status, text in _COMMANDS.items()]
    programs = [(str(status), text) for status, text in _PROGRAMS.items()]
    return {
        "exit-statuses.md": f"""# Exit statuses

## palimpsest

{write_table(header, commands)}
Thresholds are for continuous integration: `palimpsest audit FILE --fail-on 'psnr.gain>6'`.

## palimpsest-admin and the programs of a system

{write_table(header, programs)}"""
    }
