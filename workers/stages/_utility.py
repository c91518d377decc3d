"""What the models are worth besides: accuracies on what was kept, what was forgotten, and what was never seen."""

from __future__ import annotations

from shared.errors import InvalidRequest
from shared.ml.datasets._base import Samples
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets, TrainingSet
from workers.context import JobContext


def utility(ctx: JobContext, truth: ForgetSets, test: Samples) -> dict[str, float]:
    """Accuracies of the released models, mean over deletions, next to the original's.

    Raises:
        InvalidRequest: the models and the truth differ in their number of deletions.
    """
    training = TrainingSet.read(ctx.input("TRAINING_SET"), "TRAINING_SET")
    original = read_networks(ctx.input("ORIGINAL"), "ORIGINAL")
    unlearned = read_networks(ctx.input("UNLEARNED"), "UNLEARNED", like=original.architecture)
    if unlearned.count != len(truth.indices):
        raise InvalidRequest("UNLEARNED and FORGET_SETS differ in their number of deletions", "inputs.UNLEARNED")
    split = training.train_split("TRAINING_SET")
    sums = dict.fromkeys(
        (f"{who}{what}_accuracy" for who in ("", "original_") for what in ("retain", "forget", "test")), 0.0
    )
    before = original.network()
    before_test = accuracy(before, test, ctx.device)
    for deletion, forgotten in enumerate(truth.indices):
        after = unlearned.network(deletion)
        kept = [index for index in training.indices if index not in set(forgotten)]
        for what, samples in (("retain", split.pick(kept)), ("forget", split.pick(forgotten)), ("test", test)):
            sums[f"{what}_accuracy"] += accuracy(after, samples, ctx.device)
            sums[f"original_{what}_accuracy"] += (
                before_test if what == "test" else accuracy(before, samples, ctx.device)
            )
        ctx.progress(deletion + 1, unlearned.count)
    return {name: total / unlearned.count for name, total in sums.items()} | {"test_samples": len(test.labels)}
