"""Sets of plugins that jobs need, each stored once: a claim asks of a set, not of every job,
whether it can run it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from shared.jobs.mapping import to_json


def to_canonical_json(plugins: Iterable[str]) -> str:
    """The set as it is stored: a JSON array of `kind:name`, sorted."""
    return to_json(sorted(set(plugins)))


def compute_digest(stage: str, plugins: Iterable[str]) -> str:
    """The key under which the set of a stage is stored: sha256 in hex."""
    return hashlib.sha256(f"{stage}\n{to_canonical_json(plugins)}".encode()).hexdigest()
