"""How much does unlearning leak? All stages, with baselines, for some seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.leak --seeds 0 1 2 --out leak.json

MNIST-5k and the ConvNet of width 16, by default; 2 epochs of pretraining, N = 32, 8
deletions of one sample each: the first of a seeded permutation, never chosen by loss. Prints a
table, writes JSON, and pictures with --pictures FOLDER.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import save_image

from shared.ml.records import ForgetSets
from shared.ml.reproducibility import collect_conditions
from shared.ml.tensors import read_tensors
from shared.roles import Role
from workers.context import StageOutput
from workers.local import run_stage

Outputs = dict[str, StageOutput]
# name -> (unlearning, attack, attack's parameters)
ATTACKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "approximate": ("gradient_ascent", "feature_recovery", {}),
    "exact, from the pair": ("retrain", "feature_recovery", {}),
    "exact, with base and counts": ("retrain", "feature_recovery", {"gradient_from": "base"}),
    "labels, approximate": ("gradient_ascent", "label_inference", {}),
    "labels, exact, from the pair": ("retrain", "label_inference", {}),
}


UNLEARNING: dict[str, dict[str, Any]] = {
    "gradient_ascent": {"steps": 1},  # as published
    "retrain": {},
}


def run_timed_stage(seconds: dict[str, float], name: str, *args: Any, **params: Any) -> Outputs:
    start = time.perf_counter()
    outputs = run_stage(*args, **params)
    seconds[name] = round(time.perf_counter() - start, 1)
    return outputs


def run_seed(
    seed: int, setup: dict[str, str], params: dict[str, Any], only: list[str], pictures: Path | None
) -> dict[str, Any]:
    """Every attack on the models of one seed."""
    seconds: dict[str, float] = {}
    outputs = run_timed_stage(seconds, "pretrain", "pretrain", {}, seed=seed, **setup)
    accuracy = json.loads(outputs[Role.METRICS].data)["test_accuracy"]
    outputs |= run_timed_stage(
        seconds, "train", "train", outputs, seed=seed, dataset=setup["dataset"]
    )
    unlearned = {
        m: run_timed_stage(seconds, m, "unlearn", outputs, m, seed=seed, **settings)
        for m, settings in UNLEARNING.items()
    }
    attacks = {}
    for name, (unlearning, attack, attack_params) in ATTACKS.items():
        if only and name not in only:
            continue
        inputs = outputs | unlearned[unlearning]
        search = params if attack == "feature_recovery" else {}
        attacked = run_timed_stage(
            seconds, name, "attack", inputs, attack, seed=seed, **search, **attack_params
        )
        evaluated = run_timed_stage(
            seconds, f"{name}: evaluate", "evaluate", inputs | attacked, seed=seed
        )
        attacks[name] = json.loads(evaluated[Role.EVALUATION].data)
        if pictures and Role.RECONSTRUCTION in attacked:
            save_pictures(
                pictures / f"{name.replace(',', '').replace(' ', '_')}_{seed}.png", inputs, attacked
            )
    return {
        "seed": seed,
        "pretrain_test_accuracy": accuracy,
        "seconds": seconds,
        "attacks": attacks,
    }


def save_pictures(path: Path, inputs: Outputs, attacked: Outputs) -> None:
    """Save the true images above their reconstructions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = ForgetSets.read(inputs[Role.FORGET_SETS].data, Role.FORGET_SETS).load_images()
    images = read_tensors(attacked[Role.RECONSTRUCTION].data, Role.RECONSTRUCTION)[0][
        "images"
    ].clamp(0, 1)
    save_image(torch.cat([truth.flatten(0, 1), images.flatten(0, 1)]), path, nrow=len(truth))


def format_row(seed: int, name: str, evaluation: dict[str, Any]) -> str:
    label = evaluation["metrics"].get("label_accuracy")
    if label:
        hits = round(sum(label["values"]))
        return (
            f"{seed:>4}  {name:<30} {hits} of {label['n']} labels; "
            f"{label['baseline_name']} {label['baseline']:.2f}"
        )
    psnr, ranks = evaluation["metrics"]["psnr"], evaluation["identification"]
    return (
        f"{seed:>4}  {name:<30} {psnr['mean']:6.1f} {psnr['median']:6.1f} {psnr['worst']:6.1f} {psnr['best']:6.1f}"
        f"  {psnr['gain']['mean']:+5.1f} [{psnr['gain']['low']:+.1f}, {psnr['gain']['high']:+.1f}]"
        f" {psnr['baseline_name']}"
        f"  {ranks['rank_1']} of {ranks['n']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--dataset", default="mnist_5k")
    parser.add_argument("--model", default="convnet")
    parser.add_argument(
        "--controls",
        type=int,
        help="deletions that are also searched for with a random direction as target",
    )
    parser.add_argument("--preset", default="default")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--only", nargs="+", default=[], choices=list(ATTACKS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    search_params = {
        "preset": options.preset,
        "iterations": options.iterations,
        "restarts": options.restarts,
        "controls": options.controls,
    }
    setup = {"dataset": options.dataset, "model": options.model}
    params = {name: value for name, value in search_params.items() if value is not None}
    print(
        "seed  attack                         PSNR: mean median  worst   best  gain over baseline, 95 %   rank 1"
    )
    results = []
    for seed in options.seeds:
        result = run_seed(seed, setup, params, options.only, options.pictures)
        results.append(result)
        for name, evaluation in result["attacks"].items():
            print(format_row(seed, name, evaluation), flush=True)
        print(
            f"{seed:>4}  base model: test accuracy {result['pretrain_test_accuracy']:.3f}; seconds {result['seconds']}",
            flush=True,
        )
        if options.out:
            body = {
                "conditions": collect_conditions(torch.device("cpu")),
                "about": setup,
                "params": params,
                "seeds": results,
            }
            options.out.write_text(json.dumps(body, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
