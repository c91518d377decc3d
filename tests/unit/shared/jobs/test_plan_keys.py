"""Request keys identify equal work: when they change, everything that was ever computed runs again."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.support.planned_audits import plan_audit

FORGETTING = ["ascent", "retrain", {"name": "sharded", "params": {"shards": 3}}]
DEFENSES = ["none", "veil", {"name": "mist", "params": {"density": 1}}, "private"]
ATTACKS = [
    "matching",
    {"name": "matching", "params": {"adaptive": True}},
    "counting",
    "asking",
    "suspecting",
]
GRID = {"unlearning": FORGETTING, "defenses": DEFENSES, "attacks": ATTACKS, "seeds": [0, 7]}
NOISY = {"name": "noisy", "params": {"sigma": 1}}
WIDE = {"name": "mlp", "params": {"widths": [1, 2.5]}}
OWN_SETS = {"indices": [[1, 2], [3, 4]]}
AUDITS: dict[str, tuple[dict[str, Any], int, str]] = {
    "the least": ({}, 8, "3422243187afb611"),
    "a grid": (GRID, 282, "91fcb7906bb4b94b"),
    "equal choices": (
        {
            "unlearning": ["ascent", "retrain", "ascent"],
            "attacks": ["matching"] * 2,
            "seeds": [0, 1, 0],
        },
        24,
        "19a731e253a62c22",
    ),
    "a sweep": ({"defenses": ["none", "mist"], "sweep": True}, 20, "de127a7d7bdf456a"),
    "a feature network": (
        {**GRID, "evaluate": {"feature_network": True}, "pretrain_seed": 2**31 - 1},
        283,
        "14a29416cb260a23",
    ),
    "own forget sets": ({**GRID, "forget": OWN_SETS}, 282, "748590cbbee1738e"),
    "classes": (
        {**GRID, "forget": {"forget": "class", "size": 2}, "no_cache": True},
        282,
        "dac17e74980bdd71",
    ),
    "data and model": ({**GRID, "dataset": NOISY, "model": WIDE}, 282, "6552bc9d01ddc05f"),
}


def hash_keys(change: dict[str, Any]) -> tuple[int, str]:
    """How many jobs, and a digest over their request keys in order; without the report, which is
    about one audit alone."""
    jobs = [job for job in plan_audit(change) if job.stage != "report"]
    return len(jobs), hashlib.sha256(
        "\n".join(job.request_key for job in jobs).encode()
    ).hexdigest()[:16]


@pytest.mark.parametrize("name", AUDITS)
def test_the_request_keys_are_those_of_earlier_versions(name: str) -> None:
    change, jobs, digest = AUDITS[name]
    assert hash_keys(change) == (jobs, digest)
