"""Feature recovery in more threat models: compared deletions, several update steps, inferred
labels, batches.

    OMP_NUM_THREADS=1 python -m benchmarks.threat_models --seeds 0 1 --out threats.json

As `benchmarks.leak` (MNIST-5k, ConvNet of width 16, N = 32, 8 deletions of one sample each; 4 of 2
or 4 samples), but with 300 iterations per search.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.leak import Outputs, format_row, run_timed_stage
from shared.ml.reproducibility import collect_conditions
from shared.roles import Role
from workers.local import run_stage

ONE_STEP: dict[str, Any] = {"steps": 1}  # as published
FIVE_STEPS: dict[str, Any] = {"steps": 5, "lr": 3e-3}
TEN_EPOCHS: dict[str, Any] = {
    "epochs": 10, "lr": 1e-2, "batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4,
}  # fmt: skip
# name -> (unlearning, its parameters, feature recovery's parameters)
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "fine_tune": ("fine_tune", TEN_EPOCHS, {}),
    "fine_tune, compared": ("fine_tune", TEN_EPOCHS, {"target": "filtered"}),
    "neggrad_plus": ("neggrad_plus", TEN_EPOCHS, {}),
    "neggrad_plus, compared": ("neggrad_plus", TEN_EPOCHS, {"target": "filtered"}),
    "retrain, pair": ("retrain", {}, {}),
    "retrain, pair, compared": ("retrain", {}, {"target": "filtered"}),
    "ascent, 5 steps": ("gradient_ascent", FIVE_STEPS, {}),
    "ascent, 5 steps, at 0.25": ("gradient_ascent", FIVE_STEPS, {"evaluation_point": 0.25}),
    "ascent, labels given": ("gradient_ascent", ONE_STEP, {}),
    "ascent, labels inferred": ("gradient_ascent", ONE_STEP, {"labels": "inferred"}),
    "ascent, labels optimised": ("gradient_ascent", ONE_STEP, {"labels": "optimised"}),
    "ascent, k = 2": ("gradient_ascent", {**ONE_STEP, "size": 2, "deletions": 4}, {}),
    "ascent, k = 4": ("gradient_ascent", {**ONE_STEP, "size": 4, "deletions": 4}, {}),
}


def run_seed(seed: int, params: dict[str, Any], only: list[str]) -> dict[str, Any]:
    """Every case on the models of one seed."""
    seconds: dict[str, float] = {}
    outputs = run_stage("pretrain", {}, seed=seed)
    outputs |= run_stage("train", outputs, seed=seed)
    unlearned: dict[str, Outputs] = {}
    evaluations = {}
    for name, (method, unlearning_params, attack_params) in CASES.items():
        if only and name not in only:
            continue
        key = f"{method} {unlearning_params}"
        if key not in unlearned:
            unlearned[key] = outputs | run_stage(
                "unlearn", outputs, method, seed=seed, **unlearning_params
            )
        inputs = unlearned[key]
        attacked = run_timed_stage(
            seconds,
            name,
            "attack",
            inputs,
            "feature_recovery",
            seed=seed,
            **params,
            **attack_params,
        )
        evaluations[name] = json.loads(
            run_stage("evaluate", inputs | attacked, seed=seed)[Role.EVALUATION].data
        )
        print(format_row(seed, name, evaluations[name]), flush=True)
    return {"seed": seed, "seconds": seconds, "attacks": evaluations}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--only", nargs="+", default=[], choices=list(CASES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    params = {"iterations": options.iterations}
    print(
        "seed  case                           PSNR: mean median  worst   best  gain over baseline, 95 %   rank 1"
    )
    results = [run_seed(seed, params, options.only) for seed in options.seeds]
    if options.out:
        body = {
            "conditions": collect_conditions(torch.device("cpu")),
            "params": params,
            "seeds": results,
        }
        options.out.write_text(json.dumps(body, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
