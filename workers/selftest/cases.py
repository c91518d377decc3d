"""All cases, run one after another on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from shared.ml.reproducibility import collect_conditions
from workers.selftest import (
    analytic,
    baselines,
    forgetting,
    harmless,
    matching,
    noise,
    paper,
    pooled,
    psnr,
    shuffled,
    signs,
)
from workers.selftest._case import Case

# Listed explicitly: the code digest of the stage follows these imports.
CASES: tuple[Case, ...] = (
    *psnr.CASES, *signs.CASES, *analytic.CASES, *matching.CASES, *paper.CASES,
    *shuffled.CASES, *baselines.CASES, *pooled.CASES, *noise.CASES, *harmless.CASES,
    *forgetting.CASES,
)  # fmt: skip


def run_all(report_progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Run every case and state whether all passed; on the CPU, where repeated runs are bit-equal.

    Args:
        report_progress: called after each case with the number done and the total.
    """
    threads, cases = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for case in CASES:
            cases.append(case.run())
            if report_progress:
                report_progress(len(cases), len(CASES))
        conditions = collect_conditions(torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    return {
        "passed": all(case["passed"] for case in cases),
        "cases": cases,
        "conditions": conditions,
    }
