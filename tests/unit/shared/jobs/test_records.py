"""An audit's state in a word."""

from __future__ import annotations

import dataclasses

import pytest

from shared.jobs.records import Audit


@pytest.mark.parametrize(
    ("counts", "word"),
    [
        ({}, "succeeded"),
        ({"queued": 1, "waiting": 4, "paused": 1}, "queued"),
        ({"running": 1, "waiting": 4}, "running"),
        ({"succeeded": 1, "queued": 1}, "running"),
        ({"failed": 1, "queued": 1}, "running"),
        ({"succeeded": 5}, "succeeded"),
        ({"succeeded": 4, "failed": 1}, "failed"),
        ({"succeeded": 4, "cancelled": 1}, "failed"),
    ],
)
def test_an_audits_state_follows_from_its_jobs(counts: dict[str, int], word: str) -> None:
    audit = Audit("aud_1", "alice", "audit", {}, 1.0, None, counts)
    assert audit.state == word
    assert dataclasses.replace(audit, cancelled_at=2.0).state == "cancelled"
