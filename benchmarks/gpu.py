"""How fast is the gradient search on a GPU, beside one CPU core? `python -m benchmarks.gpu [--seconds
S] [--output FILE]`.

Runs the product's search (`feature_recovery`, preset `default`) on random networks and random
images: its speed depends on neither. On the GPU with more and more trials at a time, up to as many
as the estimate of memory allows; on one CPU core with eight. Then one step is profiled. The page is
printed and written; without CUDA it has the CPU alone, and says so.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch.profiler import ProfilerActivity, profile

from shared.ml.attacks import _memory
from shared.ml.attacks._estimate import GradientEstimate
from shared.ml.attacks._schedules import SearchSchedule, select_schedule
from shared.ml.attacks._search import MatchingObjective, search_images
from shared.ml.attacks._target import TargetParams, build_gradient_target
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture
from shared.ml.reproducibility import collect_conditions, full_precision
from shared.plugin_ref import PluginRef
from tests.support.ascended import LABEL, ascend

OUTPUT = Path("benchmarks/results/gpu.md")
DELETIONS = 8
TRIALS = (8, 64, 512, 4096)
COLUMNS = (
    "model", "device", "trials", "at a time", "steps/s, all trials", "targets per hour",
    "beside one core", "peak memory", "estimated",
)  # fmt: skip
TOP_OPERATORS = 12
PROFILED_STEPS = 3
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "convnet, 3 x 32 x 32": ("convnet", {}, 32),
    "resnet18, 3 x 32 x 32": ("resnet18", {}, 32),
}


@dataclass(frozen=True)
class Speed:
    """`steps_per_s`: steps of one trial per second, of all trials together; a target takes
    `iterations` of them."""

    model: str
    device: str
    trials: int
    chunk_size: int
    steps_per_s: float
    iterations: int
    peak_bytes: int | None = None
    estimated_bytes: int | None = None

    def count_targets_per_hour(self) -> float:
        """Images reconstructed in an hour, with one restart each."""
        return 3600 * self.steps_per_s / self.iterations


@dataclass(frozen=True)
class Problem:
    """What is searched for: a network, and the estimates of its deletions."""

    architecture: Architecture
    estimates: list[GradientEstimate]

    @property
    def schedule(self) -> SearchSchedule:
        return select_schedule("default", self.architecture)

    def build_objective(self, ctx: LocalContext) -> MatchingObjective:
        """Of all deletions, on the context's device."""
        labels, schedule = torch.full((DELETIONS, 1), LABEL), self.schedule
        return MatchingObjective(
            self.estimates, labels, schedule.arithmetic, ctx, schedule.embedding_weight
        )

    def search(
        self, objective: MatchingObjective, trials: int, steps: int, ctx: LocalContext
    ) -> None:
        """As many steps of so many trials, which are restarts of the deletions."""
        shape = (1, *self.architecture.input_shape)
        search_images(objective, DELETIONS, self.schedule, steps, trials // DELETIONS, shape, ctx)


def build_problem(model: str, params: dict[str, Any], side: int) -> Problem:
    """Of a random network."""
    architecture = Architecture(
        model=PluginRef(name=model, params=params),
        input_shape=(3, side, side),
        num_classes=10,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    view = ascend(architecture, DELETIONS)
    generator = make_generator(0, "random directions")
    estimate = build_gradient_target(view, "pair", TargetParams(), 0, generator)
    return Problem(architecture, [estimate])


def measure(name: str, problem: Problem, device: str, trials: int, seconds: float) -> Speed:
    """Steps for about so many seconds, after two that warm up."""
    ctx = LocalContext(device=device)
    on_gpu = ctx.device.type == "cuda"
    objective = problem.build_objective(ctx)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(ctx.device)
    started_at = time.perf_counter()
    problem.search(objective, trials, 2, ctx)
    steps = max(2, int(seconds / (time.perf_counter() - started_at)))
    started_at = time.perf_counter()
    problem.search(objective, trials, steps, ctx)
    took_s = time.perf_counter() - started_at
    together = min(trials, objective.chunk_size)
    return Speed(
        name,
        describe_device(ctx.device),
        trials,
        objective.chunk_size,
        trials * steps / took_s,
        problem.schedule.iterations,
        torch.cuda.max_memory_allocated(ctx.device) if on_gpu else None,
        together * _memory.estimate_trial_bytes(problem.architecture, 1) if on_gpu else None,
    )


def measure_all(seconds: float) -> Iterator[Speed]:
    """One core, and if there is a GPU, that."""
    for name, (model, params, side) in MODELS.items():
        problem = build_problem(model, params, side)
        yield measure(name, problem, "cpu", DELETIONS, seconds)
        if torch.cuda.is_available():
            for trials in TRIALS:
                speed = measure(name, problem, "cuda", trials, seconds)
                yield speed
                if trials > speed.chunk_size:  # more trials take turns
                    break


def profile_step(device: str) -> list[tuple[str, float, int]]:
    """The operators that a step of the first model spends most time in: name, milliseconds per
    step, calls per step."""
    problem = build_problem(*next(iter(MODELS.values())))
    ctx = LocalContext(device=device)
    objective = problem.build_objective(ctx)
    trials = DELETIONS if device == "cpu" else min(512, objective.chunk_size)
    problem.search(objective, trials, 2, ctx)
    on_gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        problem.search(objective, trials, PROFILED_STEPS, ctx)
    events = [
        (
            event.key,
            (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1000,
            event.count,
        )
        for event in profiler.key_averages()
    ]
    longest = sorted(events, key=lambda event: -event[1])[:TOP_OPERATORS]
    return [(key, ms / PROFILED_STEPS, calls // PROFILED_STEPS) for key, ms, calls in longest]


def describe_device(device: torch.device) -> str:
    """ "one CPU core", or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU core"


def write_page(speeds: list[Speed], operators: list[tuple[str, float, int]], device: str) -> str:
    """The page, in Markdown."""
    conditions = collect_conditions(torch.device(device))
    lines = ["# The gradient search on a GPU", ""]
    if device == "cuda":
        properties, cudnn = torch.cuda.get_device_properties(0), cast("Any", torch.backends.cudnn)
        lines += [
            f"{properties.name}, {_format_bytes(properties.total_memory)}, compute capability "
            f"{properties.major}.{properties.minor}; torch {conditions['torch']}, CUDA "
            f"{torch.version.cuda}, cuDNN {cudnn.version()}, Python "
            f"{conditions['python']}.",
        ]
    else:
        lines += [
            "**No CUDA here: this page has one CPU core alone, and says nothing about a GPU.** "
            f"torch {conditions['torch']}, Python {conditions['python']}, "
            f"{platform.machine()}, {conditions['cpu_capability']}.",
        ]
    lines += [
        "",
        "Preset `default`, float32 without TF32. A target takes as many steps as the preset has.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    one_core = {s.model: s.steps_per_s for s in speeds if s.peak_bytes is None}
    for s in speeds:
        memory = [
            "" if size is None else _format_bytes(size)
            for size in (s.peak_bytes, s.estimated_bytes)
        ]
        cells = [
            s.model, s.device, s.trials, min(s.trials, s.chunk_size), _format_rate(s.steps_per_s),
            _format_rate(s.count_targets_per_hour()),
            f"{s.steps_per_s / one_core[s.model]:,.1f} x", *memory,
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        f"One step of {next(iter(MODELS))}, the operators that take longest by themselves, on "
        f"{describe_device(torch.device(device))}:",
        "",
        "| operator | ms per step | calls per step |",
        "|---|---|---|",
        *(f"| `{key}` | {ms:.3f} | {calls} |" for key, ms, calls in operators),
        "",
    ]
    return "\n".join(lines)


def _format_rate(per_unit: float) -> str:
    return f"{per_unit:,.0f}" if per_unit >= 10 else f"{per_unit:.2g}"


def _format_bytes(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with full_precision():
        speeds = []
        for speed in measure_all(options.seconds):
            print(
                f"# {speed.model}, {speed.device}, {speed.trials} trials: {speed.steps_per_s:.4g}/s"
            )
            speeds.append(speed)
        page = write_page(speeds, profile_step(device), device)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
