"""Are the p-values of label attacks calibrated? Wrong claims among all deletions, compared with
alpha.

    OMP_NUM_THREADS=1 python -m benchmarks.p_values --seeds 0 1 2 3 --out claims.json

MNIST-5k, ConvNet of width 8, 2 epochs of pretraining, N = 64, 32 deletions of one sample each and B
= 199 shadow deletions per seed. All seeds share the base model; each has its own training set and
shadows. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from shared.ml.pvalues import compute_claim_p
from shared.ml.reproducibility import collect_conditions
from shared.ml.statistics import wilson
from shared.roles import Role
from workers.context import StageOutput
from workers.local import run_stage

Outputs = dict[str, StageOutput]
ALPHA = 0.05
UNLEARNING: dict[str, dict[str, Any]] = {
    "gradient_ascent": {"steps": 1},  # as published
    "retrain": {},
}
BLACK_BOX = "label_inference_black_box"
# name -> (unlearning, attack, attack's parameters)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ascent, white box": ("gradient_ascent", "label_inference", {}),
    "ascent, black box": ("gradient_ascent", BLACK_BOX, {}),
    "retrain, white box": ("retrain", "label_inference", {}),
    "retrain, white box, from base": ("retrain", "label_inference", {"gradient_from": "base"}),
    "retrain, black box": ("retrain", BLACK_BOX, {}),
    "retrain, black box, float64": ("retrain", BLACK_BOX, {"precision": "float64"}),
}


def parse_output(output: StageOutput) -> Any:
    return json.loads(output.data)


def run_seed(
    seed: int, base: Outputs, size: int, forget: dict[str, Any], only: list[str]
) -> dict[str, Any]:
    """For each case the inferred labels, the p-values of the claims and the truth."""
    outputs = base | run_stage(
        "train", base, seed=seed, size=size, balanced=forget.get("forget") == "class"
    )
    outputs |= run_stage("probe", outputs, seed=seed)
    results = {}
    for name, (unlearning, attack, params) in CASES.items():
        if only and name not in only:
            continue
        inputs = outputs | run_stage(
            "unlearn", outputs, unlearning, seed=seed, **UNLEARNING[unlearning], **forget
        )
        inputs |= run_stage("defend", inputs, "none", seed=seed)
        inputs |= run_stage("attack", inputs, attack, seed=seed, **params)
        start = time.perf_counter()
        shadows = parse_output(run_stage("shadow", inputs, seed=seed)[Role.SHADOWS])
        seconds = round(time.perf_counter() - start, 1)
        answers = parse_output(inputs[Role.ANSWERS])
        labels, scores, shadow_scores = (
            torch.tensor(of[key])
            for of, key in ((answers, "labels"), (answers, "scores"), (shadows, "scores"))
        )
        p = compute_claim_p(labels, scores, shadow_scores, torch.tensor(shadows["labels"]))
        truth = [row[: labels.shape[1]] for row in parse_output(inputs[Role.LABELS])["labels"]]
        results[name] = {
            "labels": labels.tolist(), "truth": truth, "p": p.tolist(), "seconds": seconds,
            "trainings": shadows["trainings"], "scores": answers["scores"], "shadows": shadows,
        }  # fmt: skip
    return results


def format_table(seeds: dict[int, dict[str, Any]]) -> str:
    lines = [
        "case                            n  right  answered  right of them  wrong of all [95 %]"
    ]
    for name in next(iter(seeds.values())):
        rows = [
            (label[0] == truth[0], p[0] <= ALPHA)
            for found in seeds.values()
            for label, truth, p in zip(
                *(found[name][key] for key in ("labels", "truth", "p")), strict=True
            )
        ]
        n, answered = len(rows), sum(claimed for _, claimed in rows)
        sure = sum(right and claimed for right, claimed in rows)
        low, high = wilson(answered - sure, n) or (0, 1)
        lines.append(
            f"{name:<30}{n:>4} {sum(right for right, _ in rows):>5} {answered:>9} {sure:>14}"
            f"  {(answered - sure) / n:.3f} [{low:.3f}, {high:.3f}]"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--size", type=int, default=64, help="N")
    parser.add_argument("--deletions", type=int, default=32)
    parser.add_argument("--fraction", type=float, help="forget this share of a class per deletion")
    parser.add_argument("--only", nargs="*", default=[], choices=list(CASES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    forget: dict[str, Any] = {"deletions": options.deletions}
    if options.fraction:
        forget |= {"forget": "class", "fraction": options.fraction}
    model = {"name": "convnet", "params": {"width": 8}}
    base = run_stage("pretrain", {}, model=model, epochs=2)
    print(f"pretrained: {parse_output(base[Role.METRICS])['test_accuracy']:.3f}", flush=True)
    seeds = {}
    for seed in options.seeds:
        seeds[seed] = run_seed(seed, base, options.size, forget, options.only)
        print(f"seed {seed}: {[found['seconds'] for found in seeds[seed].values()]} s", flush=True)
    print(format_table(seeds))
    if options.out:
        body = {
            "alpha": ALPHA,
            "size": options.size,
            "forget": forget,
            "seeds": seeds,
            **collect_conditions(torch.device("cpu")),
        }
        options.out.write_text(json.dumps(body))


if __name__ == "__main__":
    main()
