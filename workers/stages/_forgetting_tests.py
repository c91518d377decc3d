"""The tests of forgetting beside the way to retraining, each on all models that are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import JobFailed
from shared.ml.context import Context, SeededSubContext, SubContext
from shared.ml.forgetting.klom import compute_margins, leave_one_out
from shared.ml.forgetting.linear_probe import probe_accuracy
from shared.ml.forgetting.relearning import relearn
from shared.ml.forgetting.relearning_forgotten import compare_relearning, relearn_from_forgotten
from shared.ml.forgetting.three_sample import compare_three_samples
from shared.ml.forgetting.way import find_too_few_seeds
from shared.ml.records import read_json
from shared.ml.samples import Samples
from shared.ml.statistics import compute_interval
from shared.ml.training.recipe import Recipe
from shared.plugin_ref import validate_model
from shared.roles import Role
from workers.context import JobContext
from workers.stages._compared_models import ComparedModels, ComparedSamples, Outputs
from workers.stages._datasets import random_subset

JSONObject = dict[str, Any]
KINDS = ("original", "release", "retrained")
OF_SPREAD = {"three_sample", "klom", "relearning_forgotten"}  # tests that need several seeds
OF_RECIPE = {"relearning", "relearning_forgotten"}  # tests that train
PHASES = 4  # of the job's progress: outputs, linear probe, relearning on either kind of samples


def find_obstacle(
    name: str, ctx: JobContext, models: ComparedModels, samples: ComparedSamples
) -> str | None:
    """Why a test cannot be run with what is there; None if it can."""
    if name in OF_SPREAD and (reason := find_too_few_seeds(models.seeds)):
        return reason
    if name in OF_RECIPE and Role.RECIPE not in ctx.inputs:
        return "needs the training recipe, which was not brought"
    if name == "relearning" and not len(samples.retain.labels):
        return "needs retained samples, and there are none"
    if name == "linear_probe" and len(samples.test.labels) < 2:
        return "needs public test samples, which were not brought"
    return None


def expand_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels [n] or [D, n] of logits [D, n, K] or [D, S, n, K]."""
    if labels.dim() == 2 and logits.dim() == 4:
        labels = labels.unsqueeze(1)
    return labels.expand(logits.shape[:-1])


def _run_three_sample(
    ctx: JobContext, _models: ComparedModels, samples: ComparedSamples, outputs: Outputs
) -> JSONObject:
    generator = ctx.make_generator("three samples")
    original, release, retrained = (outputs["forget"][kind] for kind in KINDS)
    labels = samples.labels["forget"]
    return compare_three_samples(original, release, retrained, labels, generator)._asdict()


def _run_klom(
    _ctx: JobContext, _models: ComparedModels, samples: ComparedSamples, outputs: Outputs
) -> JSONObject:
    return {
        name: _summarise_klom(outputs[name]["release"], outputs[name]["retrained"], labels)
        for name, labels in samples.labels.items()
    }


def _summarise_klom(release: Tensor, retrained: Tensor, labels: Tensor) -> JSONObject | None:
    if not labels.numel():
        return None
    margins = compute_margins(release, expand_labels(labels, release))
    by_seed = compute_margins(retrained, expand_labels(labels, retrained)).transpose(0, 1)
    of_release, of_retrained = leave_one_out(margins.flatten(), by_seed.flatten(1))
    by_deletion = (
        kind.view(len(margins), -1).mean(1).tolist() for kind in (of_release, of_retrained)
    )
    return {
        "samples": len(of_release),
        "mean": of_release.mean().item(),
        "median": of_release.median().item(),
        "high": of_release.quantile(0.95).item(),
        "retrained_mean": of_retrained.mean().item(),
        "retrained_median": of_retrained.median().item(),
        "retrained_high": of_retrained.quantile(0.95).item(),
        "difference": _compare(*by_deletion),
    }


def _compare(release: Sequence[float], retrained: Sequence[float]) -> JSONObject:
    """The mean difference of each deletion's values, with its interval."""
    differences = [own - other for own, other in zip(release, retrained, strict=True)]
    low, high = compute_interval(differences) or (None, None)
    return {"mean": fmean(differences), "low": low, "high": high}


def _run_linear_probe(
    ctx: JobContext, models: ComparedModels, samples: ComparedSamples, _outputs: Outputs
) -> JSONObject:
    """Of each kind the mean over deletions; of the retrained models those of the first seed."""
    part, done = SubContext(ctx, 1, PHASES), 0

    def probe(load: Callable[[int], nn.Module]) -> list[float]:
        nonlocal done
        accuracies = []
        for deletion, forget in enumerate(samples.forget):
            accuracies.append(probe_accuracy(load(deletion), samples.test, forget, ctx.device))
            done += 1
            part.report_progress(done, len(KINDS) * models.deletions)
        return accuracies

    accuracies_of = {
        "original": probe(models.load_original),
        "release": probe(models.released.load_network),
        "retrained": probe(models.load_retrained),
    }
    means = {kind: fmean(accuracies) for kind, accuracies in accuracies_of.items()}
    return means | {"difference": _compare(accuracies_of["release"], accuracies_of["retrained"])}


