"""Feature recovery in more threat models: who compares deletions, updates of several steps, labels sought, batches.

    OMP_NUM_THREADS=1 python -m benchmarks.threats --seeds 0 1 --out threats.json

As `benchmarks.leak` (MNIST-5k, ConvNet of width 16, N = 32, 8 deletions of one sample each; 4 of 2 or 4
samples), but with 300 iterations a search.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.leak import Outputs, row, timed
from shared.ml.reproducibility import conditions
from shared.roles import Role
from workers.local import run_stage

STEPS = {"steps": 5, "lr": 3e-3}
# name -> (unlearning, its parameters, feature recovery's parameters)
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "fine_tune": ("fine_tune", {}, {}),
    "fine_tune, compared": ("fine_tune", {}, {"target": "filtered"}),
    "neggrad_plus": ("neggrad_plus", {}, {}),
    "neggrad_plus, compared": ("neggrad_plus", {}, {"target": "filtered"}),
    "retrain, pair": ("retrain", {}, {}),
    "retrain, pair, compared": ("retrain", {}, {"target": "filtered"}),
    "ascent, 5 steps": ("gradient_ascent", STEPS, {}),
    "ascent, 5 steps, at 0.25": ("gradient_ascent", STEPS, {"gradient_at": 0.25}),
    "ascent, labels given": ("gradient_ascent", {}, {}),
    "ascent, labels inferred": ("gradient_ascent", {}, {"labels": "inferred"}),
    "ascent, labels optimised": ("gradient_ascent", {}, {"labels": "optimised"}),
    "ascent, k = 2": ("gradient_ascent", {"size": 2, "deletions": 4}, {}),
    "ascent, k = 4": ("gradient_ascent", {"size": 4, "deletions": 4}, {}),
}


def one_seed(seed: int, params: dict[str, Any], only: list[str]) -> dict[str, Any]:
    """Every case on the models of one seed."""
    seconds: dict[str, float] = {}
    made = run_stage("pretrain", {}, seed=seed)
    made |= run_stage("train", made, seed=seed)
    unlearned: dict[str, Outputs] = {}
    told = {}
    for name, (method, how, own) in CASES.items():
        if only and name not in only:
            continue
        key = f"{method} {how}"
        if key not in unlearned:
            unlearned[key] = made | run_stage("unlearn", made, method, seed=seed, **how)
        known = unlearned[key]
        found = timed(seconds, name, "attack", known, "feature_recovery", seed=seed, **params, **own)
        told[name] = json.loads(run_stage("evaluate", known | found, seed=seed)[Role.EVALUATION].data)
        print(row(seed, name, told[name]), flush=True)
    return {"seed": seed, "seconds": seconds, "attacks": told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--only", nargs="+", default=[], choices=list(CASES))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    params = {"iterations": asked.iterations}
    print("seed  case                           PSNR: mean median  worst   best  gain over the null, 95 %    rank 1")
    results = [one_seed(seed, params, asked.only) for seed in asked.seeds]
    if asked.out:
        body = {"conditions": conditions(torch.device("cpu")), "params": params, "seeds": results}
        asked.out.write_text(json.dumps(body, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
