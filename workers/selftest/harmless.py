"""Updates that forget nothing look like updates that forget nothing."""

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
from workers.selftest._world import architecture, pretrained, samples, stack

UPDATES, NULL, KEPT = 200, 299, 8


def _below_a_twentieth() -> float:
    """P-values below 0.05 of 200 updates: fine-tunings on random parts of what is kept, against 299
    more of them."""
    made, data = architecture("mlp", hidden=8), samples("training set", 32)
    original, plugin, ctx = pretrained(made), unlearning.registry.get("fine_tune"), LocalContext()
    params, after = plugin.params.model_validate({"epochs": 1}), []
    for i in range(UPDATES + NULL):
        picked = torch.randperm(len(data.labels), generator=make_generator(i, "kept"))[:KEPT]
        inputs, part = UnlearningInputs(clone(original)), SeededSubContext(ctx, i, UPDATES + NULL)
        after.append(plugin.target(inputs, data.pick(picked), data.pick([0]), params, part))
    scores = score_classes(WhiteBoxView(stack(made, [original]), stack(made, after)), "pair")
    return float((compute_max_statistic_p(scores[:UPDATES], scores[UPDATES:]) < 0.05).sum())


CASES = (
    Case(
        "harmless_updates",
        f"of {UPDATES} updates that forget nothing about one in twenty has a p-value below 0.05",
        _below_a_twentieth,
        low=1,
        high=21,
        unit="p-values",
    ),
)