def _run_relearning(
    ctx: JobContext, models: ComparedModels, samples: ComparedSamples, _outputs: Outputs
) -> JSONObject | None:
    """Mean curves over deletions; of the retrained models those of the first seed. None if a
    deletion retains nothing."""
    recipe, phase = _read_recipe(ctx), SubContext(ctx, 2, PHASES)
    curves: dict[str, list[list[float]]] = {"release": [], "retrained": []}
    for deletion in range(models.deletions):
        retained = samples.split.pick(samples.pick_retained(models.record, deletion))
        if not len(retained.labels):
            return None
        generator = ctx.make_generator(f"relearning {deletion}")
        retained = random_subset(retained, ctx.params.relearning_samples, generator)
        both: tuple[Callable[[int], nn.Module], ...] = (
            models.released.load_network,
            models.load_retrained,
        )
        for index, (curve, load) in enumerate(zip(curves.values(), both, strict=True)):
            part: Context = SeededSubContext(phase, deletion, models.deletions)
            curve.append(
                relearn(
                    load(deletion),
                    retained,
                    samples.forget[deletion],
                    recipe,
                    ctx.params.relearning_epochs,
                    SubContext(part, index, len(curves)),
                )
            )
    means = {
        kind: torch.tensor(curve, dtype=torch.float64).mean(0).tolist()
        for kind, curve in curves.items()
    }
    last = ([curve[-1] for curve in kind] for kind in curves.values())
    return means | {"difference": _compare(*last)}


def _read_recipe(ctx: JobContext) -> Recipe:
    return validate_model(
        Recipe,
        read_json(ctx.read_input(Role.RECIPE), Role.RECIPE),
        Role.RECIPE,
        f"inputs.{Role.RECIPE}",
    )


def _run_relearning_forgotten(
    ctx: JobContext, models: ComparedModels, samples: ComparedSamples, _outputs: Outputs
) -> JSONObject:
    """All models on the same few samples of each forget set, losses on the rest of it."""
    k = len(samples.forget[0].labels)
    if k < 2:
        return {"reason": "forget sets of one sample hold no other samples that could come back"}
    count = min(ctx.params.relearning_forgotten_samples, k // 2)
    recipe, steps = _read_recipe(ctx), ctx.params.relearning_forgotten_steps
    phase, rows = SubContext(ctx, 3, PHASES), []
    for deletion, forget in enumerate(samples.forget):
        few, rest = _split_forget_set(ctx, forget, deletion, count)
        part: Context = SeededSubContext(phase, deletion, models.deletions)
        try:
            rows.append(
                [
                    relearn_from_forgotten(
                        network, few, rest, recipe, steps,
                        SubContext(part, index, models.seeds + 2),
                    )
                    for index, network in enumerate(_load_all(models, deletion))
                ]
            )  # fmt: skip
        except JobFailed as error:
            return {"samples": count, "reason": f"deletion {deletion}: {error}"[:300]}
    curves = torch.tensor(rows, dtype=torch.float64).permute(2, 0, 1)
    kinds = (curves[..., 0], curves[..., 1], curves[..., 2:])
    test = compare_relearning(*kinds, ctx.make_generator("relearning forgotten"))
    low, high = test.after.interval or (None, None)
    return {
        "samples": count,
        "losses": {
            kind: values.flatten(1).mean(1).tolist()
            for kind, values in zip(KINDS, kinds, strict=True)
        },
        "way_before": test.before.value,
        "way": test.after.value,
        "way_low": low,
        "way_high": high,
        "p": test.p,
        "not_forgotten": test.not_forgotten,
        "reason": test.reason,
    }


def _split_forget_set(
    ctx: JobContext, forget: Samples, deletion: int, count: int
) -> tuple[Samples, Samples]:
    """`count` samples that are learned again, and at most `params.samples` others."""
    generator = ctx.make_generator(f"relearning forgotten {deletion}")
    order = torch.randperm(len(forget.labels), generator=generator)
    return forget.pick(order[:count]), forget.pick(order[count : count + ctx.params.samples])


def _load_all(models: ComparedModels, deletion: int) -> Iterator[nn.Module]:
    """The original, the release and the retrained models of one deletion."""
    yield models.load_original(deletion)
    yield models.released.load_network(deletion)
    for seed in range(models.seeds):
        yield models.load_retrained(deletion, seed)


RUN_TEST: dict[str, Callable[..., JSONObject | None]] = {
    "three_sample": _run_three_sample,
    "klom": _run_klom,
    "linear_probe": _run_linear_probe,
    "relearning": _run_relearning,
    "relearning_forgotten": _run_relearning_forgotten,
}
