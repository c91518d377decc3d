"""Audits from YAML files."""

from __future__ import annotations

from pathlib import Path

from services.audit_text import MAX_BYTES, AuditText, AuditTextError, parse_audit_text
from services.cli.output.console import UsageError


def read_audit_file(path: Path) -> AuditText:
    """Read an audit.

    Raises:
        UsageError: it cannot be read or is not an audit; the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        return parse_audit_text(data, str(path))
    except AuditTextError as error:
        raise UsageError(str(error)) from error
