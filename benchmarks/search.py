"""How good and how fast is feature recovery? The presets against the published loop.

    OMP_NUM_THREADS=1 python -m benchmarks.search --folder FOLDER [--cases cifar10 ...] [--count 16]

Each search runs in a process of its own with one thread; its CPU time, imports and compilation
included, is what is compared. `paper` runs one image at a time with one restart (the published
loop) on the first few targets, our presets run all targets as one batch; they take turns, as the
speed of a shared machine drifts. A child process is given the two sets of weights and the labels,
never the targets. Results are appended to FOLDER/results.jsonl, and what is there is not run again:
stop it and go on at will. `--summary` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.search_cases import CASES, Part, Targets, load_targets
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks import feature_recovery
from shared.ml.baselines import compute_class_means
from shared.ml.context import LocalContext, make_generator
from shared.ml.metrics import registry
from shared.ml.networks import Networks, read_networks, write_networks
from shared.ml.reproducibility import collect_conditions
from shared.ml.tensors import read_tensors

DECOYS = 100
PUBLISHED = "paper"
CURVE = (100, 250, 1000, 2000)  # iterations of the time-to-quality curve, beside those of `fast`
Result = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """One search: a child process that attacks the targets at `rows` together."""

    case: str
    part: Part
    rows: tuple[int, ...]
    params: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def key(self) -> str:
        return json.dumps([self.case, self.part, self.rows, self.params, self.seed], sort_keys=True)

    @property
    def name(self) -> str:
        """The preset, with the settings that differ from it."""
        others = {n: v for n, v in self.params.items() if n != "preset"}
        if self.params["preset"] == PUBLISHED:
            others.pop("restarts")
        return " ".join([self.params["preset"], *(f"{n}={v}" for n, v in others.items())])


def list_units(case: str, options: argparse.Namespace) -> list[Unit]:
    """The published loop in turns with everything else."""
    rows = tuple(range(options.count))
    settings: list[dict[str, Any]] = [{"preset": preset} for preset in options.presets]
    if options.curve:
        settings += [{"preset": "fast", "iterations": steps} for steps in CURVE]
    ours = [Unit(case, options.part, rows, params, options.seed) for params in settings]
    published = [
        Unit(case, options.part, (row,), {"preset": PUBLISHED, "restarts": 1}, options.seed)
        for row in range(options.paper)
    ]
    turns = chain.from_iterable(zip_longest(ours, published))
    return [unit for unit in turns if unit is not None]


def run_unit(unit: Unit, targets: Targets, folder: Path) -> Result:
    """Run the search in a child process and score what it found."""
    given = folder / f"{unit.case}.{unit.part}"
    given.mkdir(parents=True, exist_ok=True)
    _write_view(targets.view, given, list(unit.rows))
    command = [sys.executable, "-m", "benchmarks.search", "--child", str(given)]
    start, cpu_before = time.monotonic(), _children_cpu_s()
    subprocess.run([*command, json.dumps(unit.params)], check=True)
    wall_s, cpu_s = time.monotonic() - start, _children_cpu_s() - cpu_before
    tensors, metadata = read_tensors((given / "found.safetensors").read_bytes(), "RECONSTRUCTION")
    rows, n = list(unit.rows), len(unit.rows)
    found = {
        name.removeprefix("alternative."): score(images[:, 0], targets, rows)
        for name, images in tensors.items()
        if name == "images" or name.startswith("alternative.")
    }
    return {
        "case": unit.case,
        "part": unit.part,
        "seed": unit.seed,
        "rows": rows,
        "params": unit.params,
        "name": unit.name,
        "cpu_s": round(cpu_s / n, 3),
        "wall_s": round(wall_s / n, 3),
        "load_average": round(os.getloadavg()[0], 1),
        "matching_loss": _round(tensors["matching_loss"]),
        **found.pop("images"),
        "alternatives": found,
        "accuracy": round(targets.accuracy, 4),
        "conditions": metadata["threat_model"]["conditions"],
    }


def _children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _write_view(view: WhiteBoxView, folder: Path, rows: list[int]) -> None:
    assert view.labels is not None
    for name, networks in (("original", view.original), ("unlearned", view.unlearned.pick(rows))):
        loaded = [networks.load_network(i) for i in range(networks.count)]
        (folder / f"{name}.safetensors").write_bytes(write_networks(networks.architecture, loaded))
    (folder / "labels.json").write_text(json.dumps(view.labels[rows].tolist()))


def run_child(folder: Path, params: dict[str, Any]) -> None:
    """The attacker: reads weights and labels, writes images."""
    torch.set_num_threads(1)

    def read(name: str) -> Networks:
        return read_networks((folder / f"{name}.safetensors").read_bytes(), name)

    labels = torch.tensor(json.loads((folder / "labels.json").read_text()))
    view = WhiteBoxView(read("original"), read("unlearned"), labels=labels)
    ctx = LocalContext()
    found = feature_recovery.run(
        view, feature_recovery.FeatureRecoveryParams.model_validate(params), ctx
    )
    conditions = collect_conditions(ctx.device)
    (folder / "found.safetensors").write_bytes(found.write({"conditions": conditions}))


def score(images: Tensor, targets: Targets, rows: list[int]) -> dict[str, list[float]]:
    """PSNR in dB, and the rank among `DECOYS` public images of the class, of each of `rows`."""
    images, truth = images.clamp(0, 1), targets.truth.pick(rows)
    decoys = []
    for row, label in zip(rows, truth.labels.tolist(), strict=True):
        pool = (targets.public.labels == label).nonzero().flatten()
        generator = make_generator(row, "decoys")
        decoys.append(pool[torch.randperm(len(pool), generator=generator)[:DECOYS]])
    count = min(map(len, decoys))
    decoy_images = targets.public.images[torch.stack([some[:count] for some in decoys])]
    ranks = registry.get("decoy_rank").target(images, truth.images, decoy_images)
    means = compute_class_means(targets.public, truth.labels.unsqueeze(1))[:, 0]
    psnr = registry.get("psnr").target
    return {
        "psnr": _round(psnr(images, truth.images)),
        "class_mean_psnr": _round(psnr(means, truth.images)),
        "rank": ranks.tolist(),
    }


def _round(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def compute_t_interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the mean by Student's t; infinite for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return -math.inf, math.inf
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def print_summary(results: list[Result]) -> None:
    """A table per case: quality, paired difference to the published loop, ratio of times."""
    cases = dict.fromkeys((r["case"], r["part"], r.get("seed", 0)) for r in results)
    for case, part, seed in cases:
        of_case = [
            r for r in results if (r["case"], r["part"], r.get("seed", 0)) == (case, part, seed)
        ]
        published = [r for r in of_case if r["name"] == PUBLISHED]
        reference = {r["rows"][0]: r["psnr"][0] for r in published}
        identified = sum(r["rank"][0] == 1 for r in published)
        print(f"\n{case}, {part} targets, seed {seed}; test accuracy {of_case[0]['accuracy']}")
        print(
            f"{'search':34} {'n':>3} {'dB':>5} {'gain over class mean':>20} {'identified':>10}"
            f"  {'paired difference to published, 95 %':38} {'CPU s':>7} {'1 /':>6}"
        )
        if published:
            published_s = statistics.fmean(r["cpu_s"] for r in published)
            gains = [r["psnr"][0] - r["class_mean_psnr"][0] for r in published]
            print(
                f"{'published':34} {len(published):>3} {statistics.fmean(reference.values()):5.1f} "
                f"{statistics.fmean(gains):+20.1f} {identified:>4} of {len(published):<3}"
                f"  {'':38} {published_s:7.1f}"
            )
        for result in (r for r in of_case if r["name"] != PUBLISHED):
            scored = {"": result} | {f", {n}": s for n, s in result["alternatives"].items()}
            for suffix, scores in scored.items():
                pairs = {
                    row: value - reference[row]
                    for row, value in zip(result["rows"], scores["psnr"], strict=True)
                    if row in reference
                }
                difference, ratio = "", ""
                if pairs:
                    low, high = compute_t_interval(list(pairs.values()))
                    hits = sum(scores["rank"][result["rows"].index(row)] == 1 for row in pairs)
                    difference = (
                        f"{statistics.fmean(pairs.values()):+.1f} [{low:+.1f}, {high:+.1f}], "
                        f"n = {len(pairs)}, {hits} to {identified} id."
                    )
                    ratio = f"{published_s / result['cpu_s']:6.0f}"
                psnr = scores["psnr"]
                gains = [a - b for a, b in zip(psnr, scores["class_mean_psnr"], strict=True)]
                hits = sum(rank == 1 for rank in scores["rank"])
                print(
                    f"{result['name'] + suffix:34} {len(psnr):>3} {statistics.fmean(psnr):5.1f} "
                    f"{statistics.fmean(gains):+20.1f} {hits:>4} of {len(psnr):<3}"
                    f"  {difference:38} {result['cpu_s']:7.2f} {ratio:>6}"
                )


def print_pooled(results: list[Result]) -> None:
    """Of each preset, the paired differences and the ratio of times over all cases together."""
    published = {(r["case"], r["rows"][0]): r for r in results if r["name"] == PUBLISHED}
    if len({case for case, _ in published}) < 2:
        return
    print("\nall data sets together")
    for name in dict.fromkeys(r["name"] for r in results if r["name"] != PUBLISHED):
        pairs, own_s, published_s = [], 0.0, 0.0
        for result in (r for r in results if r["name"] == name):
            for row, psnr in zip(result["rows"], result["psnr"], strict=True):
                if (reference := published.get((result["case"], row))) is not None:
                    pairs.append(psnr - reference["psnr"][0])
                    own_s += result["cpu_s"]
                    published_s += reference["cpu_s"]
        low, high = compute_t_interval(pairs)
        print(
            f"{name:34} {statistics.fmean(pairs):+.2f} [{low:+.2f}, {high:+.2f}], n = {len(pairs)}, "
            f"{published_s / own_s:.1f} times as fast"
        )


def read_results(path: Path) -> list[Result]:
    """All whole lines; a torn last line is what a stopped run left."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def append_result(path: Path, result: Result) -> None:
    """Write a line, in the place of a torn last one."""
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(result).encode() + b"\n")


