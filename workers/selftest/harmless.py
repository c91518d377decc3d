"""Updates that forget nothing get uniform p-values."""

from __future__ import annotations

import torch

from shared.ml import unlearning
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks.api import score_classes
from shared.ml.context import LocalContext, SeededSubContext, make_generator
from shared.ml.networks import clone
from shared.ml.pvalues import compute_max_statistic_p
from shared.ml.unlearning.api import UnlearningInputs
from workers.selftest._case import Case
from workers.selftest._world import draw_samples, make_architecture, pretrain, stack

UPDATES, NULL_UPDATES, KEPT = 200, 299, 8


def _count_small_p_values() -> float:
    """Count p-values below 0.05 of 200 fine-tunings on random retained samples, against 299 more of
    them."""
    architecture, data = make_architecture("mlp", hidden=8), draw_samples("training set", 32)
    original, plugin, ctx = (
        pretrain(architecture),
        unlearning.registry.get("fine_tune"),
        LocalContext(),
    )
    settings = {"epochs": 1, "lr": 1e-2, "batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4}
    params, after = plugin.params.model_validate(settings), []
    for i in range(UPDATES + NULL_UPDATES):
        picked = torch.randperm(len(data.labels), generator=make_generator(i, "kept"))[:KEPT]
        inputs, part = (
            UnlearningInputs(clone(original)),
            SeededSubContext(ctx, i, UPDATES + NULL_UPDATES),
        )
        after.append(plugin.target(inputs, data.pick(picked), data.pick([0]), params, part))
    scores = score_classes(
        WhiteBoxView(stack(architecture, [original]), stack(architecture, after)), "pair"
    )
    return float((compute_max_statistic_p(scores[:UPDATES], scores[UPDATES:]) < 0.05).sum())


CASES = (
    Case(
        "harmless_updates",
        f"of {UPDATES} updates that forget nothing, about one in twenty has a p-value below 0.05",
        _count_small_p_values,
        low=1,
        high=21,
        unit="p-values",
    ),
)
