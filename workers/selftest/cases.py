"""All cases, run one after another on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from shared.ml.reproducibility import collect_conditions
from workers.selftest import (
    analytic,
    baselines,
    harmless,
    matching,
    noise,
    paper,
    psnr,
    shuffled,
    signs,
)
from workers.selftest._case import Case

# Named one by one: the code digest of whoever runs them follows these imports.
CASES: tuple[Case, ...] = (
    *psnr.CASES, *signs.CASES, *analytic.CASES, *matching.CASES, *paper.CASES, *shuffled.CASES, *baselines.CASES,
    *noise.CASES, *harmless.CASES,
)  # fmt: skip


def run_all(told: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """What every case measured, and whether all have passed; on the CPU, bit-equal when run again
    there.

    Args:
        told: is called after each case with how many are done, of how many.
    """
    threads, cases = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for case in CASES:
            cases.append(case.run())
            if told:
                told(len(cases), len(CASES))
        where = collect_conditions(torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    return {"passed": all(case["passed"] for case in cases), "cases": cases, "conditions": where}
