"""Plan keys are what equal work is found by: a change of them makes everything that was ever computed run again."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.support.plans import planned

FORGETTING = ["ascent", "retrain", {"name": "sharded", "params": {"shards": 3}}]
DEFENSES = ["none", "veil", {"name": "mist", "params": {"density": 1}}, "private"]
ATTACKS = ["matching", {"name": "matching", "params": {"adaptive": True}}, "counting", "asking", "suspecting"]
GRID = {"unlearning": FORGETTING, "defenses": DEFENSES, "attacks": ATTACKS, "seeds": [0, 7]}
NOISY = {"name": "noisy", "params": {"sigma": 1}}
WIDE = {"name": "mlp", "params": {"widths": [1, 2.5]}}
OWN_SETS = {"indices": [[1, 2], [3, 4]]}
AUDITS: dict[str, tuple[dict[str, Any], int, str]] = {
    "the least": ({}, 9, "f93c91b1376131c6"),
    "a grid": (GRID, 283, "3937f7744c0d7bad"),
    "equal choices": (
        {"unlearning": ["ascent", "retrain", "ascent"], "attacks": ["matching"] * 2, "seeds": [0, 1, 0]},
        25,
        "735ec54f5e7574bd",
    ),
    "a sweep": ({"defenses": ["none", "mist"], "sweep": True}, 21, "ce6fc9d845cac442"),
    "a judge": ({**GRID, "evaluate": {"judge": True}, "pretrain_seed": 2**31 - 1}, 284, "1a7035f2f638910a"),
    "own forget sets": ({**GRID, "forget": OWN_SETS}, 283, "8544f936e195b35a"),
    "classes": ({**GRID, "forget": {"forget": "class", "size": 2}, "fresh": True}, 283, "844bdc93dfdad215"),
    "data and model": ({**GRID, "dataset": NOISY, "model": WIDE}, 283, "2495f411b82f000f"),
}


def digest_of_keys(change: dict[str, Any]) -> tuple[int, str]:
    """How many jobs, and a digest over their plan keys in order."""
    jobs = planned(change)
    return len(jobs), hashlib.sha256("\n".join(job.plan_key for job in jobs).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", AUDITS)
def test_the_plan_keys_are_those_of_earlier_versions(name: str) -> None:
    change, jobs, digest = AUDITS[name]
    assert digest_of_keys(change) == (jobs, digest)