def _iter_pending(cases: list[str], options: argparse.Namespace) -> Iterator[Unit]:
    """Units of all cases in turns, without those that have a result."""
    done = {
        Unit(r["case"], r["part"], tuple(r["rows"]), r["params"], r.get("seed", 0)).key
        for r in read_results(options.folder / "results.jsonl")
    }
    turns = chain.from_iterable(zip_longest(*(list_units(case, options) for case in cases)))
    return (unit for unit in turns if unit is not None and unit.key not in done)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="networks and results")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["cifar10", "fashion_mnist"])
    parser.add_argument("--part", choices=["tuning", "test"], default="test")
    parser.add_argument("--count", type=int, default=16, help="targets of our presets")
    parser.add_argument("--paper", type=int, default=4, help="targets of the published loop")
    parser.add_argument("--presets", nargs="*", default=["fast", "default", "accurate"])
    parser.add_argument(
        "--seed", type=int, default=0, help="of the network and of the choice of targets"
    )
    parser.add_argument("--curve", action="store_true", help="fast at several iterations too")
    parser.add_argument("--summary", action="store_true", help="print the results, run nothing")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(Path(options.child[0]), json.loads(options.child[1]))
        return
    if options.folder is None:
        parser.error("--folder is required")
    torch.set_num_threads(1)
    path: Path = options.folder / "results.jsonl"
    if not options.summary:
        targets: dict[str, Targets] = {}
        for unit in _iter_pending(options.cases, options):
            if unit.case not in targets:
                targets[unit.case] = load_targets(
                    unit.case, options.part, options.count, options.folder, options.seed
                )
            result = run_unit(unit, targets[unit.case], options.folder)
            append_result(path, result)
            print(
                f"{unit.case} {unit.name} {list(unit.rows)}: "
                f"{statistics.fmean(result['psnr']):.1f} dB, {result['cpu_s']:.1f} CPU s per target",
                flush=True,
            )
    results = read_results(path)
    print_summary(results)
    print_pooled(results)


if __name__ == "__main__":
    main()
