"""Request keys are what equal work is found by: a change of them makes everything that was ever
computed run again."""

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
    "the least": ({}, 8, "3dcdb45d59c38db7"),
    "a grid": (GRID, 282, "ad5c9ae29a57aa93"),
    "equal choices": (
        {
            "unlearning": ["ascent", "retrain", "ascent"],
            "attacks": ["matching"] * 2,
            "seeds": [0, 1, 0],
        },
        24,
        "ed5167961bea50bb",
    ),
    "a sweep": ({"defenses": ["none", "mist"], "sweep": True}, 20, "da9707abade159ab"),
    "a judge": (
        {**GRID, "evaluate": {"feature_distance": True}, "pretrain_seed": 2**31 - 1},
        283,
        "f99165d270dbf53b",
    ),
    "own forget sets": ({**GRID, "forget": OWN_SETS}, 282, "f153ab74440bcdf5"),
    "classes": (
        {**GRID, "forget": {"forget": "class", "size": 2}, "no_cache": True},
        282,
        "27ab658eb4e1478b",
    ),
    "data and model": ({**GRID, "dataset": NOISY, "model": WIDE}, 282, "abfb696fc4185114"),
}


def digest_of_keys(change: dict[str, Any]) -> tuple[int, str]:
    """How many jobs, and a digest over their request keys in order; without the report, which is
    about one audit alone."""
    jobs = [job for job in plan_audit(change) if job.stage != "report"]
    return len(jobs), hashlib.sha256(
        "\n".join(job.request_key for job in jobs).encode()
    ).hexdigest()[:16]


@pytest.mark.parametrize("name", AUDITS)
def test_the_plan_keys_are_those_of_earlier_versions(name: str) -> None:
    change, jobs, digest = AUDITS[name]
    assert digest_of_keys(change) == (jobs, digest)
