"""What the models are worth besides: accuracies on what was kept, what was forgotten, and what was never seen."""

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


def utility(ctx: JobContext, truth: ForgetSets, test: Samples) -> dict[str, float | None]:
    """Accuracies of the released models, mean over deletions, next to those of the model that each started from.

    Successive deletions keep only what none before them forgot. A retain accuracy is None where nothing is left.

    Raises:
        InvalidRequest: the models and the truth differ in their number of deletions.
    """
    training = TrainingSet.read(ctx.input(Role.TRAINING_SET), Role.TRAINING_SET)
    original = read_networks(ctx.input(Role.ORIGINAL), Role.ORIGINAL)
    unlearned = read_networks(ctx.input(Role.UNLEARNED), Role.UNLEARNED, like=original.architecture)
    deletions, successive = unlearned.count, original.count > 1
    if deletions != len(truth.indices) or original.count not in (1, deletions):
        raise InvalidRequest(
            "the models and FORGET_SETS differ in their number of deletions", f"inputs.{Role.UNLEARNED}"
        )
    split, gone = training.train_split(Role.TRAINING_SET), set[int]()
    known: dict[str, list[float]] = {f"{who}{what}_accuracy": [] for who in ("", "original_") for what in SETS}
    for deletion, forgotten in enumerate(truth.indices):
        gone = (gone if successive else set()) | {*forgotten}
        kept = split.pick([index for index in training.indices if index not in gone])
        started, after = original.network(deletion if successive else 0), unlearned.network(deletion)
        for what, samples in zip(SETS, (kept, split.pick(forgotten), test), strict=True):
            if not len(samples.labels):
                continue
            known[f"{what}_accuracy"].append(accuracy(after, samples, ctx.device))
            earlier = known[f"original_{what}_accuracy"]
            again = earlier and what == "test" and not successive
            earlier.append(earlier[-1] if again else accuracy(started, samples, ctx.device))
        ctx.progress(deletion + 1, deletions)
    return {name: fmean(v) if v else None for name, v in known.items()} | {"test_samples": len(test.labels)}
