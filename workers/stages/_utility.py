"""Utility of the released models: accuracy on retained, forgotten and test samples."""

from __future__ import annotations

from statistics import fmean

from shared.errors import InvalidRequest
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets, TrainingSet
from shared.ml.samples import Samples
from shared.roles import Role
from workers.context import JobContext

SETS = ("retain", "forget", "test")


def measure_utility(ctx: JobContext, truth: ForgetSets, test: Samples) -> dict[str, float | None]:
    """Accuracies of the released models and of the models they started from, averaged over
    deletions.

    Successive deletions retain only what none before them forgot. A retain accuracy is None if
    nothing is retained.

    Raises:
        InvalidRequest: the models and the truth differ in their number of deletions.
    """
    training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
    original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
    unlearned = read_networks(
        ctx.read_input(Role.UNLEARNED), Role.UNLEARNED, like=original.architecture
    )
    deletions, successive = unlearned.count, original.count > 1
    if deletions != len(truth.indices) or original.count not in (1, deletions):
        raise InvalidRequest(
            "the models and FORGET_SETS differ in their number of deletions",
            f"inputs.{Role.UNLEARNED}",
        )
    split, all_forgotten = training.load_train_split(Role.TRAINING_SET), set[int]()
    accuracies: dict[str, list[float]] = {
        f"{who}{what}_accuracy": [] for who in ("", "original_") for what in SETS
    }
    for deletion, forgotten in enumerate(truth.indices):
        all_forgotten = (all_forgotten if successive else set()) | {*forgotten}
        kept = split.pick([index for index in training.indices if index not in all_forgotten])
        start_model, released_model = (
            original.load_network(deletion if successive else 0),
            unlearned.load_network(deletion),
        )
        for what, samples in zip(SETS, (kept, split.pick(forgotten), test), strict=True):
            if not len(samples.labels):
                continue
            accuracies[f"{what}_accuracy"].append(accuracy(released_model, samples, ctx.device))
            start_accuracies = accuracies[f"original_{what}_accuracy"]
            is_known = start_accuracies and what == "test" and not successive
            start_accuracies.append(
                start_accuracies[-1] if is_known else accuracy(start_model, samples, ctx.device)
            )
        ctx.report_progress(deletion + 1, deletions)
    return {name: fmean(v) if v else None for name, v in accuracies.items()} | {
        "test_samples": len(test.labels) or None
    }


def measure_test_accuracies(ctx: JobContext, test: Samples) -> dict[str, float | int | None]:
    """As `measure_utility`, where the deleted samples are not known: on public samples alone.

    Raises:
        InvalidRequest: the models do not fit each other.
    """
    original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
    unlearned = read_networks(
        ctx.read_input(Role.UNLEARNED), Role.UNLEARNED, like=original.architecture
    )
    accuracies = {
        f"{prefix}test_accuracy": fmean(
            accuracy(networks.load_network(which), test, ctx.device)
            for which in range(networks.count)
        )
        for prefix, networks in (("", unlearned), ("original_", original))
    }
    unknown = [
        f"{who}{what}_accuracy" for who in ("", "original_") for what in ("retain", "forget")
    ]
    return {**dict.fromkeys(unknown), **accuracies, "test_samples": len(test.labels)}
