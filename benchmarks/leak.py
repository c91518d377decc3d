"""How much does unlearning leak? The whole chain of stages, with its nulls, for some seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.leak --seeds 0 1 2 --out leak.json

MNIST-5k and the ConvNet of width 16, unless told otherwise; 2 epochs of pretraining, N = 32, 8 deletions of one sample
each: the first of a seeded permutation, never chosen by loss. Prints a table, writes JSON, and pictures with
--pictures FOLDER.
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
from shared.ml.reproducibility import conditions
from shared.ml.tensors import read_tensors
from shared.roles import Role
from workers.context import Output
from workers.local import run_stage

Outputs = dict[str, Output]
# name -> (unlearning, attack, attack's parameters)
ATTACKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "approximate": ("gradient_ascent", "feature_recovery", {}),
    "exact, from the pair": ("retrain", "feature_recovery", {}),
    "exact, with base and counts": ("retrain", "feature_recovery", {"gradient_from": "base"}),
    "labels, approximate": ("gradient_ascent", "label_inference", {}),
    "labels, exact, from the pair": ("retrain", "label_inference", {}),
}


def timed(seconds: dict[str, float], name: str, *args: Any, **params: Any) -> Outputs:
    start = time.perf_counter()
    outputs = run_stage(*args, **params)
    seconds[name] = round(time.perf_counter() - start, 1)
    return outputs


def one_seed(
    seed: int, about: dict[str, str], params: dict[str, Any], only: list[str], pictures: Path | None
) -> dict[str, Any]:
    """Every attack on the models of one seed."""
    seconds: dict[str, float] = {}
    made = timed(seconds, "pretrain", "pretrain", {}, seed=seed, **about)
    accuracy = json.loads(made[Role.METRICS].data)["test_accuracy"]
    made |= timed(seconds, "train", "train", made, seed=seed, dataset=about["dataset"])
    unlearned = {m: timed(seconds, m, "unlearn", made, m, seed=seed) for m in ("gradient_ascent", "retrain")}
    attacks = {}
    for name, (unlearning, attack, own) in ATTACKS.items():
        if only and name not in only:
            continue
        known = made | unlearned[unlearning]
        search = params if attack == "feature_recovery" else {}
        found = timed(seconds, name, "attack", known, attack, seed=seed, **search, **own)
        evaluated = timed(seconds, f"{name}: evaluate", "evaluate", known | found, seed=seed)
        attacks[name] = json.loads(evaluated[Role.EVALUATION].data)
        if pictures and Role.RECONSTRUCTION in found:
            draw(pictures / f"{name.replace(',', '').replace(' ', '_')}_{seed}.png", known, found)
    return {"seed": seed, "pretrain_test_accuracy": accuracy, "seconds": seconds, "attacks": attacks}


def draw(path: Path, known: Outputs, found: Outputs) -> None:
    """Truth above, reconstruction below."""
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = ForgetSets.read(known[Role.FORGET_SETS].data, Role.FORGET_SETS).images()
    images = read_tensors(found[Role.RECONSTRUCTION].data, Role.RECONSTRUCTION)[0]["images"].clamp(0, 1)
    save_image(torch.cat([truth.flatten(0, 1), images.flatten(0, 1)]), path, nrow=len(truth))


def row(seed: int, name: str, evaluation: dict[str, Any]) -> str:
    label = evaluation["metrics"].get("label_accuracy")
    if label:
        right = round(sum(label["values"]))
        return f"{seed:>4}  {name:<30} {right} of {label['n']} labels; {label['null_name']} {label['null']:.2f}"
    psnr, ranks = evaluation["metrics"]["psnr"], evaluation["identification"]
    return (
        f"{seed:>4}  {name:<30} {psnr['mean']:6.1f} {psnr['median']:6.1f} {psnr['worst']:6.1f} {psnr['best']:6.1f}"
        f"  {psnr['gain']['mean']:+5.1f} [{psnr['gain']['low']:+.1f}, {psnr['gain']['high']:+.1f}] {psnr['null_name']}"
        f"  {ranks['rank_1']} of {ranks['n']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--dataset", default="mnist_5k")
    parser.add_argument("--model", default="convnet")
    parser.add_argument("--controls", type=int, help="deletions that are also sought by a random direction")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--only", nargs="+", default=[], choices=list(ATTACKS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    given = {
        "preset": asked.preset,
        "iterations": asked.iterations,
        "restarts": asked.restarts,
        "controls": asked.controls,
    }
    about = {"dataset": asked.dataset, "model": asked.model}
    params = {name: value for name, value in given.items() if value is not None}
    print("seed  attack                         PSNR: mean median  worst   best  gain over the null, 95 %    rank 1")
    results = []
    for seed in asked.seeds:
        result = one_seed(seed, about, params, asked.only, asked.pictures)
        results.append(result)
        for name, evaluation in result["attacks"].items():
            print(row(seed, name, evaluation), flush=True)
        print(
            f"{seed:>4}  base model: test accuracy {result['pretrain_test_accuracy']:.3f}; seconds {result['seconds']}",
            flush=True,
        )
        if asked.out:
            body = {"conditions": conditions(torch.device("cpu")), "about": about, "params": params, "seeds": results}
            asked.out.write_text(json.dumps(body, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
